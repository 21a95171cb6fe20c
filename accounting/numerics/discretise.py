"""One step's privacy loss, put on a grid so that it can be composed.

The loss of a step is L = log P(x) / Q(x), for neighbouring data sets with
outputs P and Q, both mixtures of Gaussians of one deviation. Between two points
of the grid, l and l + h, lies a mass p of P and q of Q. It is moved to the two
points: a to l and b to l + h, with

  a + b = p,    a e^-l + b e^-(l + h) = q,
  so b = (p - q e^l) / (1 - e^-h).

Invariant: both masses are kept, so the two points hold a pair that is at least
as easy to tell apart as P and Q, at every epsilon and in both directions. Mass
outside of the grid counts as an infinite loss.

Source: Doroshenko, Ghazi, Kamath, Kumar and Manurangsi 2022 (2207.04380),
"Connect the Dots".

>>> pair = sampled_gaussian(noise=2.0, sampling_prob=0.1)
>>> step = on_grid(pair, interval=1e-3, tail=1e-20)
>>> losses = step.losses(1e-3)
>>> delta = np.sum(step.probs * np.maximum(-np.expm1(-losses), 0.0))
>>> print(f"{delta:.5f}")  # 0.1 (2 Phi(1 / 4) - 1) = 0.01974
0.01974
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from accounting.numerics import log_sums

# Points from which a mixture's loss is inverted, and steps to full precision.
_TABLE = 4096
_NEWTON_STEPS = 8
# Beyond its outputs nothing is asked of a mixture.
_LEAST = 1e-200
# Points about 0 that a thinner grid keeps, on either side.
_NEAR = 200


class Step(NamedTuple):
  """The loss of one step, on a grid through 0.

  Attributes:
    first: Index of the lowest loss: a whole number of widths.
    probs: Probabilities under P of the losses from there on, one width apart.
    infinite: Probability under P of no loss on the grid.
    infinite_back: The same under Q.
  """

  first: int
  probs: np.ndarray
  infinite: float
  infinite_back: float

  def losses(self, interval: float) -> np.ndarray:
    """Returns the losses on the grid of this width.

    Args:
      interval: Width of a bin.
    """
    return (self.first + np.arange(len(self.probs))) * interval

  def exponents(self, interval: float, tilt: float) -> np.ndarray:
    """Returns the logarithms of probs x exp(tilt x loss).

    Args:
      interval: Width of a bin.
      tilt: Factor of the loss.
    """
    return _log(self.probs) + tilt * self.losses(interval)

  def mirrored(self, interval: float) -> "Step":
    """Returns the loss in the other direction: of Q against P.

    Args:
      interval: Width of a bin.
    """
    back = np.exp(self.exponents(interval, -1.0))
    last = self.first + len(self.probs) - 1
    return Step(-last, back[::-1], self.infinite_back, self.infinite)

  def variance(self) -> float:
    """Returns the variance of the loss, in widths, of what is on the grid."""
    places = np.arange(len(self.probs)) - float(np.argmax(self.probs))
    # No dot product: BLAS's threads cost more than they save here.
    mean = np.sum(self.probs * places)
    return float(np.sum(self.probs * np.square(places)) - mean * mean)

  def blur(self, interval: float, tilt: float, *, log_moment: float) -> float:
    """Returns the growth of a log moment on a grid twice as wide.

    An odd point's mass would move to both of its neighbours, so that P's and
    Q's masses are kept.

    Args:
      interval: Width of a bin.
      tilt: Factor of the loss.
      log_moment: Logarithm of E exp(tilt x loss).
    """
    from scipy import special

    odd = self.exponents(interval, tilt)[1 - self.first % 2 :: 2]
    if not odd.size:
      return 0.0
    moved = np.logaddexp(
        special.log_expit(-interval) - tilt * interval,
        special.log_expit(interval) + tilt * interval,
    )
    log_share = log_sums.log_sum_exp(odd) - log_moment
    log_grown = log_share + moved + math.log(-math.expm1(-moved))
    return float(np.logaddexp(0.0, log_grown))

  def log_moments(
      self, interval: float, tilts: np.ndarray
  ) -> dict[int, np.ndarray]:
    """Returns upper bounds of log E exp(+-tilt x loss), by sign and tilt.

    Args:
      interval: Width of a bin.
      tilts: Factors of the loss, shape [n].
    """
    losses, probs = self._thinned(interval)
    logs = _log(probs)[:, None]
    return {
        sign: log_sums.log_sum_exp(
            logs + sign * np.multiply.outer(losses, tilts), axis=0
        )
        for sign in (1, -1)
    }

  def _thinned(self, interval: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the loss on fewer points, no less private for it.

    Returns:
      Losses and their probabilities: as on the grid near 0, then 2% apart.
    """
    size = len(self.probs)
    points = _points(2 * size + abs(self.first)) - self.first
    low, high = np.searchsorted(points, [0, size])
    # The first and the last loss are among them.
    edges = np.concatenate([[0], points[low:high], [size - 1]])
    edges = edges[np.append(edges[1:] != edges[:-1], True)]
    losses = (self.first + edges) * interval
    if len(edges) == 1:
      return losses, np.array([np.sum(self.probs)])
    which = np.minimum(
        np.searchsorted(edges, np.arange(size), side="right"), len(edges) - 1
    )
    offset = (np.arange(size) - edges[which - 1]) * interval
    gaps = np.diff(edges) * interval
    upper = self.probs * np.expm1(-offset) / np.expm1(-gaps[which - 1])
    probs = np.bincount(which, upper, len(edges))
    probs += np.bincount(which - 1, self.probs - upper, len(edges))
    return losses, probs


class Pair(NamedTuple):
  """P and Q: mixtures of Gaussians with the same means and one deviation.

  The loss must rise with the output.

  Attributes:
    noise: Standard deviation.
    means: Means of the components, shape [num_means].
    weights: Their probabilities under P.
    back: Their probabilities under Q.
    difference: Values of weights - back, without its rounding.
    inverse: Function of losses that gives the outputs at which they are taken.
  """

  noise: float
  means: np.ndarray
  weights: np.ndarray
  back: np.ndarray
  difference: np.ndarray
  inverse: Callable[[np.ndarray], np.ndarray]

  def outputs(self, tail: float) -> tuple[float, float]:
    """Returns outputs between which lies all but `tail` at either end.

    Args:
      tail: Probability left out at either end.
    """
    from scipy import special

    most = np.maximum(self.weights, self.back)
    share = tail / len(most)
    held = most > share
    means = self.means[held]
    reach = -special.ndtri(np.minimum(share / most[held], 0.5)) * self.noise
    return float(np.min(means - reach)), float(np.max(means + reach))

  def span(self, tail: float) -> tuple[float, float]:
    """Returns the least and the largest loss of those outputs.

    Args:
      tail: Probability left out at either end.
    """
    low, high = self.losses(np.array(self.outputs(tail)))
    return float(low), float(high)

  def losses(self, outputs: np.ndarray) -> np.ndarray:
    """Returns the logarithm of P / Q at some outputs.

    Args:
      outputs: Outputs, shape [n].
    """
    shifts = np.multiply.outer(outputs, self.means) - 0.5 * self.means**2
    shifts = shifts / self.noise**2
    top = np.max(shifts[:, self.back > 0], axis=1, keepdims=True)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
      parts = np.exp(shifts - top)
      near = np.log1p((parts @ self.difference) / (parts @ self.back))
    far = log_sums.log_sum_exp(shifts + _log(self.weights), axis=1)
    far = far - log_sums.log_sum_exp(shifts + _log(self.back), axis=1)
    return np.where(np.abs(near) < 1, near, far)


def sampled_gaussian(
    *, noise: float, sampling_prob: float, replace: bool = False
) -> Pair:
  """Returns one step of the Poisson-sampled Gaussian, of sensitivity 1.

  Args:
    noise: Noise multiplier.
    sampling_prob: Sampling probability, in (0, 1].
    replace: Whether an example is replaced, not added, removed or blanked.

  Returns:
    P with the example in the data set, Q without it, or with another.
  """
  q = sampling_prob
  if replace:
    columns = ([0, 1, -1], [1 - q, q, 0], [1 - q, 0, q], [0, q, -q])
    inverse = functools.partial(_replaced, noise=noise, q=q)
  else:
    columns = ([0, 1], [1 - q, q], [1, 0], [-q, q])
    inverse = functools.partial(_removed, noise=noise, q=q)
  means, weights, back, difference = (np.array(c, float) for c in columns)
  return Pair(noise, means, weights, back, difference, inverse)


def mixture(
    *, noise: float, sensitivities: Sequence[float], weights: Sequence[float]
) -> Pair:
  """Returns one release of a Gaussian whose mean moves at random.

  Args:
    noise: Standard deviation of the noise.
    sensitivities: Distances by which the mean may move: 0, then rising.
    weights: Probability of each distance.

  Returns:
    P, whose mean moves, and Q, whose mean is 0.
  """
  back = np.eye(1, len(weights))[0]
  difference = np.array(weights, float)
  difference[0] = -math.fsum(weights[1:])
  columns = np.array(sensitivities, float), np.array(weights, float)
  blank = Pair(noise, *columns, back, difference, inverse=np.asarray)
  return blank._replace(inverse=functools.partial(_solved, pair=blank))


def on_grid(pair: Pair, *, interval: float, tail: float) -> Step:
  """Puts a pair on the grid.

  Args:
    pair: P and Q.
    interval: Width of a bin.
    tail: Probability that may be left out at either end.

  Returns:
    The step.
  """
  from scipy import special

  low, high = pair.outputs(tail)
  ends = pair.losses(np.array([low, high])) / interval
  first = math.floor(ends[0])
  losses = np.arange(first, max(math.ceil(ends[1]), first + 1) + 1) * interval
  outputs = np.clip(pair.inverse(losses), low, high)
  outputs[0], outputs[-1] = low, high
  masses = [_masses(outputs, mean, pair.noise) for mean in pair.means]
  there, back = _weighted(pair.weights, masses), _weighted(pair.back, masses)
  # p - q e^l; near 0 without its cancellation: p - q, less q (e^l - 1).
  low_ends = losses[:-1]
  near = _weighted(pair.difference, masses)
  near = near - back * np.expm1(np.clip(low_ends, -1, 1))
  far = there - np.exp(_log(back) + low_ends)
  moved = np.where(np.abs(low_ends) <= 1, near, far)
  upper = np.clip(moved / -math.expm1(-interval), 0.0, there)
  probs = np.append(there - upper, 0.0)
  probs[1:] += upper
  outside = special.ndtr((low - pair.means) / pair.noise)
  outside = outside + special.ndtr((pair.means - high) / pair.noise)
  return Step(
      first, probs, float(pair.weights @ outside), float(pair.back @ outside)
  )


@functools.lru_cache(maxsize=8)
def _all_points() -> np.ndarray:
  """Returns the points that a thinner grid keeps on one side, ascending."""
  steps = np.concatenate([np.arange(_NEAR), _NEAR * 1.02 ** np.arange(1, 1400)])
  return np.unique(steps.astype(int))


def _points(end: int) -> np.ndarray:
  """Returns those of both sides that are within `end` of 0, ascending."""
  found = _all_points()
  found = found[: np.searchsorted(found, end)]
  return np.concatenate([-found[:0:-1], found])


def _log(weights: np.ndarray) -> np.ndarray:
  with np.errstate(divide="ignore"):
    return np.log(weights)


def _weighted(weights, masses) -> np.ndarray:
  return np.asarray(
      sum(w * m for w, m in zip(weights, masses, strict=True) if w)
  )


def _masses(outputs: np.ndarray, mean: float, noise: float) -> np.ndarray:
  """Probabilities of the intervals between outputs, exact in either tail."""
  from scipy import special

  z = (outputs - mean) / noise
  below, above = special.ndtr(z), special.ndtr(-z)
  return np.where(z[:-1] > 0, above[:-1] - above[1:], below[1:] - below[:-1])


def _unsampled(losses: np.ndarray, q: float) -> np.ndarray:
  """Returns l with log(1 - q + q exp(l)) = loss; -inf below log(1 - q)."""
  if q == 1:
    return losses
  small = np.minimum(losses, 1.0)
  large = np.maximum(losses, 1.0)
  with np.errstate(divide="ignore"):
    near = np.log1p(np.maximum(np.expm1(small) / q, -1.0))
  far = large - math.log(q) + np.log1p((q - 1) * np.exp(-large))
  return np.where(losses < 1, near, far)


def _removed(losses: np.ndarray, *, noise: float, q: float) -> np.ndarray:
  """Returns the outputs with these losses, where an example is removed."""
  return 0.5 + noise**2 * _unsampled(losses, q)


def _replaced(losses: np.ndarray, *, noise: float, q: float) -> np.ndarray:
  """Returns the outputs with these losses, where an example is replaced."""
  variance = noise**2
  if q == 1:
    return 0.5 * variance * losses
  # asinh(odds sinh(|loss| / 2)) in logarithms: either factor may overflow.
  half = 0.5 * np.abs(losses)
  odds = 0.5 / variance + math.log1p(-q) - math.log(q)
  with np.errstate(divide="ignore"):
    log_sinh = half + np.log(-np.expm1(-2 * half)) - math.log(2)
  inner = odds + log_sinh
  asinh = np.logaddexp(0.5 * np.logaddexp(0.0, 2 * inner), inner)
  return np.sign(losses) * variance * (asinh + half)


def _solved(losses: np.ndarray, *, pair: Pair) -> np.ndarray:
  """Returns the outputs with these losses, where Q has one mean, 0.

  The loss is then convex in the output, so that Newton's steps come down to the
  solution from above, and never pass it.
  """
  low, high = pair.outputs(_LEAST)
  table = np.linspace(low, high, _TABLE)
  right = np.searchsorted(pair.losses(table), losses).clip(0, _TABLE - 1)
  outputs = table[right]
  for _ in range(_NEWTON_STEPS):
    shifts = np.multiply.outer(outputs, pair.means) - 0.5 * pair.means**2
    logs = shifts / pair.noise**2 + _log(pair.weights)
    top = np.max(logs, axis=1, keepdims=True)
    parts = np.exp(logs - top)
    total = np.sum(parts, axis=1)
    excess = top[:, 0] + np.log(total) - losses
    slope = (parts @ pair.means) / total / pair.noise**2
    with np.errstate(divide="ignore", invalid="ignore"):
      outputs = outputs - np.where(slope > 0, np.maximum(excess / slope, 0), 0)
    outputs = np.maximum(outputs, low)
  return outputs
