"""Guarantees by chance, with a stated confidence, where no sum is known.

Some samplers have a bound that is not tight: an example in k > 1 of t steps is
accounted for as k blocks (see `numerics/allocation.py`). Here the exact pair is
drawn many times. Invariant: the delta that is returned is an upper confidence
bound, never below the estimate; the chance that it is too low is at most 1 -
confidence, over the draws made here, and `monte_carlo_epsilon` takes that
chance off delta.

The bound is Chernoff's, of numbers in [0, B] with mean m: the mean of n of them
is B p or less with probability exp(-n KL(p || m / B)) at most.

Source: Hoeffding 1963, Theorem 1; Wang et al. 2023 (2304.07927) and Chua et al.
2024 (2412.16802) for accounting by Monte Carlo.

>>> from accounting.mechanism import Mechanism
>>> run = Mechanism(noise_multiplier=2.0, sampling_prob=0.5, num_steps=4,
...                 sampling="random_allocation",
...                 sampling_options={"num_selected": 2})
>>> found = monte_carlo_delta(run, epsilon=1.0, num_samples=10_000, seed=0)
>>> found.estimate <= found.upper
True
"""

import math
from typing import NamedTuple

import numpy as np

from accounting import _validate
from accounting.epsilons import check_delta, check_supported, evaluate
from accounting.mechanism import Mechanism
from accounting.numerics import simulation

# Epsilons that are tried, each with its share of the chance to be wrong.
_CANDIDATES = np.linspace(0.5, 1.0, 51)[:-1]
# Below this a ratio may leave the doubles.
_MIN_NOISE = 0.1


class MonteCarloDelta(NamedTuple):
  """A delta that was estimated.

  Attributes:
    estimate: Mean of the samples, of the worse direction.
    upper: Bound that holds with the confidence.
    confidence: Probability, over the samples, that `upper` holds.
    num_samples: Number of samples of each direction.
  """

  estimate: float
  upper: float
  confidence: float
  num_samples: int


def monte_carlo_delta(
    mechanism: Mechanism,
    *,
    epsilon: float,
    num_samples: int = 1_000_000,
    confidence: float = 1 - 1e-6,
    seed: int | None = None,
) -> MonteCarloDelta:
  """Estimates the delta of a run at an epsilon, and bounds it.

  Args:
    mechanism: Description of what the run releases, with the sampler
      "random_allocation" or "balls_in_bins".
    epsilon: Epsilon of the guarantee, at least 0.
    num_samples: Number of samples of each direction, at least 100.
    confidence: Probability with which the bound holds, in (0, 1).
    seed: Seed of the samples; None for the operating system's bits. Whoever
      picks the best of several seeds has no such confidence.

  Returns:
    The delta, in [0, 1].

  Raises:
    ValueError: If an argument breaks its rule, or the sampler has no exact pair
      to draw.
  """
  drawn = _drawn(mechanism)
  epsilon = _validate.real("epsilon", epsilon, low=0, low_ok=True)
  count, failure, rng = _checked(num_samples, confidence, seed)
  estimates, uppers = _bounds(
      drawn, np.array([epsilon]), epsilon, count, failure, rng
  )
  return MonteCarloDelta(
      float(estimates[0]), float(uppers[0]), 1 - failure, count
  )


def monte_carlo_epsilon(
    mechanism: Mechanism,
    *,
    delta: float,
    num_samples: int = 1_000_000,
    confidence: float = 1 - 1e-6,
    seed: int | None = None,
) -> float:
  """Returns an epsilon of a run, by chance where that is less than PLD's.

  Args:
    mechanism: Description of what the run releases; see `monte_carlo_delta`.
    delta: Delta of the guarantee, in (0, 1), above 1 - confidence.
    num_samples: Number of samples of each direction, at least 100.
    confidence: Probability with which the bounds hold. What is missing to 1 is
      taken off delta, so that the guarantee counts the chance of this too.
    seed: Seed of the samples; see `monte_carlo_delta`.

  Returns:
    An epsilon of at most `accounting.epsilon`, which is the answer where there
    are too few samples to show less.

  Raises:
    ValueError: If an argument breaks its rule; see `monte_carlo_delta`.

  Guarantee:
    With this epsilon, found by fresh samples, the run is (epsilon, delta)-
    private, the samples' chance of misleading counted within delta. All
    candidates were fixed before the samples, and share that chance.
  """
  drawn = _drawn(mechanism)
  delta = check_delta(mechanism, delta)
  count, failure, rng = _checked(num_samples, confidence, seed)
  if failure >= delta:
    rule = f"above 1 - delta ({1 - delta!r})"
    _validate.fail("confidence", rule, confidence)
  check_supported(mechanism, accountant="pld")
  proven = evaluate(mechanism, delta=delta, accountant="pld").epsilon
  if not 0 < proven < math.inf:
    return proven
  tried = proven * _CANDIDATES
  share = failure / len(tried)
  _, uppers = _bounds(drawn, tried, 0.75 * proven, count, share, rng)
  shown = np.flatnonzero(uppers + failure <= delta)
  return float(tried[shown[0]]) if shown.size else proven


def _drawn(mechanism: Mechanism) -> simulation.Allocation:
  """Returns what is drawn for a run, or refuses it."""
  found = mechanism.sampler.exact_pair(mechanism)
  if found is None or not mechanism.sampler.analyses(mechanism):
    rule = "one with an exact pair: random_allocation or balls_in_bins"
    _validate.fail("mechanism", rule, mechanism.described)
  if not _MIN_NOISE <= found.noise <= 1e6:
    rule = f"from {_MIN_NOISE} to 1e6 to be drawn (for balls_in_bins, over "
    rule += "the root of the epochs)"
    _validate.fail("noise_multiplier", rule, found.noise)
  return found


def _checked(num_samples, confidence, seed):
  count = _validate.integer("num_samples", num_samples, low=100)
  confidence = _validate.real("confidence", confidence, low=0, high=1)
  if seed is not None:
    seed = _validate.integer("seed", seed, low=0)
  # 1 - confidence rounds; no less than what is missing.
  failure = (1 - confidence) * (1 + 1e-9)
  return count, failure, np.random.default_rng(seed)


def _bounds(drawn, epsilons, typical, num_samples, failure, rng):
  """Estimates and upper bounds of delta, each bound wrong with `failure`."""
  estimates, uppers = np.zeros(len(epsilons)), np.zeros(len(epsilons))
  for draw in (drawn.removed, drawn.added):
    means, largest = draw(epsilons, typical, num_samples, rng)
    for i, (mean, most) in enumerate(zip(means, largest, strict=True)):
      # Half of the chance for each direction.
      bound = _upper(float(mean), float(most), num_samples, failure / 2)
      estimates[i] = max(estimates[i], mean)
      uppers[i] = max(uppers[i], bound)
  return np.minimum(estimates, 1.0), np.minimum(uppers, 1.0)


def _upper(mean: float, largest: float, count: int, failure: float) -> float:
  """Returns the largest mean that is not refuted: KL(p || m) = log(1/f) / n."""
  if largest == 0:
    return 0.0
  # Sums of doubles may round by as much.
  share = min(mean / largest * (1 + 1e-9), 1.0)
  allowed = math.log(1 / failure) / count
  low, high = share, 1.0
  for _ in range(200):
    middle = 0.5 * (low + high)
    if low < middle < high and _divergence(share, middle) <= allowed:
      low = middle
    else:
      high = middle
  return max(high * largest, mean)


def _divergence(p: float, m: float) -> float:
  """KL of two coins."""
  found = p * math.log(p / m) if p > 0 else 0.0
  return found + ((1 - p) * (math.log1p(-p) - math.log1p(-m)) if p < 1 else 0.0)
