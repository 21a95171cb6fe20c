"""Privacy loss distributions: one pass, any question.

A step's loss is put on a grid (`discretise.py`) and composed (`convolve.py`).
This file chooses the grid, keeps what was built, and answers from cumulative
sums. The grid is refined until its width does not matter at the deltas that are
asked for, or memory ends; then the answer says how far above the truth it may
be.

Invariant: every answer is an upper bound, rounding included, and a coarser grid
only makes it larger.

>>> from accounting import mechanism
>>> run = mechanism.Mechanism(
...     noise_multiplier=4.0, sampling_prob=0.01, num_steps=10_000)
>>> round(composed(run, deltas=(1e-5,)).epsilon(1e-5), 4)
0.947
"""

import functools
import math
from collections.abc import Sequence

import numpy as np

from accounting.numerics import convolve, limits
from accounting.numerics import terms as terms_lib
from accounting.numerics.losses import Direction as Direction
from accounting.numerics.losses import LossDistribution as LossDistribution
from accounting.numerics.mechanism_like import MechanismLike, RunLike

# Below this no answer is computed: what is left out of the grid is about this.
MIN_DELTA = 1e-30
# An answer that may be this much above the truth, relatively, is compared with
# others; and one that is said to be wide.
CLOSE, WIDE = 2.5e-3, 0.01
# The deltas at which a whole profile is exact.
PROFILE_DELTAS = (1e-12, 1e-9, 1e-7, 1e-5, 1e-3, 1e-1)
# Widths of a bin.
_LADDER = tuple(10.0 ** (k / 10) for k in range(-120, 1))
# Bins to begin with, and at most, unless a term allows fewer for itself.
_FIRST_BINS, _MAX_BINS = 2**20, 2**22
# Bins of all kinds of steps together, each in both directions; and points of
# all transforms of one round. Hundreds of kinds share them: memory stays below
# a gigabyte, and a grid that is wider says so.
_MANY_TERMS, _FIRST_STORED = 32, 2**17
_MAX_STORED, _MAX_WORK = 2**24, 2**25
# How much of an answer may come of the grid: above the first it is refined, and
# then to the second.
_BLURRED, _SHARP = 2e-3, 1e-3
_MAX_ROUNDS = 6
# Width of the losses that are summed at once.
_BLOCK = 30.0
# Rounds of many kinds that may be left at a guess of the excess.
_MAX_GUESSES = 2
# How much of delta may be left out of the grid, by all steps together.
_LEFT_OUT = 1e-6


_UNBOUNDED = Direction(np.zeros(1), 1.0, upper=np.zeros(2), lower=np.zeros(2))
_HOPELESS = LossDistribution((_UNBOUNDED,), math.inf, math.inf)
_CERTAIN = np.array([1.0, 0.0, 0.0])
_NOTHING = LossDistribution(
    (Direction(np.arange(2.0), 0.0, upper=_CERTAIN, lower=_CERTAIN),), 1.0, 0.0
)


def min_delta(run: RunLike) -> float:
  """Returns the least delta that can be asked about.

  Args:
    run: Mechanism of the run, or a composition.
  """
  return max((part.min_delta for part, _ in run.parts), default=MIN_DELTA)


def composed(
    run: RunLike,
    *,
    deltas: tuple[float, ...],
    coarsening: float = 1.0,
) -> LossDistribution:
  """Returns the loss distribution of the whole run.

  Args:
    run: The run, or several on the same data.
    deltas: Those at which it shall be close, each of at least `MIN_DELTA`.
      It is an upper bound at all.
    coarsening: Makes bins wider by this factor, for a quick upper bound.

  Returns:
    The distribution; all its mass is at infinity where the noise is so small
    that nothing is protected, and at 0 where nothing is released.
  """
  if not run.parts:
    return _NOTHING
  if limits.hopeless(run):
    return _HOPELESS
  return compose(terms_lib.terms_of(run), deltas=deltas, coarsening=coarsening)


def epsilons(
    mechanism: MechanismLike, *, steps: Sequence[int], delta: float
) -> list[float]:
  """Returns epsilon after some numbers of steps, by one grid an octave.

  Args:
    mechanism: The run; its own `num_steps` is not used.
    steps: Numbers of steps, ascending.
    delta: Delta of the guarantee; see `composed`.

  Returns:
    An epsilon for each; the last is the same as by `composed`.
  """
  found: list[float] = []
  remaining = list(steps)
  while remaining:
    last = remaining[-1]
    block = [t for t in remaining if 2 * t > last]
    remaining = remaining[: len(remaining) - len(block)]
    found = _block(mechanism, block, delta) + found
  return found


def _block(mechanism, steps: list[int], delta: float) -> list[float]:
  """Epsilon after some numbers of steps, on the grid of the last."""
  whole = composed(mechanism.with_num_steps(steps[-1]), deltas=(delta,))
  last = whole.epsilon(delta)
  if math.isinf(last) or len(steps) == 1:
    return [last] * len(steps)
  terms = dict(terms_lib.terms_of(mechanism.with_num_steps(steps[-1])))
  tail = _tail(terms.items(), delta)
  sums = _sums(tuple(terms.items()), whole.interval, tail)
  layouts = [
      convolve.layout(run, points=[(delta, direction.epsilon(delta))])
      for run, direction in zip(sums, whole.directions, strict=True)
  ]
  found = []
  for count in steps[:-1]:
    fewer = mechanism.with_num_steps(count)
    own = dict(terms_lib.terms_of(fewer))
    if not own.keys() <= terms.keys():  # Fewer steps are other steps.
      found.append(composed(fewer, deltas=(delta,)).epsilon(delta))
      continue
    times = [own.get(term, 0) for term in terms]
    found.append(
        max(
            _direction(
                convolve.distribution(run.repeated(times), where)
            ).epsilon(delta)
            for run, where in zip(sums, layouts, strict=True)
        )
    )
  return [*found, last]


def delta_at(run: RunLike, epsilon: float) -> float:
  """Returns the least delta that holds at `epsilon`, from `MIN_DELTA` to 1.

  Args:
    run: Mechanism of the run, or a composition.
    epsilon: Epsilon of the guarantee.
  """
  best, least = 1.0, min_delta(run)
  asked = 1e-5
  for _ in range(2 * _MAX_ROUNDS):
    found = composed(run, deltas=(asked,))
    best = min(best, float(found.deltas(np.array([epsilon]))[0]))
    # Close only about the delta that was asked for.
    if asked / 10 <= best <= asked * 10 or asked == least:
      break
    asked = max(min(best, 0.5), least)
  return max(best, least)


@functools.lru_cache(maxsize=8)
def compose(
    terms: tuple[tuple[terms_lib.Term, int], ...],
    *,
    deltas: tuple[float, ...],
    coarsening: float = 1.0,
) -> LossDistribution:
  """Returns the loss distribution of some steps.

  Args:
    terms: Kinds of steps, and how often each is composed.
    deltas: Deltas to fit the grid to; see `composed`.
    coarsening: Factor of the width of bins; see `composed`.

  Returns:
    The distribution.
  """
  tail = _tail(terms, min(deltas))
  spans = [term.span(tail) for term, _ in terms]
  if not np.all(np.isfinite(spans)):
    return _HOPELESS
  least = max(
      (high - low) / min(term.max_bins, _MAX_BINS)
      for (low, high), (term, _) in zip(spans, terms, strict=True)
  )
  total = float(np.sum(np.ptp(spans, axis=1)))
  least = max(least, total / _MAX_STORED)
  interval = coarsening * min(term.interval(tail) for term, _ in terms)
  # Of many kinds most are a small part of the whole: a wide grid may do.
  first = total / _FIRST_STORED if len(terms) > _MANY_TERMS else 0.0
  first = max(first, np.ptp(spans) / _FIRST_BINS)
  interval = _on_ladder(max(least, first, interval))
  best = guesses = None
  for round_ in range(_MAX_ROUNDS):
    bins = _FIRST_BINS
    if round_ or len(terms) > _MANY_TERMS:
      bins = min(_MAX_BINS, 8 * _MAX_WORK // len(terms))
    sums = _fitting_sums(terms, interval, tail, min(deltas), bins)
    if sums is None:
      return best or _HOPELESS
    interval = sums[0].interval
    if round_ < _MAX_GUESSES and len(terms) > _MANY_TERMS:
      # Transforms take most of the time: not of a grid that is too wide.
      expected = _expected_excess(sums, deltas)
      if expected > _BLURRED * coarsening:
        finer = _refined(interval, expected, sums, least, min(deltas))
        if finer < interval:
          interval = finer
          continue
    found, guesses = _solve(sums, deltas, guesses)
    if best is None or found.excess < best.excess:
      best = found
    if found.excess <= (_BLURRED if best is found else _SHARP) * coarsening:
      break
    finer = _refined(interval, found.excess, sums, least, min(deltas))
    if finer >= interval:
      break
    interval = finer
  return best or _HOPELESS


def _tail(terms, least: float) -> float:
  """The probability that a step may leave out, a power of 10."""
  steps = sum(times for _, times in terms)
  return 10.0 ** math.floor(math.log10(_LEFT_OUT * least / (4 * steps)))


def _on_ladder(width: float) -> float:
  return next((h for h in _LADDER if h >= width), math.inf)


def _fitting_sums(terms, interval, tail, delta: float, bins: int):
  """Returns the sums, one a direction, on a grid that memory has room for."""
  while interval <= _LADDER[-1]:
    sums = _sums(terms, interval, tail)
    width = max(np.ptp(convolve.window(s, delta=delta)) for s in sums)
    if width <= bins * interval:
      return sums
    interval = _on_ladder(max(width / bins, 1.5 * interval))
  return None


def _sums(terms, interval: float, tail: float) -> list[convolve.Sum]:
  steps = [(_steps(term, interval, tail), times) for term, times in terms]
  count = max(len(directions) for directions, _ in steps)
  kept: dict = {}  # Of steps that are the same in both directions.
  return [
      convolve.Sum(
          tuple((both[min(i, len(both) - 1)], times) for both, times in steps),
          interval,
          kept,
      )
      for i in range(count)
  ]


@functools.lru_cache(maxsize=32)
def _steps(term: terms_lib.Term, interval: float, tail: float):
  return term.steps(interval, tail=tail)


def _refined(interval, excess, sums, least, delta) -> float:
  """A finer width, as fine as memory allows."""
  width = max(np.ptp(convolve.window(s, delta=delta)) for s in sums)
  # The excess falls at least in proportion to the width, mostly to its square.
  power = 0.6 if len(sums[0].parts) > _MANY_TERMS else 0.8
  wanted = interval * max((_SHARP / excess) ** power, 1 / 64)
  bins = min(_MAX_BINS, 8 * _MAX_WORK // len(sums[0].parts))
  return _on_ladder(max(wanted, least, 1.1 * width / bins))


def _guessed(sums, deltas) -> list[list[float]]:
  """About the losses at which each delta is reached, in each direction."""
  return [
      [0.7 * max(s.quantile(math.log(delta)), 0.0) for delta in deltas]
      for s in sums
  ]


def _expected_excess(sums, deltas) -> float:
  """Guesses how much of an epsilon will come of the grid, relatively."""
  return max(
      _excess(run, epsilon)
      for run, epsilons_ in zip(sums, _guessed(sums, deltas), strict=True)
      for epsilon in epsilons_
  )


def _solve(sums, deltas, guesses):
  """Composes; returns the distribution, and where each delta is reached."""
  guesses = guesses or _guessed(sums, deltas)
  directions, reached, unbounded = [], [], False
  for run, losses in zip(sums, guesses, strict=True):
    points = list(zip(deltas, losses, strict=True))
    where = convolve.layout(run, points=points)
    direction = _direction(convolve.distribution(run, where))
    epsilons = np.array([direction.epsilon(delta) for delta in deltas])
    directions.append(direction)
    # What a release may leak whole is no fault of the grid.
    unbounded |= any(np.isinf(epsilons) & (np.array(deltas) > run.infinite))
    reached.append(np.where(np.isinf(epsilons), losses, epsilons).tolist())
  whole = max(run.infinite for run in sums)
  excess = max(
      (
          _excess(sums[which], epsilons[which])
          for delta, *epsilons in zip(deltas, *reached, strict=True)
          for which in [int(np.argmax(epsilons))]
          if delta > whole
      ),
      default=0.0,
  )
  if unbounded:
    excess = math.inf
  found = LossDistribution(tuple(directions), sums[0].interval, excess)
  return found, reached


def _excess(run: convolve.Sum, epsilon: float) -> float:
  """Estimates how much of an epsilon comes of the grid, relatively."""
  tilt = run.slope(epsilon) if epsilon > 0 else 0.0
  return run.blur(tilt) / (tilt * epsilon) if tilt else 0.0


def _direction(found: convolve.Composed) -> Direction:
  # An upper bound of all probabilities cannot be less than 1; NaN, or mass that
  # arithmetic lost, must not read as privacy.
  if not np.sum(found.probs) + found.infinite > 0.999:
    return _UNBOUNDED
  interval = found.losses[1] - found.losses[0]
  return Direction(
      losses=found.losses,
      infinity_mass=found.infinite,
      upper=np.append(np.cumsum(found.probs[::-1])[::-1], 0.0),
      lower=np.append(_decayed(found.probs, interval), 0.0),
  )


def _decayed(probs: np.ndarray, interval: float) -> np.ndarray:
  """Returns sums from each bin upwards, of probs x exp(loss here - loss there).

  By blocks, in which no factor is below exp(-_BLOCK). SciPy's filters do the
  same, and take a second to import.
  """
  width = max(1, min(len(probs), int(_BLOCK / interval)))
  blocks = -(-len(probs) // width)
  held = np.zeros(blocks * width)
  held[: len(probs)] = probs
  held = held.reshape(blocks, width)
  factors = np.exp(-interval * np.arange(width))
  found = np.cumsum((held * factors)[:, ::-1], axis=1)[:, ::-1] / factors
  if blocks > 1:
    whole = math.exp(-interval * width)
    above = 0.0  # The sum from the next block's first bin on.
    for i in range(blocks - 1, -1, -1):
      found[i] += above * whole / factors
      above = found[i, 0]
  return found.reshape(-1)[: len(probs)]
