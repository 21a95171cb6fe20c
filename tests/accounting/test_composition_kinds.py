"""Random compositions of all kinds of releases, between two oracles."""

import functools
import math
import warnings

import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution as oracle

import accounting
from accounting import Composition, Disjoint
from tests.support import mechanisms

_WIDTH = 1e-3


def _random_release(rng):
  kind = rng.choice(
      ["run", "fixed", "laplace", "discrete_laplace", "gaussian", "stated"]
      + ["discrete_gaussian", "public"]
  )
  noise = float(np.exp(rng.uniform(0.3, 3)))
  if kind == "run":
    prob = float(np.exp(rng.uniform(-5, -0.1)))
    return mechanisms.run(noise, prob, int(rng.integers(1, 40)))
  if kind == "fixed":
    return mechanisms.run(
        noise, 0.25, int(rng.integers(1, 10)), sampling="deterministic"
    )
  if kind == "laplace":
    return accounting.Laplace(scale=2 * noise)
  if kind == "discrete_laplace":
    moved = int(rng.integers(1, 4))
    return accounting.DiscreteLaplace(scale=4 * noise, sensitivity=moved)
  if kind == "gaussian":
    return accounting.Gaussian(stddev=noise)
  if kind == "discrete_gaussian":
    return accounting.DiscreteGaussian(stddev=noise, sensitivity=1)
  if kind == "public":
    return accounting.Public(what="a public step")
  return accounting.ApproximateDp(
      epsilon=1 / noise, delta=float(10 ** rng.uniform(-12, -8))
  )


def _random(seed):
  """Two to six releases, of which two may be of disjoint data."""
  rng = np.random.default_rng(seed)
  found = [
      (_random_release(rng), int(rng.integers(1, 4)))
      for _ in range(rng.integers(2, 6))
  ]
  if rng.random() < 0.3:
    of = {name: _random_release(rng) for name in ("north", "south")}
    found.append(Disjoint(by="hospital", of=of))
  found.append(accounting.Laplace(scale=10.0))  # Not all are public.
  return Composition(found), float(10 ** rng.uniform(-6, -3))


@functools.cache
def _oracle_of(release, pessimistic):
  """dp-accounting's distribution, above the truth or below it."""
  ask = {
      "pessimistic_estimate": pessimistic,
      "value_discretization_interval": _WIDTH,
  }
  # Connecting the dots has no optimistic side.
  dots = {"use_connect_dots": pessimistic}
  if isinstance(release, accounting.Laplace):
    return oracle.from_laplace_mechanism(release.scale, **ask, **dots)
  if isinstance(release, accounting.DiscreteLaplace):
    return oracle.from_discrete_laplace_mechanism(
        1 / release.scale, release.sensitivity, **ask, **dots
    )
  if isinstance(release, accounting.DiscreteGaussian):
    return oracle.from_discrete_gaussian_mechanism(
        release.stddev, 1, **ask, **dots
    )
  if isinstance(release, accounting.ApproximateDp):
    # Kairouz, Oh and Viswanath's worst: all with probability delta, else an
    # answer of a randomised response.
    true = math.log1p(-release.delta) - math.log1p(math.exp(-release.epsilon))
    false = true - release.epsilon
    all_ = math.log(release.delta)
    return oracle.from_two_probability_mass_functions(
        {"not": all_, "yes": false, "no": true},
        {"all": all_, "yes": true, "no": false},
        **ask,
    )
  if isinstance(release, accounting.Gaussian):
    return oracle.from_gaussian_mechanism(release.stddev, **ask, **dots)
  fixed = release.sampling == "deterministic"
  step = oracle.from_gaussian_mechanism(
      release.noise_multiplier,
      sampling_prob=1.0 if fixed else release.sampling_prob,
      **ask,
      **dots,
  )
  times = release.max_participations if fixed else release.num_steps
  return step.self_compose(times)


def _oracle(composition, pessimistic):
  total = oracle.identity(
      value_discretization_interval=_WIDTH, pessimistic_estimate=pessimistic
  )
  for each, count in composition.releases:
    if not isinstance(each, accounting.Public):
      one = _oracle_of(each, pessimistic)
      total = total.compose(one.self_compose(count))
  return total


def _check(seed):
  composition, delta = _random(seed)
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", accounting.VacuousGuaranteeWarning)
    found = accounting.epsilon(composition, delta=delta)
    by_rdp = accounting.epsilon(composition, delta=delta, accountant="rdp")
  alternatives = composition.alternatives
  above, below = (
      max(
          _oracle(each, pessimistic).get_epsilon_for_delta(delta)
          for each in alternatives
      )
      for pessimistic in (True, False)
  )
  assert below <= found * (1 + 1e-6) + 1e-9
  assert found <= above * (1 + 2e-3) + 1e-6
  assert found <= by_rdp
  assert accounting.delta(composition, epsilon=found) <= delta * (1 + 5e-3)


@pytest.mark.few(2)
@pytest.mark.parametrize("seed", [0, 1, 68])  # 68: losses at their largest.
def test_a_few_are_between_the_oracles(seed):
  _check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", sorted(set(range(2, 70)) - {68}))
def test_random_ones_are_between_the_oracles(seed):
  _check(seed)


def test_many_kinds_share_the_memory():
  """Of hundreds of kinds of steps no transform is kept, and few bins are."""
  rng = np.random.default_rng(0)
  many = Composition(
      [
          accounting.Laplace(scale=float(rng.uniform(100, 400)))
          for _ in range(60)
      ]
  )
  found = accounting.epsilon(many, delta=1e-6)
  # The deviations of the losses, of about 1 / scale, add up in squares.
  mean = sum(0.5 / m.scale**2 for m, _ in many.releases)
  assert 2 * mean < found < sum(1 / m.scale for m, _ in many.releases)
  few = accounting.numerics.pld._MANY_TERMS
  sixty = accounting.numerics.pld.compose.__wrapped__(
      accounting.numerics.terms.terms_of(many), deltas=(1e-6,)
  )
  assert len(many.releases) > few
  # On the grid that fewer kinds would have.
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(accounting.numerics.pld, "_MANY_TERMS", 100)
    exact = accounting.numerics.pld.compose.__wrapped__(
        accounting.numerics.terms.terms_of(many), deltas=(1e-6,)
    )
  assert sixty.interval >= exact.interval
  assert exact.epsilon(1e-6) * (1 - 1e-9) <= sixty.epsilon(1e-6)
  assert sixty.epsilon(1e-6) <= exact.epsilon(1e-6) * (1 + 3e-3)
