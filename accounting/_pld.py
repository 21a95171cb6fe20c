"""Privacy loss distributions, through dp-accounting: one pass, any question.

dp-accounting discretises the loss of one step (pessimistically, by Connect
the Dots) and convolves it. This file chooses the grid, keeps what was built,
and answers from cumulative sums what dp-accounting answers bin by bin. It is
the only file that reads dp-accounting's private arrays.

Invariant: every answer is an upper bound up to floating-point rounding, which
`MIN_DELTA` keeps out of sight, and a coarser grid only makes it larger.

>>> from accounting import mechanism
>>> run = mechanism.Mechanism(
...     noise_multiplier=4.0, sampling_prob=0.01, num_steps=10_000)
>>> round(composed(run).epsilon(1e-5), 4)
0.947
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from accounting import _limits
from accounting import mechanism as mechanism_lib

# Fourier transforms leave about 1e-14 of mass where none should be.
MIN_DELTA = 1e-13
# Widths of a bin, finest first; 1e-4 is dp-accounting's own.
_LADDER = tuple(10.0 ** (k / 10) for k in range(-80, 1))
_DEFAULT = 1e-4
# Building one step costs 0.7 us a bin; composing, 0.3 us and 100 bytes.
_STEP_BINS = 100_000
_MAX_STEP_BINS = 1_000_000
_MAX_TOTAL_BINS = 2**22
# From this many steps on, the length is computed before memory is taken.
_CHECKED_STEPS = 10**6
# dp-accounting drops noise beyond this many deviations: a mass of exp(-50).
_TAIL_DEVIATIONS = 9.8


class Direction(NamedTuple):
  """Distribution of the loss in one direction, removing or adding.

  Attributes:
    losses: Ascending losses, one bin apart: logarithms of likelihood ratios.
    probs: Their probabilities under the first data set.
    infinity_mass: Probability of an infinite loss.
    upper: Sums of `probs` from each bin upwards, and a zero at the end.
    lower: The same of `probs * exp(loss of the first bin - loss)`: the second
      data set's, scaled by a factor of each bin's own so as not to overflow.
  """

  losses: np.ndarray
  probs: np.ndarray
  infinity_mass: float
  upper: np.ndarray
  lower: np.ndarray

  def deltas(self, epsilons: np.ndarray) -> np.ndarray:
    """Hockey-stick divergences at any epsilons, of either sign."""
    first = np.searchsorted(self.losses, epsilons, side="right")
    # Above the last bin both sums are 0, whatever the exponent.
    nearest = self.losses[np.minimum(first, len(self.losses) - 1)]
    factor = np.exp(np.minimum(epsilons - nearest, 0.0))
    value = self.upper[first] - factor * self.lower[first]
    return np.clip(self.infinity_mass + value, 0.0, 1.0)

  def epsilon(self, delta: float) -> float:
    """The least epsilon, of at least 0, whose divergence is within delta."""
    if self.infinity_mass > delta:
      return math.inf
    if self.deltas(np.zeros(1))[0] <= delta:
      return 0.0
    # Divergence falls with epsilon: it passes delta between the last bin that
    # exceeds it and the next, and only mass from that next bin on counts.
    exceeding = np.flatnonzero(self.deltas(self.losses) > delta)
    first = int(exceeding[-1]) + 1 if exceeding.size else 0
    mass = self.infinity_mass + self.upper[first] - delta
    return max(
        0.0, float(self.losses[first]) + math.log(mass / self.lower[first])
    )


class LossDistribution(NamedTuple):
  """What a whole run can leak: the loss in each direction.

  Attributes:
    directions: Two of them, or one where both are the same.
    interval: Width of a bin of the losses.
  """

  directions: tuple[Direction, ...]
  interval: float

  def epsilon(self, delta: float) -> float:
    """The least epsilon that holds at `delta`, or infinity."""
    return max(d.epsilon(delta) for d in self.directions)

  def deltas(self, epsilons: np.ndarray) -> np.ndarray:
    """The least delta that holds at each of `epsilons`."""
    return np.max([d.deltas(epsilons) for d in self.directions], axis=0)


_UNBOUNDED = Direction(
    np.zeros(1), np.zeros(1), 1.0, upper=np.zeros(2), lower=np.zeros(2)
)
_HOPELESS = LossDistribution((_UNBOUNDED,), math.inf)


def composed(
    mechanism: mechanism_lib.Mechanism, *, coarsening: float = 1.0
) -> LossDistribution:
  """Returns the loss distribution of the whole run.

  Args:
    mechanism: The run.
    coarsening: Makes bins so many times wider, for a quick upper bound.

  Returns:
    The distribution; all its mass is at infinity where the noise is so small
    that bins would have to be wider than 1.
  """
  if _limits.hopeless(mechanism):
    return _HOPELESS
  parts = _parts(mechanism)
  return _composed(parts, _interval(parts) * coarsening)


def composed_prefixes(
    mechanism: mechanism_lib.Mechanism, *, steps: list[int]
) -> list[LossDistribution]:
  """Returns the distribution after each of some ascending numbers of steps.

  All but the last come from one step's distribution, on a grid that adds at
  most 0.02% to epsilon; the last is that of `composed`.
  """
  runs = [mechanism.with_num_steps(t) for t in steps]
  if _limits.hopeless(mechanism):
    return [composed(run) for run in runs]
  parts = _parts(runs[-1])
  if any(step.sampling_prob == 1 for step, _ in parts):
    return [composed(run) for run in runs]
  finest = min(_deviation(step) for step, _ in parts)
  interval = max(_interval(parts), finest / 20)
  interval = next((h for h in _LADDER if h >= interval), math.inf)
  before = [_composed(_parts(run), interval) for run in runs[:-1]]
  return [*before, composed(runs[-1])]


# Kinds of steps, and how often each is composed.
_Parts = tuple[tuple[mechanism_lib.Mechanism, int], ...]


def _parts(mechanism: mechanism_lib.Mechanism) -> _Parts:
  """Splits a run into kinds of steps; their order makes no difference."""
  times: dict[mechanism_lib.Mechanism, int] = {}
  for phase in mechanism.phases:
    step, count = _split(phase)
    times[step] = times.get(step, 0) + count
  return tuple(times.items())


def _split(
    mechanism: mechanism_lib.Mechanism,
) -> tuple[mechanism_lib.Mechanism, int]:
  """Splits a phase into one step and how often it is composed.

  k Gaussian releases without sampling are one with noise over sqrt(k).
  """
  mechanism = _limits.tame(mechanism)
  plain = mechanism.sampling_prob == 1 and mechanism.sampling == "poisson"
  if plain or mechanism.sampling == "deterministic":
    count = mechanism.max_participations
    step = mechanism_lib.Mechanism(
        noise_multiplier=mechanism.noise_multiplier / math.sqrt(count),
        sampling_prob=1.0,
        num_steps=1,
        neighboring_relation=mechanism.neighboring_relation,
    )
    return step, 1
  return dataclasses.replace(mechanism, num_steps=1), mechanism.num_steps


def _interval(parts: _Parts) -> float:
  """Chooses the width of a bin, from the ladder: as fine as any step needs."""
  wanted = max(
      min(_wanted(step) for step, _ in parts),
      max(2 * _max_loss(step) / _MAX_STEP_BINS for step, _ in parts),
  )
  losses = [
      Composition(_deviation(step), _max_loss(step), times)
      for step, times in parts
  ]
  return fit_interval(wanted, losses)


def _wanted(step: mechanism_lib.Mechanism) -> float:
  """Returns the width of a bin that one kind of step needs.

  A width of h adds about h**2 / 6 to the variance of a step's loss, so a
  fourteenth of its deviation adds 0.05% to epsilon. Narrower bins than that
  are chosen while they are few. More noise never widens them, and more steps
  or a higher probability never narrow them, so the choice keeps epsilon
  monotone.
  """
  q, deviation, largest = step.sampling_prob, _deviation(step), _max_loss(step)
  if q == 1:
    return deviation / 200  # Composed only once: bins can be few.
  return max(
      min(_DEFAULT, deviation / 16),
      min(2 * largest / _STEP_BINS, deviation / 14),
  )


class Composition(NamedTuple):
  """One kind of step, for `fit_interval`.

  Attributes:
    deviation: Root of the chi-square divergence of one step, or about that.
    largest: The largest loss of one step.
    times: How many are composed.
  """

  deviation: float
  largest: float
  times: int


def fit_interval(wanted: float, losses: Sequence[Composition]) -> float:
  """Returns a width on the ladder that leaves memory enough to compose.

  Args:
    wanted: The least width that would do.
    losses: All that is composed.

  Returns:
    A width, or infinity where it would have to be above 1.
  """
  # The mean is at most Renyi's divergence of order 2.
  mean = sum(x.times * math.log1p(x.deviation**2) for x in losses)
  largest = max(x.largest for x in losses)
  total = mean + 15 * math.sqrt(2 * mean) + 2 * largest
  total = min(total, sum(2 * x.times * x.largest for x in losses))
  wanted = max(wanted, 2 * total / _MAX_TOTAL_BINS)
  return next((h for h in _LADDER if h >= wanted), math.inf)


def _deviation(step: mechanism_lib.Mechanism) -> float:
  """Root of the chi-square divergence of one step, capped at exp(250)."""
  exponent = min(step.noise_multiplier**-2, 500.0)
  if step.sampling_prob == 1:
    shift = 2 if step.neighboring_relation == "replace_one" else 1
    return shift / step.noise_multiplier
  if step.neighboring_relation == "replace_one":
    return step.sampling_prob * math.sqrt(4 * math.sinh(exponent))
  return step.sampling_prob * math.sqrt(math.expm1(exponent))


def _max_loss(step: mechanism_lib.Mechanism) -> float:
  """Largest loss of one step that the discretisation keeps."""
  noise, q = step.noise_multiplier, step.sampling_prob
  shift = 2 if step.neighboring_relation == "replace_one" else 1
  if step.sampling == "truncated_poisson":
    shift = 4  # A truncated batch can replace one example by another.
  loss = shift * (0.5 * shift + _TAIL_DEVIATIONS * noise) / noise**2
  if q == 1:
    return loss
  return float(np.logaddexp(math.log1p(-q), math.log(q) + loss))


@functools.lru_cache(maxsize=32)
def _built(step: mechanism_lib.Mechanism, interval: float):
  """Discretises one step with dp-accounting."""
  import dp_accounting as dp
  from dp_accounting.pld import privacy_loss_distribution as pld

  from accounting import _discretise

  if step.sampling == "truncated_poisson":
    relation = dp.NeighboringRelation[step.neighboring_relation.upper()]
    return pld.from_truncated_subsampled_gaussian_mechanism(
        dataset_size=step.num_examples,
        sampling_probability=step.sampling_prob,
        truncated_batch_size=step.max_batch_size,
        noise_multiplier=step.noise_multiplier,
        value_discretization_interval=interval,
        neighboring_relation=relation,
    )
  return _discretise.gaussian(
      noise=step.noise_multiplier,
      sampling_prob=step.sampling_prob,
      interval=interval,
      replace=step.neighboring_relation == "replace_one",
  )


@functools.lru_cache(maxsize=4)
def _composed(parts: _Parts, interval: float) -> LossDistribution:
  if not interval <= _LADDER[-1]:
    return _HOPELESS
  total = None
  for step, times in parts:
    pld = _built(step, interval)
    if times > _CHECKED_STEPS and not _fits(pld, times):
      return _HOPELESS
    if times > 1:
      pld = pld.self_compose(times)
    total = pld if total is None else total.compose(pld)
  return read(total, interval)


def _fits(pld, times: int) -> bool:
  """Tells whether the composed distribution fits into memory.

  The width was chosen from the loss of a step, but rounding adds to its
  variance, and 10**15 steps add that up.
  """
  from dp_accounting.pld import common

  for direction in read(pld, 1.0).directions:
    low, high = common.compute_self_convolve_bounds(
        direction.probs, times, 1e-15
    )
    if high - low > 4 * _MAX_TOTAL_BINS:
      return False
  return True


def read(pld, interval: float) -> LossDistribution:
  """Reads dp-accounting's object into arrays.

  Args:
    pld: A `PrivacyLossDistribution`.
    interval: Its discretisation interval.

  Returns:
    The same distribution with its cumulative sums.
  """
  pmfs = [pld._pmf_remove]  # pylint: disable=protected-access
  if not pld._symmetric:
    pmfs.append(pld._pmf_add)
  return LossDistribution(tuple(_direction(p) for p in pmfs), interval)


def _direction(pmf) -> Direction:
  from scipy import signal

  dense = pmf.to_dense_pmf()
  # Fourier transforms leave masses just below zero: none is pessimistic.
  probs = np.maximum(dense._probs, 0.0)
  losses = (np.arange(len(probs)) + dense._lower_loss) * dense._discretization
  decay = math.exp(-dense._discretization)
  from_above = probs[::-1]
  return Direction(
      losses=losses,
      probs=probs,
      infinity_mass=float(dense._infinity_mass),
      upper=np.append(np.cumsum(from_above)[::-1], 0.0),
      # lower[i] = probs[i] + decay * lower[i + 1]
      lower=np.append(signal.lfilter([1], [1, -decay], from_above)[::-1], 0.0),
  )
