"""Adds up the losses of many steps, to the last digits of a tail.

A sum's distribution is found by Fourier transforms. Their rounding errors are
1e-16 of the largest probability: far more than a delta of 1e-12 after 1e8
steps can bear. So probabilities are tilted first. With

  p_t(l) = p(l) exp(t l - K(t)),    K(t) = log sum_l p(l) exp(t l),

the sum of T losses has the probabilities

  exp(T K(t) - t l) (p_t * ... * p_t)(l),

and its tilted mean is T K'(t): nearer to the losses that decide a delta.

Invariant: every delta that is read off is an upper bound of the grid's own.
What can be lost (mass beyond the window, rounding) is added. Source: Esscher
1932 for tilting; Koskela et al. 2021 (2102.12412) for Fourier transforms.

>>> pair = discretise.sampled_gaussian(noise=4.0, sampling_prob=0.01)
>>> step = discretise.on_grid(pair, interval=1e-4, tail=1e-20)
>>> run = Sum(((step, 10_000),), 1e-4)
>>> found = distribution(run, layout(run, points=[(1e-5, 0.947)]))
>>> above = found.losses > 0.947
>>> delta = -found.probs[above] @ np.expm1(0.947 - found.losses[above])
>>> print(f"{delta:.1e}")
1.0e-05
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from accounting.numerics import discretise, fourier, log_sums

# Tilts that are considered, in units of one over a loss. Each tilt of each kind
# of steps costs a pass over its losses: of many kinds, every fourth is tried.
_TILTS = np.geomspace(1e-3, 1e7, 231)
_FEW_TILTS, _MANY_PARTS = _TILTS[::4], 48
_LEAST_TILT, _MOST_TILT = 0.03, 300.0
# Bytes of transforms that a sum keeps for `repeated`.
_KEPT_BYTES = 2**28
# How much of a delta may lie beyond the window.
_SHARE = 1e-6
# How much of it may be rounding: a stronger tilt is taken until it is less.
_NOISE = 1e-5
_MAX_WIDENINGS = 12
_MAX_SIZE = 2**23
# Root mean square of a Fourier coefficient's error, relative to the root mean
# square of what is transformed: 0.3 sqrt(log2 N) times the resolution, for N of
# 2^20, and as much again for the powers.
_ROUNDING = 3 * np.finfo(float).eps
# Deviations of that error that are added.
_MARGIN = 6.0


class Composed(NamedTuple):
  """A sum's distribution.

  Attributes:
    losses: Ascending losses, one width apart.
    probs: Their probabilities, and a margin; some may be below 0 by as much as
      rounding makes of them, but no sum that decides a delta is too small.
    infinite: Probability of a loss that is not among them.
  """

  losses: np.ndarray
  probs: np.ndarray
  infinite: float


@dataclasses.dataclass(frozen=True)
class Sum:
  """A sum of independent losses on one grid.

  Attributes:
    parts: Kinds of steps, and how many there are of each.
    interval: Width of a bin.
    kept: Results of each step, by its identity; sums of the same steps share
      them.
  """

  parts: tuple[tuple[discretise.Step, int], ...]
  interval: float
  kept: dict = dataclasses.field(default_factory=dict, repr=False)

  def repeated(self, times: Sequence[int]) -> "Sum":
    """Returns a sum of the same steps, each so often; what was computed stays.

    Args:
      times: Number of repetitions of each of `parts`.
    """
    steps = [step for step, _ in self.parts]
    parts = tuple(zip(steps, times, strict=True))
    return Sum(parts, self.interval, self.kept)

  @functools.cached_property
  def num_moved(self) -> float:
    """How many of the losses are not the likeliest one, on average."""
    return sum(
        times * float(1.0 - np.max(step.probs)) for step, times in self.parts
    )

  @property
  def infinite(self) -> float:
    """An upper bound of the probability that some loss is infinite."""
    return min(1.0, sum(times * step.infinite for step, times in self.parts))

  @property
  def ends(self) -> tuple[int, int]:
    """First and last point of the grid that the sum can reach."""
    first = sum(times * step.first for step, times in self.parts)
    lengths = sum(times * (len(s.probs) - 1) for s, times in self.parts)
    return first, first + lengths

  def log_moment(self, tilt: float) -> float:
    """Returns log E exp(tilt x sum).

    Args:
      tilt: Factor of the sum.
    """
    return sum(
        times * self._log_moment(i, tilt)
        for i, (_, times) in enumerate(self.parts)
    )

  def log_moment_bound(self, tilt: float) -> float:
    """Returns an upper bound of `log_moment`, which is convex: its chord.

    Args:
      tilt: Factor of the sum, from 0 to the largest that is considered.
    """
    tilts = np.append(0.0, self._tilts)
    return float(np.interp(tilt, tilts, np.append(0.0, self._moments[1])))

  def _log_moment(self, part: int, tilt: float) -> float:
    step, _ = self.parts[part]
    key = "moment", id(step), tilt
    if key not in self.kept:
      exponents = step.exponents(self.interval, tilt)
      self.kept[key] = float(log_sums.log_sum_exp(exponents))
    return self.kept[key]

  def _transformed(
      self, part: int, tilt: float, size: int, count: int
  ) -> fourier.Transform:
    """Returns the transform of the tilted probabilities of one kind of step."""
    step, _ = self.parts[part]
    key = "transform", id(step), tilt, size
    if key in self.kept:
      return self.kept[key]
    exponents = step.exponents(self.interval, tilt)
    probs = np.exp(exponents - self._log_moment(part, tilt))
    if count <= size // 2:
      return fourier.transform(probs, size, count=count)
    found = fourier.transform(probs, size)
    if 8 * size * len(self.parts) <= _KEPT_BYTES:
      self.kept[key] = found
    return found

  @functools.cached_property
  def _by_strength(self) -> list[int]:
    """Places of `parts`, those first whose transforms fall off soonest."""
    if len(self.parts) == 1:
      return [0]
    variances = [times * self._variance(step) for step, times in self.parts]
    return np.argsort(variances, kind="stable")[::-1].tolist()

  def _variance(self, step: discretise.Step) -> float:
    key = "variance", id(step)
    if key not in self.kept:
      self.kept[key] = step.variance()
    return self.kept[key]

  def blur(self, tilt: float) -> float:
    """Returns the growth of `log_moment` on a grid twice as wide.

    Args:
      tilt: Factor of the sum.
    """
    return sum(
        times
        * step.blur(self.interval, tilt, log_moment=self._log_moment(i, tilt))
        for i, (step, times) in enumerate(self.parts)
    )

  @functools.cached_property
  def _tilts(self) -> np.ndarray:
    """Tilts; any choice of them gives upper bounds."""
    if len(self.parts) <= _MANY_PARTS:
      return _TILTS
    variance = sum(times * self._variance(step) for step, times in self.parts)
    deviation = self.interval * math.sqrt(max(variance, 1.0))
    # A tail of rare losses asks for a tilt of about one over the largest.
    largest = self.interval * max(
        max(abs(s.first), abs(s.first + len(s.probs))) for s, _ in self.parts
    )
    low, high = np.searchsorted(
        _FEW_TILTS,
        [_LEAST_TILT / max(deviation, largest), _MOST_TILT / deviation],
    )
    return _FEW_TILTS[max(low - 1, 0) : high + 1]

  @functools.cached_property
  def _moments(self) -> dict[int, np.ndarray]:
    """Upper bounds of `log_moment` at +-`_tilts`, by a few points."""
    tilts = self._tilts
    found = {1: np.zeros(len(tilts)), -1: np.zeros(len(tilts))}
    for step, times in self.parts:
      key = "moments", id(step)
      if key not in self.kept:
        self.kept[key] = step.log_moments(self.interval, tilts)
      for sign, one in self.kept[key].items():
        found[sign] += times * one
    return found

  def _log_tail(self, loss: float) -> float:
    """Returns Chernoff's bound of the logarithm of P(sum > loss)."""
    return min(0.0, float(np.min(self._moments[1] - self._tilts * loss)))

  def quantile(self, log_mass: float, sign: int = 1) -> float:
    """Returns a loss above (sign -1: below) which lies no more than the mass.

    Args:
      log_mass: Logarithm of the mass.
      sign: Side: 1 for above, -1 for below.
    """
    bounds = (self._moments[sign] - log_mass) / self._tilts
    return sign * float(np.min(bounds))

  def slope(self, loss: float) -> float:
    """Returns the tilt, at least 0, that puts the sum's mean near a loss.

    Args:
      loss: Value of the sum.
    """
    best = int(np.argmin(self._moments[1] - self._tilts * loss))
    return float(self._tilts[best]) if best else 0.0


class Layout(NamedTuple):
  """Where a distribution is computed.

  Attributes:
    first: First point of the grid.
    size: Number of points.
    tilts: Tilts, each of which makes one part of the distribution exact.
    lost: Probability that lies above the window.
  """

  first: int
  size: int
  tilts: tuple[float, ...]
  lost: float


def layout(run: Sum, *, points: Sequence[tuple[float, float]]) -> Layout:
  """Chooses a window and tilts.

  Args:
    run: The sum.
    points: Pairs of a delta and the loss, or about that, at which it is
      reached: where the distribution shall be exact.

  Returns:
    The layout; it serves sums of fewer of the same steps too.
  """
  from scipy import fft

  least = min(delta for delta, _ in points)
  low, high = window(run, delta=least)
  tilts = set()
  for delta, loss in points:
    tilt = _tilt(run, delta, loss, high - low)
    tilts.add(tilt)
    high = max(high, _far_enough(run, delta, loss, tilt, low, high))
  first = math.floor(low / run.interval)
  size = math.ceil(high / run.interval) - first + 1
  size = fft.next_fast_len(max(size, 2), real=True)
  lost = 0.0 if run.ends[1] < first + size else _SHARE * least
  return Layout(first, size, tuple(sorted(tilts)), lost)


def distribution(run: Sum, where: Layout) -> Composed:
  """Finds the distribution of a sum.

  Args:
    run: The sum.
    where: The layout, for this sum or for one of more steps.

  Returns:
    The distribution: its hockey-stick divergence is an upper bound, and a close
    one about the layout's points.
  """
  losses = (where.first + np.arange(where.size)) * run.interval
  probs = margins = None
  for tilt in where.tilts:
    found, margin = _tilted(run, tilt, where)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
      scale = np.exp(run.log_moment(tilt) - tilt * losses)
      margin *= scale
      # Where rounding is all there is, the bound is 1.
      found = np.where(margin < 1, found * scale + margin, 1.0)
    if probs is not None and margins is not None:
      # The tilt decides whose rounding matters least.
      better = margin < margins
      found = np.where(better, found, probs)
      margin = np.where(better, margin, margins)
    probs, margins = found, margin
  assert probs is not None, "a sum has a tilt"
  return Composed(losses, probs, min(1.0, run.infinite + where.lost))


def window(run: Sum, *, delta: float) -> tuple[float, float]:
  """Returns the least and the largest loss that matter at a delta.

  Args:
    run: The sum.
    delta: The delta.

  Returns:
    Losses beyond which lies no more than `_SHARE` of delta at either end.
  """
  log_mass = math.log(_SHARE * delta)
  low, high = (end * run.interval for end in run.ends)
  low = max(low, min(run.quantile(log_mass, -1), 0.0))
  high = min(high, max(run.quantile(log_mass), 0.0))
  return low, max(high, low)


def _tilt(run: Sum, delta: float, loss: float, width: float) -> float:
  """The weakest tilt whose rounding does not matter to a delta.

  With a stronger one the window must be wider.
  """
  size = max(width / run.interval, 2.0)
  error = _MARGIN * _ROUNDING * (1 + run.num_moved) / math.sqrt(size)
  best, least = 0.0, math.inf
  # Of many kinds a bound is enough to choose by, and costs nothing.
  few = len(run.parts) <= _MANY_PARTS
  log_moment = run.log_moment if few else run.log_moment_bound
  for tilt in run.slope(loss) * np.linspace(0.0, 1.0, 9):
    reach = max(tilt, 1 / width) if width else 1.0
    moved = error / math.sqrt(reach * run.interval) / (1 + reach)
    moved *= math.exp(min(log_moment(tilt) - tilt * loss, 700.0))
    if moved < least:
      best, least = float(tilt), moved
    if least <= _NOISE * delta:
      break
  return best


def _far_enough(
    run: Sum, delta: float, loss: float, tilt: float, low: float, high: float
) -> float:
  """Returns the end of a window that is wide enough for a tilt.

  What lies one window's width above a loss appears at that loss, multiplied by
  exp(tilt x width).
  """
  end = run.ends[1] * run.interval
  for _ in range(_MAX_WIDENINGS):
    width = high - low
    if run._log_tail(loss + width) + tilt * width <= math.log(_SHARE * delta):
      break
    high = min(low + 1.2 * width, low + _MAX_SIZE * run.interval, end)
  return high


def _tilted(run: Sum, tilt: float, where: Layout):
  """Tilted probabilities of the sum in the window, and their margin."""
  from scipy import fft

  size, place, spread = where.size, where.first, 1.0
  product = fourier.Product(size)
  for i in run._by_strength:
    step, times = run.parts[i]
    if times:
      one = run._transformed(i, tilt, size, product.count)
      product.multiply(one, times)
      place -= times * (step.first + one.centre)
      spread += times * one.rest
  composed = np.exp(product.log_size) * np.exp(1j * product.angle)
  probs = np.roll(fft.irfft(composed, size), -(place % size))
  # Errors of the coefficients are as good as independent. Those of the
  # probabilities then are so too, if no nearer than size / heard. A delta is a
  # sum over about 1 / (tilt x width) probabilities: the more of them are
  # independent, the less margin each needs.
  sizes = np.abs(composed)
  power = 2 * float(np.sum(np.square(sizes)))
  heard = min((2 * float(np.sum(sizes))) ** 2 / power, size)
  error = _ROUNDING * spread * math.sqrt(power) / size
  share = min(1.0, max(tilt * run.interval, 1 / size) * size / heard)
  return probs, _MARGIN * error * math.sqrt(share) + product.lost
