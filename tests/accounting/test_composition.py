"""Several releases of the same data: closed forms, two oracles, refusals."""

import dataclasses
import functools
import math
import warnings

import numpy as np
import pytest
from scipy import special

import accounting
from accounting import Composition, accountants
from accounting.numerics import pld, terms
from tests.support import mechanisms

_run = mechanisms.run
_A = _run(noise=4.0, prob=0.01, steps=100, num_examples=1000)
_B = _run(noise=2.0, prob=0.1, steps=20, num_examples=1000)
_C = _run(noise=9.0, prob=0.2, steps=10, sampling="deterministic")


@pytest.fixture(autouse=True)
def _large_is_fine():
  # Numbers are tested here, and small data sets need a large delta.
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", accounting.VacuousGuaranteeWarning)
    warnings.simplefilter("ignore", accounting.OrderGridWarning)
    warnings.simplefilter("ignore", accounting.LargeDeltaWarning)
    yield


def _gaussian_delta(mu, epsilon):
  """Delta of one Gaussian release: Balle and Wang 2018, Theorem 8."""
  return special.ndtr(mu / 2 - epsilon / mu) - math.exp(
      epsilon + special.log_ndtr(-mu / 2 - epsilon / mu)
  )


def _gaussians(sigmas):
  return Composition([_run(noise=s, prob=1.0, steps=1) for s in sigmas])


@pytest.mark.parametrize(
    "sigmas", [(3.0,), (1.0, 3.0), (2.0, 2.0, 5.0), (0.8, 7.0, 1.3, 20.0)]
)
def test_gaussians_compose_to_their_closed_form(sigmas):
  found = _gaussians(sigmas)
  # The squares of mu = 1 / sigma add up.
  mu = math.sqrt(sum(s**-2 for s in sigmas))
  for epsilon in (0.1, 1.0, 2.5):
    exact = _gaussian_delta(mu, epsilon)
    delta = accounting.delta(found, epsilon=epsilon)
    assert exact * (1 - 1e-9) <= delta <= exact * (1 + 2e-3)
    # Planted bug: releases of the average noise.
    averaged = math.sqrt(len(sigmas)) / np.mean(sigmas)
    if len(set(sigmas)) > 1:
      assert delta > 1.05 * _gaussian_delta(averaged, epsilon)
  assert accounting.privacy_profile(found).gdp_mu == pytest.approx(mu, rel=1e-3)


def test_gaussians_on_the_grid_agree_with_their_closed_form():
  # Not merged before they are put on the grid, as `terms_of` does it.
  steps = [terms.SampledGaussian(s, 1.0, False) for s in (1.0, 3.0, 2.0)]
  found = pld.compose(
      tuple((step, k) for step, k in zip(steps, (1, 4, 2), strict=True)),
      deltas=(1e-6,),
  ).epsilon(1e-6)
  exact = _gaussian_delta(math.sqrt(1 + 4 / 9 + 2 / 4), found)
  assert 1e-6 * (1 - 1e-2) <= exact <= 1e-6


def _quadrature(first, second, epsilon, *, remove):
  """Delta of two single steps, by summing over a plane of outputs."""

  def densities(run):
    x = np.linspace(-9 * run.noise_multiplier, 9 * run.noise_multiplier, 801)
    without = np.exp(-0.5 * (x / run.noise_multiplier) ** 2)
    there = np.exp(-0.5 * ((x - 1) / run.noise_multiplier) ** 2)
    q, total = run.sampling_prob, np.sum(without)
    pair = ((1 - q) * without + q * there) / total, without / total
    return pair if remove else pair[::-1]

  (p, q), (r, s) = densities(first), densities(second)
  gap = np.multiply.outer(p, r) - math.exp(epsilon) * np.multiply.outer(q, s)
  return float(np.sum(np.maximum(gap, 0.0)))


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "first, second",
    [((1.0, 0.3), (2.0, 0.8)), ((0.7, 0.05), (1.5, 0.5))],
)
def test_two_steps_match_a_sum_over_their_outputs(first, second):
  one, two = (_run(noise=s, prob=q, steps=1) for s, q in (first, second))
  loss = pld.composed(one + two, deltas=(1e-3,))
  for epsilon in (0.05, 0.3, 0.8):
    # 801 points over 18 deviations: sums of smooth functions with one kink
    # are right to (18 / 800)^2 of their size.
    for direction, remove in zip(loss.directions, (True, False), strict=True):
      exact = _quadrature(one, two, epsilon, remove=remove)
      found = direction.deltas(np.array([epsilon]))[0]
      assert found == pytest.approx(exact, rel=2e-3, abs=1e-7)
    assert accounting.delta(one + two, epsilon=epsilon) == pytest.approx(
        _quadrature(one, two, epsilon, remove=True), rel=2e-3, abs=1e-7
    )


@dataclasses.dataclass(frozen=True)
class _Reversed:
  """A step whose two directions are exchanged: adding leaks more."""

  step: terms.SampledGaussian
  max_bins = 2**22

  def steps(self, interval, *, tail):
    return self.step.steps(interval, tail=tail)[::-1]

  def span(self, tail):
    low, high = self.step.span(tail)
    return -high, -low

  def interval(self, tail):
    return self.step.interval(tail)


def test_directions_are_composed_each_by_itself():
  step = terms.SampledGaussian(0.6, 0.02, False)
  back = _Reversed(step)

  def epsilon(*kinds):
    return pld.compose(tuple((k, 5) for k in kinds), deltas=(1e-6,)).epsilon(
        1e-6
    )

  mixed = epsilon(step, back)
  # By symmetry each direction is 5 removals and 5 additions.
  forth, back_ = pld.compose(((step, 5), (back, 5)), deltas=(1e-6,)).directions
  assert forth.epsilon(1e-6) == pytest.approx(back_.epsilon(1e-6), rel=1e-3)
  # Planted bug: the worse direction of each, composed: ten removals.
  worse = pld.compose(((step, 10),), deltas=(1e-6,)).epsilon(1e-6)
  assert epsilon(step) < mixed < 0.95 * worse


def _random(seed):
  """Two to four mechanisms of different kinds, and their counts."""
  rng = np.random.default_rng(seed)
  relation = rng.choice(["add_or_remove_one", "replace_special", "replace_one"])
  found = []
  for _ in range(rng.integers(2, 5)):
    sampling = rng.choice(["poisson", "poisson", "deterministic"])
    run = _run(
        noise=float(np.exp(rng.uniform(-0.3, 2))),
        prob=float(np.exp(rng.uniform(-5, 0))) if rng.random() < 0.85 else 1.0,
        steps=int(rng.integers(1, 40)),
        sampling=str(sampling),
        neighboring_relation=str(relation),
    )
    found.append((run, int(rng.integers(1, 4))))
  return Composition(found), float(10 ** rng.uniform(-7, -2))


@functools.cache
def _oracle_step(run, pessimistic):
  import dp_accounting as dp
  from dp_accounting.pld import privacy_loss_distribution as oracle

  plain = run.sampling == "deterministic"
  step = oracle.from_gaussian_mechanism(
      run.noise_multiplier,
      pessimistic_estimate=pessimistic,
      value_discretization_interval=2e-3,
      sampling_prob=1.0 if plain else run.sampling_prob,
      # Connecting the dots has no optimistic side.
      use_connect_dots=pessimistic,
      neighboring_relation=dp.NeighboringRelation[
          run.neighboring_relation.upper()
      ],
  )
  return step, run.max_participations if plain else run.num_steps


def _oracle(composition, *, pessimistic):
  """dp-accounting's own composition: above the truth, or below."""
  total = None
  for run, count in composition.releases:
    step, steps = _oracle_step(run, pessimistic)
    step = step.self_compose(steps * count)
    total = step if total is None else total.compose(step)
  return total


def _check_against_the_oracle(seed):
  composition, delta = _random(seed)
  found = accounting.epsilon(composition, delta=delta)
  above = _oracle(composition, pessimistic=True)
  below = _oracle(composition, pessimistic=False)
  # Its truncation of tails is 1e-15 or so of a delta of 1e-7.
  assert below.get_epsilon_for_delta(delta) <= found * (1 + 1e-6) + 1e-9
  assert found <= above.get_epsilon_for_delta(delta) * (1 + 2e-3) + 1e-6
  assert accounting.delta(composition, epsilon=found) <= delta * (1 + 5e-3)
  if accountants.get("rdp").supports(composition):
    rdp = accounting.epsilon(composition, delta=delta, accountant="rdp")
    assert found <= rdp
  # The order of releases makes no difference but that of rounding.
  turned = Composition(composition.releases[::-1])
  assert accounting.epsilon(turned, delta=delta) == pytest.approx(
      found, rel=1e-6
  )


@pytest.mark.few(1)
@pytest.mark.parametrize("seed", range(2))
def test_a_few_match_the_oracles_composition(seed):
  _check_against_the_oracle(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 70))
def test_random_ones_match_the_oracles_composition(seed):
  _check_against_the_oracle(seed)


_SINGLES = [
    _A,
    _B,
    _C,
    dataclasses.replace(
        _B, batch_size_schedule=((0, 1.0), (5, 2.0), (9, 1.0), (12, 10.0))
    ),
    dataclasses.replace(_B, neighboring_relation="replace_one"),
    _run(prob=1.0, steps=7),
    _run(
        steps=1,
        num_examples=50_000,
        sampling="truncated_poisson",
        max_batch_size=4400,
    ),
    _run(
        steps=10,
        num_examples=50_000,
        neighboring_relation="replace_one",
        sampling="fixed_without_replacement",
    ),
]


@pytest.mark.few(4)
@pytest.mark.parametrize("run", _SINGLES)
@pytest.mark.parametrize("accountant", accountants.names())
def test_one_release_is_the_mechanism_to_the_digit(run, accountant):
  if not accountants.get(accountant).supports(run):
    pytest.skip("No analysis is known.")
  for fn, question in (
      (accounting.epsilon, {"delta": 1e-5}),
      (accounting.delta, {"epsilon": 1.0}),
  ):
    alone = fn(run, **question, accountant=accountant)
    composed = fn(Composition([run]), **question, accountant=accountant)
    assert composed == alone


@pytest.mark.parametrize("run", [_A, _B, _run(prob=1.0, steps=7)])
@pytest.mark.parametrize("accountant", accountants.names())
def test_three_times_is_three_times_the_steps_to_the_digit(run, accountant):
  longer = accounting.epsilon(
      run.with_num_steps(3 * run.num_steps), delta=1e-5, accountant=accountant
  )
  for threefold in (3 * run, run * 3, run + run + run, sum([run] * 3)):
    assert longer == accounting.epsilon(
        threefold, delta=1e-5, accountant=accountant
    )


def test_runs_that_differ_in_sampling_are_the_phases_of_one():
  # A run with a schedule was accounted for before there were several.
  phases = dataclasses.replace(
      _A, num_steps=150, batch_size_schedule=((0, 1.0), (100, 2.0))
  )
  second = dataclasses.replace(_A, sampling_prob=0.02, num_steps=50)
  for accountant in accountants.names():
    ask = {"delta": 1e-5, "accountant": accountant}
    assert accounting.epsilon(_A + second, **ask) == accounting.epsilon(
        phases, **ask
    )


def test_fixed_batches_are_counted_for_each_run():
  # 10 steps of a fifth: 2 batches in each run, hence 6 of them.
  six = _run(noise=9.0, prob=1.0, steps=6)
  assert accounting.epsilon(3 * _C, delta=1e-5) == accounting.epsilon(
      six, delta=1e-5
  )
  # 12 steps: 3 in each run, though 36 steps on end would be 8.
  odd = dataclasses.replace(_C, num_steps=12)
  assert accounting.epsilon(3 * odd, delta=1e-5) == accounting.epsilon(
      six.with_num_steps(9), delta=1e-5
  )


def test_orders_that_all_samplers_have_are_compared():
  # One sampler's grid of orders ends earlier than the other's.
  fixed, plain = _SINGLES[-1], _run(
      noise=30.0, prob=1.0, steps=1, neighboring_relation="replace_one"
  )
  found = accounting.epsilon(fixed + plain, delta=1e-5, accountant="rdp")
  alone = accounting.epsilon(fixed, delta=1e-5, accountant="rdp")
  assert (
      alone
      < found
      < alone + accounting.epsilon(plain, delta=1e-5, accountant="rdp")
  )


def test_without_noise_nothing_is_private():
  both = _A + _run(noise=1e-6, prob=1.0, steps=1)
  assert accounting.epsilon(both, delta=1e-5) == math.inf
  assert accounting.delta(both, epsilon=1.0) == 1.0
