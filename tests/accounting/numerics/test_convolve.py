"""Sums of losses: against a contour integral, closed forms and planted bugs."""

import dataclasses
import math
import warnings

import numpy as np
import pytest
from scipy import special, stats

import accounting
from accounting import Mechanism
from accounting.numerics import convolve, discretise, pld
from benchmarks import contour
from tests.support import mechanisms

# noise, prob, steps, delta, epsilon as it was, and the frequencies and nodes
# that the oracle needs: the integrand is below 1e-17 of its largest beyond.
_GAUSSIAN_LIKE = {
    "plain": (4.0, 0.01, 10_000, 1e-5, 0.947, (60, 0.2, 0.2)),
    "1e8 steps": (5.0, 1e-6, 10**8, 1e-8, 0.0229, (6000, 20, 0.25)),
    "1e8 steps, jumps": (1.0, 1e-6, 10**8, 1e-8, 0.547, (2000, 4, 0.02)),
    "1e6 steps": (1.0, 1e-6, 10**6, 1e-8, 0.0561, (12_000, 40, 0.01)),
}


def _run(noise, prob, steps):
  return Mechanism(noise_multiplier=noise, sampling_prob=prob, num_steps=steps)


def _exact(noise, prob, steps, epsilon, nodes):
  top, spacing, step = nodes
  return max(
      contour.delta(
          noise=noise,
          prob=prob,
          steps=steps,
          epsilon=epsilon,
          direction=direction,
          top=top,
          spacing=spacing,
          step=step,
      )
      for direction in ("remove", "add")
  )


def _check(row):
  noise, prob, steps, delta, before, nodes = row
  epsilon = accounting.epsilon(_run(noise, prob, steps), delta=delta)
  # At our epsilon delta holds; at 1% less it does not.
  assert _exact(noise, prob, steps, epsilon, nodes) <= delta
  assert _exact(noise, prob, steps, 0.99 * epsilon, nodes) > delta
  return epsilon, before


@pytest.mark.few(1)
@pytest.mark.parametrize("name", _GAUSSIAN_LIKE)
def test_epsilon_is_that_of_the_contour_integral(name):
  epsilon, before = _check(_GAUSSIAN_LIKE[name])
  assert epsilon <= before * 1.001


def _recursed(probs: np.ndarray, times: int, size: int) -> np.ndarray:
  """The sum of `times` losses of 0, 1, 2, ... by Panjer's recursion.

  All its terms are positive where it matters, so it keeps its digits.
  """
  moved = float(np.sum(probs[1:]))
  ratio = moved / (1 - moved)
  jumps = probs[1 : size + 1] / moved
  found = np.zeros(size)
  found[0] = math.exp(times * math.log1p(-moved))
  for x in range(1, size):
    j = np.arange(1, min(x, len(jumps)) + 1)
    factor = ratio * ((times + 1) * j / x - 1)
    found[x] = (factor * jumps[j - 1]) @ found[x - j]
  return found


@pytest.mark.few(1)
@pytest.mark.parametrize("noise", [0.5, 0.6])
def test_rare_losses_are_summed_as_by_recursion(noise):
  # The same coarse grid, summed without Fourier transforms: losses of -1 bin
  # are counted apart, since the recursion wants none below 0.
  interval, times, size = 1e-2, 10**6, 400
  step = discretise.on_grid(
      discretise.sampled_gaussian(noise=noise, sampling_prob=1e-6),
      interval=interval,
      tail=1e-25,
  )
  assert step.first == -1
  below, rest = float(step.probs[0]), step.probs[1:] / (1 - step.probs[0])
  total = np.zeros(size)  # From a loss of 0 on.
  for count in range(round(2 * times * below)):
    weight = stats.binom.pmf(count, times, below)
    if weight > 1e-15:
      found = _recursed(rest, times - count, size + count)
      total += weight * found[count:]
  run = convolve.Sum(((step, times),), interval)
  for log_delta in (-9, -11):
    where = convolve.layout(run, points=[(10.0**log_delta, 0.3)])
    direction = pld._direction(convolve.distribution(run, where))
    epsilon = direction.epsilon(10.0**log_delta)
    losses = np.arange(size) * interval
    above = losses > epsilon
    exact = total[above] @ -np.expm1(epsilon - losses[above])
    assert exact <= 10.0**log_delta * (1 + 1e-9)
    assert exact >= 10.0**log_delta * 0.97


@pytest.mark.parametrize("delta", [1e-5, 1e-12, 1e-20, 1e-29])
@pytest.mark.parametrize("noise", [1.0, 20.0])
def test_gaussians_are_exact_far_into_the_tail(noise, delta):
  # 2 500 releases of noise 50 s are one of noise s: mu = 1 / s. Sampling with a
  # probability just below 1 takes the whole way through the transforms.
  epsilon = accounting.epsilon(_run(noise, 1.0, 1), delta=delta)
  mu = 1 / noise
  # Delta in logarithms: its two terms agree in up to 29 digits.
  near = special.log_ndtr(mu / 2 - epsilon / mu)
  far = epsilon + special.log_ndtr(-mu / 2 - epsilon / mu)
  exact = math.exp(near) * -math.expm1(far - near)
  assert 0.97 * delta <= exact <= delta * (1 + 1e-9)
  sampled = accounting.epsilon(_run(50 * noise, 1 - 1e-9, 2500), delta=delta)
  assert epsilon * (1 - 1e-6) <= sampled <= epsilon * 1.003


def test_rounding_is_added_not_taken_off():
  # A weak tilt leaves nothing but rounding in the tail. Planted bug: without
  # the margin, delta is wrong there, and as often too small as too large.
  step = discretise.on_grid(
      discretise.sampled_gaussian(noise=100.0, sampling_prob=0.1),
      interval=5e-4,
      tail=1e-25,
  )
  run = convolve.Sum(((step, 10**8),), 5e-4)
  where = convolve.layout(run, points=[(1e-12, 119.6)])
  exact = pld._direction(convolve.distribution(run, where))
  exact = exact.deltas(np.array([119.0]))[0]
  losses = (where.first + np.arange(where.size)) * 5e-4
  here = losses > 119.0
  wrong = []
  for tilt in (0.02, 0.04, 0.06, 0.08, 0.1):
    weak = where._replace(tilts=(tilt,))
    bound = pld._direction(convolve.distribution(run, weak))
    assert bound.deltas(np.array([119.0]))[0] >= exact * (1 - 1e-6)
    probs, _ = convolve._tilted(run, tilt, weak)
    bare = probs * np.exp(run.log_moment(tilt) - tilt * losses)
    wrong.append(bare[here] @ -np.expm1(119.0 - losses[here]) / exact - 1)
  assert max(np.abs(wrong)) > 0.01, "Rounding matters at such tilts."


@pytest.mark.parametrize("fault", [math.nan, 0.0])
def test_lost_mass_is_never_privacy(fault):
  losses = np.linspace(-1.0, 1.0, 11)
  found = convolve.Composed(losses, np.full(11, fault), 0.0)
  assert pld._direction(found).epsilon(1e-5) == math.inf


def test_a_coarse_grid_is_refined_until_it_does_not_matter():
  run = _run(1.0, 1e-6, 10**6)
  found = pld.composed(run, deltas=(1e-8,))
  assert found.excess < 0.01
  # As fine a grid as a step of 1e-4 would be many times too large.
  coarse = pld.composed(run, deltas=(1e-8,), coarsening=100.0)
  assert coarse.epsilon(1e-8) > found.epsilon(1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_never_above_rdp(seed):
  rng = np.random.default_rng(seed)
  for _ in range(2):
    run = _run(
        float(np.exp(rng.uniform(math.log(0.4), math.log(50)))),
        float(np.exp(rng.uniform(math.log(1e-7), math.log(0.3)))),
        int(np.exp(rng.uniform(0, math.log(1e5)))),
    )
    delta = float(10 ** rng.uniform(-12, -1))
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")
      tight = accounting.epsilon(run, delta=delta)
      loose = accounting.epsilon(run, delta=delta, accountant="rdp")
    assert tight <= loose


def test_a_bound_that_may_be_wide_says_so_and_names_its_accountant():
  # More steps than any grid can hold.
  run = mechanisms.run(noise=1.0, prob=1e-3, steps=10**15)
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", accounting.VacuousGuaranteeWarning)
    warnings.simplefilter("ignore", accounting.OrderGridWarning)
    with pytest.warns(accounting.WideBoundWarning, match="RDP's bound, valid"):
      value = accounting.epsilon(run, delta=1e-5)
    assert value == accounting.epsilon(run, delta=1e-5, accountant="rdp")
    statement = accounting.make_statement(run, delta=1e-5)
  assert statement.facts["accountant"] == "rdp"


def test_phases_are_composed_in_any_order():
  run = Mechanism(
      noise_multiplier=2.0,
      sampling_prob=0.01,
      num_steps=300,
      batch_size_schedule=((0, 1.0), (100, 3.0)),
  )
  later = dataclasses.replace(
      run, sampling_prob=0.03, batch_size_schedule=((0, 1.0), (200, 1 / 3))
  )
  assert accounting.epsilon(run, delta=1e-6) == pytest.approx(
      accounting.epsilon(later, delta=1e-6), rel=1e-9
  )


@pytest.mark.parametrize(
    "size, width", [(1, 0.1), (7, 1.0), (500, 0.3), (3000, 1e-4), (40, 31.0)]
)
def test_decayed_sums_are_those_of_the_recurrence(size, width):
  probs = np.random.default_rng(0).random(size) ** 8
  slow = np.append(probs, 0.0)
  for i in range(size - 1, -1, -1):
    slow[i] += math.exp(-width) * slow[i + 1]
  # Sums of positive numbers: 3,000 roundings at most, of either.
  np.testing.assert_allclose(pld._decayed(probs, width), slow[:-1], rtol=1e-11)


def test_a_chord_is_above_the_logarithm_of_moments():
  pair = discretise.sampled_gaussian(noise=0.7, sampling_prob=1e-3)
  step = discretise.on_grid(pair, interval=1e-2, tail=1e-20)
  run = convolve.Sum(((step, 300),), 1e-2)
  tilts = np.append(0.0, np.geomspace(1e-3, 40.0, 23))
  bounds = np.array([run.log_moment_bound(t) for t in tilts])
  exact = np.array([run.log_moment(t) for t in tilts])
  # What is missing to 1, of a step, is what lies beyond the grid.
  assert np.all(bounds >= exact - 1e-12)
  assert np.all(bounds[1:] <= exact[1:] + 0.05 * tilts[1:] + 0.05 * exact[1:])
