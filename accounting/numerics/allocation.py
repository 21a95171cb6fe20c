"""The loss of one round of random allocation: an example in one of t steps.

Of each step let X = exp((z - 1/2) / sigma^2), with z the noisy sum along the
example's gradient: the ratio of its densities with the example and without it.
Over the round, the example in a step that is drawn uniformly, the ratio is the
mean A of t such X. Without the example they are independent, with mean 1.

Lemma 1 (reduction). The pair P = (1/t) sum_i N(e_i, sigma^2 I) and Q = N(0,
sigma^2 I), in t dimensions, dominates the round, adaptive or not, in both
directions. Proof: fix the other examples' steps; they do not depend on this
one's. Given the outputs before step j, the sum there is N(f, sigma^2 I), or N(f
+ g, sigma^2 I) if the example takes part, with |g| = c <= 1. From z_j it is
drawn as f + (g / c)(c z_j + sqrt(1 - c^2) w) plus noise orthogonal to g, with w
an independent N(0, sigma^2). So the outputs are made from z alone, without
knowing where the example is. Divergences are jointly convex, so that averaging
over the others adds nothing.

Lemma 2 (order). H(P || Q) at epsilon is E_Q (A - e^epsilon)_+, and H(Q || P) is
E_Q (1 - A e^epsilon)_+: means of convex functions of A. Hence a law above A's
in the convex order (a mean-preserving spread) is at least as easy to tell
apart. Spreads of independent X give spreads of their mean. So each X, and each
partial mean, may be moved to two points of a grid that keep the mass and the
mean; what is above the grid to its last point and infinity, what is below it to
its first point and 0.

Lemma 3 (several steps). If an example takes part in k of t steps, drawn
uniformly, k rounds of t // k steps are at least as easy to tell apart. Proof:
draw k disjoint blocks of t // k steps uniformly, then one step of each: the set
is a uniform one of k steps, by symmetry. Given the blocks (which is convexity
again) the pair is a product of k pairs of lemma 1.

Source: Feldman and Shenfeld 2025 (2502.08202) for the pair of lemma 1 and the
blocks of lemma 3; the proofs here, the grid and lemma 2 are this project's.

Invariant: what is on the grid is at least as easy to tell apart as the round.

>>> step = one_of(num_steps=8, noise=1.0, interval=1e-2, tail=1e-20)
>>> losses = step.losses(1e-2)
>>> delta = -step.probs[losses > 3.6] @ np.expm1(3.6 - losses[losses > 3.6])
>>> print(f"{delta:.1e}")
2.0e-08
"""

import dataclasses
import functools
import math
from typing import NamedTuple

import numpy as np

from accounting.numerics import discretise

# Below this, where epsilon is above 200, the ratio may leave the doubles.
MIN_NOISE = 0.05
# Deviations of a partial mean's logarithm in the width of its bins.
_BINS_PER_DEVIATION = 28


class _Law(NamedTuple):
  """A law of a mean of ratios, without the example, by their logarithms.

  Attributes:
    first: Index of the lowest logarithm, in widths.
    width: Width of a bin, in intervals: a power of 2.
    probs: Probabilities, without the example.
    zero: Probability of the ratio 0.
    excess: Mean that was moved to infinity.
  """

  first: int
  width: int
  probs: np.ndarray
  zero: float
  excess: float


@functools.lru_cache(maxsize=16)
def one_of(
    *, num_steps: int, noise: float, interval: float, tail: float
) -> discretise.Step:
  """Returns the loss of a round, with the example against without it.

  Args:
    num_steps: Number of steps, one of which has the example.
    noise: Noise multiplier, at least `MIN_NOISE`.
    interval: Width of a bin of the loss.
    tail: Probability that may be left out at either end.

  Returns:
    The step; `mirrored` is the other direction.
  """
  powers = [_single(num_steps, noise, interval, tail)]
  total, count = None, 0
  for bit in range(num_steps.bit_length()):
    if bit:
      size = 2**bit
      width = _width(size, num_steps, noise, interval)
      powers.append(_mean(powers[-1], powers[-1], 0.5, width, interval, tail))
    if not num_steps >> bit & 1:
      continue
    size = 2**bit
    if total is None:
      total = powers[-1]
    else:
      width = _width(size + count, num_steps, noise, interval)
      share = count / (size + count)
      total = _mean(total, powers[-1], share, width, interval, tail)
    count += size
  assert total is not None, "a round has a step"
  losses = (total.first + np.arange(len(total.probs))) * interval
  with np.errstate(divide="ignore"):
    there = np.exp(np.log(total.probs) + losses)
  return discretise.Step(total.first, there, total.excess, total.zero)


def deviation(*, num_steps: int, noise: float) -> float:
  """Returns about the standard deviation of a round's loss.

  Args:
    num_steps: Number of steps, one of which has the example.
    noise: Noise multiplier.
  """
  exponent = min(noise**-2, 500.0)
  return min(math.sqrt(math.expm1(exponent) / num_steps), 1 / noise)


def _width(size: int, num_steps: int, noise: float, interval: float) -> int:
  """The width of the bins of a partial mean: those of all are one interval.

  An error of the mean of m ratios counts m / t in the mean of all.
  """
  if size == num_steps:
    return 1
  wanted = deviation(num_steps=size, noise=noise) / _BINS_PER_DEVIATION
  return 2 ** max(0, math.floor(math.log2(wanted / interval)))


def _single(num_steps, noise, interval, tail) -> _Law:
  """The law of one step's ratio."""
  width = _width(1, num_steps, noise, interval)
  pair = discretise.sampled_gaussian(noise=noise, sampling_prob=1.0)
  step = discretise.on_grid(pair, interval=width * interval, tail=tail)
  back = np.exp(step.exponents(width * interval, -1.0))
  return _Law(step.first, width, back, step.infinite_back, step.infinite)


def _mean(
    a: _Law, b: _Law, share: float, width: int, interval: float, tail: float
) -> _Law:
  """Returns the law of share x A + (1 - share) x B, of independent A and B.

  Bins of a are as wide as b's or a power of 2 wider, and b's than the result's.
  With i and j the indices of A and B, in b's widths, the logarithm of the sum
  is j + log(1 - share + share exp(i - j)): how far above j it is, and how it is
  split, depends on i - j alone.
  """
  ratio, stretch = a.width // b.width, b.width // width
  step, shift = width * interval, ratio * a.first - b.first
  size_a, size_b = len(a.probs), len(b.probs)
  gaps = np.arange(shift - size_b + 1, shift + ratio * (size_a - 1) + 1)
  above, up = _split(_log_mix(gaps * b.width * interval, share), step)
  # The sum of both lowest points, and the higher of both highest.
  lowest = b.first * stretch + int(above[shift - int(gaps[0])])
  most = stretch * max(b.first + size_b - 1, (a.first + size_a - 1) * ratio)
  found = np.zeros(most - lowest + 3)

  def put(masses, first, stride, raised):
    place = first - lowest
    end = place + stride * (len(masses) - 1) + 1
    found[place:end:stride] += masses * (1 - raised)
    found[place + 1 : end + 1 : stride] += masses * raised

  same = a is b and share == 0.5  # The sum is the same for i - j and j - i.
  for k in range(size_b - 1 if same else 0, len(gaps)):
    gap = int(gaps[k]) - shift
    low = max(0, -(-gap // ratio))
    high = min(size_a, (size_b - 1 + gap) // ratio + 1)
    begin = ratio * low - gap
    masses = a.probs[low:high] * b.probs[begin::ratio][: high - low]
    if same and gap:
      masses = 2 * masses
    first = (b.first + begin) * stretch + int(above[k])
    put(masses, first, ratio * stretch, up[k])
  zero = a.zero * b.zero
  for one, other, log_share in (
      (a, b, math.log1p(-share)),
      (b, a, math.log(share)),
  ):
    losses = (
        (other.first + np.arange(len(other.probs))) * other.width * interval
    )
    zero += _put_lone(
        found, one.zero * other.probs, losses + log_share, lowest, step
    )
  excess = share * a.excess + (1 - share) * b.excess
  law = _Law(lowest, width, found, zero, excess)
  return _trimmed(law, step, tail / 16)


def _put_lone(found, masses, losses, lowest: int, step: float) -> float:
  """Adds sums with a term of 0; returns how much of them is moved to 0.

  One below the grid goes to its lowest point and to 0.
  """
  places, up = _split(np.maximum(losses, lowest * step), step)
  places = np.clip(places - lowest, 0, len(found) - 2)
  kept = masses * np.exp(np.minimum(losses - lowest * step, 0.0))
  np.add.at(found, places, kept * (1 - up))
  np.add.at(found, places + 1, kept * up)
  return float(np.sum(masses - kept))


def _log_mix(gaps: np.ndarray, share: float) -> np.ndarray:
  """Returns log(1 - share + share exp(gap))."""
  small, large = np.minimum(gaps, 1.0), np.maximum(gaps, 1.0)
  near = np.log1p(share * np.expm1(small))
  far = large + math.log(share)
  far = far + np.log1p((1 - share) / share * np.exp(-large))
  return np.where(gaps < 1, near, far)


def _split(values: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
  """Returns the points below logarithms, and how much goes to the next one.

  Both the mass and the mean of the ratio are kept.
  """
  places = np.floor(values / step)
  offsets = np.clip(values - places * step, 0.0, step)
  return places.astype(int), np.expm1(offsets) / math.expm1(step)


def _trimmed(law: _Law, step: float, tail: float) -> _Law:
  """Returns a law on fewer points: what is beyond them is moved apart."""
  losses = (law.first + np.arange(len(law.probs))) * step
  with np.errstate(divide="ignore"):
    there = np.exp(np.log(law.probs) + losses)
  low = int(np.searchsorted(np.cumsum(law.probs), tail, side="right"))
  high = len(there) - int(
      np.searchsorted(np.cumsum(there[::-1]), tail, side="right")
  )
  low = min(low, high - 1)
  probs = law.probs[low:high].copy()
  kept = np.sum(law.probs[:low] * np.exp(losses[:low] - losses[low]))
  probs[0] += kept
  zero = law.zero + max(0.0, float(np.sum(law.probs[:low]) - kept))
  beyond = float(np.sum(law.probs[high:]))
  probs[-1] += beyond
  moved = float(np.sum(there[high:])) - beyond * math.exp(losses[high - 1])
  excess = law.excess + max(0.0, moved)
  return _Law(law.first + low, law.width, probs, zero, excess)


@dataclasses.dataclass(frozen=True)
class OneOfSteps:
  """One round in which an example is in one step, drawn uniformly.

  Attributes:
    noise: Noise multiplier, at least `MIN_NOISE`.
    num_steps: Number of steps of the round.
  """

  noise: float
  num_steps: int
  max_bins = 2**18

  def steps(
      self, interval: float, *, tail: float
  ) -> tuple[discretise.Step, ...]:
    """Returns the loss in each direction.

    Args:
      interval: Width of a bin.
      tail: Probability left out at either end.
    """
    found = one_of(
        num_steps=self.num_steps,
        noise=self.noise,
        interval=interval,
        tail=tail,
    )
    return found, found.mirrored(interval)

  def span(self, tail: float) -> tuple[float, float]:
    """Returns about the least and largest loss on the grid.

    Args:
      tail: Probability left out at either end.
    """
    interval = self._deviation / 14
    step, _ = self.steps(interval, tail=tail)
    losses = step.losses(interval)
    return float(losses[0]), float(losses[-1])

  def interval(self, tail: float) -> float:
    """Returns the width of a bin to begin with; see `SampledGaussian`.

    Args:
      tail: Probability left out at either end.
    """
    del tail
    return self._deviation / 60

  @property
  def _deviation(self) -> float:
    return deviation(num_steps=self.num_steps, noise=self.noise)
