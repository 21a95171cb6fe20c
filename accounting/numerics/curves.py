"""Guarantees that are curves: delta at every epsilon, put on a grid.

Of a release of which nothing but a bound of its divergence is known, the curve
of least deltas that the bound allows is known too. Invariant: the points on the
grid are at least as easy to tell apart as any two outputs within the bound.

Source: Zhu, Dong and Wang 2022 (2106.08567), Proposition 9: every
convex curve has a pair of distributions, which dominates all releases below it.

>>> step, = ZeroConcentrated(rho=0.1).steps(1e-3, tail=1e-20)
>>> print(f"{float(np.sum(step.probs)) + step.infinite:.3f}")
1.000
"""

import dataclasses
import math

import numpy as np

from accounting.numerics import discretise

# Points of the grid that hold mass, and orders that are tried.
_POINTS = 4000
_ORDERS = 1 + np.geomspace(1e-3, 1e7, 700)
# Beyond this loss exp overflows.
_MAX_LOSS = 600.0
_DEFAULT, _BINS = 1e-4, 50_000
# What arithmetic may have taken off a delta.
_SLACK = 1 + 1e-9


@dataclasses.dataclass(frozen=True)
class ZeroConcentrated:
  """Any release with rho-zero-concentrated privacy.

  Attributes:
    rho: Bound of the Renyi divergence of each order, over the order.
  """

  rho: float
  max_bins = 2**22

  def deltas(self, epsilons: np.ndarray) -> np.ndarray:
    """Returns the least delta that the bound shows at each epsilon.

    Args:
      epsilons: Epsilons, at least 0, shape [n].

    Source: Canonne, Kamath and Steinke 2020 (2004.00010), Proposition 12.
    """
    offset = _ORDERS * np.log1p(-1 / _ORDERS) - np.log(_ORDERS - 1)
    offset += (_ORDERS - 1) * _ORDERS * self.rho
    best = np.full(len(epsilons), 0.0)
    for order, start in zip(_ORDERS, offset, strict=True):
      np.minimum(best, start - (order - 1) * epsilons, out=best)
    return np.exp(best) * _SLACK

  def span(self, tail: float) -> tuple[float, float]:
    """Returns the least and largest loss on the grid.

    Args:
      tail: Probability left out at either end.
    """
    most = self.rho + 2 * math.sqrt(self.rho * math.log(1 / tail))
    most = most if most <= _MAX_LOSS else math.inf
    return -most, most

  def interval(self, tail: float) -> float:
    """Returns the width of a bin to begin with.

    Args:
      tail: Probability left out at either end.
    """
    deviation, (low, high) = math.sqrt(2 * self.rho), self.span(tail)
    return max(
        min(_DEFAULT, deviation / 16),
        min((high - low) / _BINS, deviation / 14),
    )

  def steps(
      self, interval: float, *, tail: float
  ) -> tuple[discretise.Step, ...]:
    """Returns the loss; it is the same in both directions.

    Args:
      interval: Width of a bin.
      tail: Probability left out at either end.
    """
    _, most = self.span(tail)
    every = max(1, math.ceil(most / interval / _POINTS))
    count = max(1, math.ceil(most / (every * interval)))
    losses = every * interval * np.arange(count + 1)
    return (_symmetric(losses, self.deltas(losses), every),)


def _symmetric(
    losses: np.ndarray, deltas: np.ndarray, every: int
) -> discretise.Step:
  """Puts a curve on a grid, the same in both directions.

  Against x = exp(epsilon) the deltas of two distributions are convex, with mass
  of the second where the slope changes. Below x = 1 the curve mirrors what is
  above it. So the chord from 1 to any x, which has the slope -(1 - d) / 2 or
  more for the delta d at 1, bounds d too.

  Args:
    losses: Losses from 0, evenly spaced.
    deltas: Upper bounds of delta at each.
    every: Number of bins from one loss to the next.
  """
  x, y = np.exp(losses), deltas.copy()
  y[0] = min(y[0], float(np.min((2 * y + x - 1) / (x + 1))) * _SLACK)
  hull = _lower_hull(x, y)
  x, y, places = x[hull], y[hull], np.array(hull)
  slopes = np.append(np.diff(y) / np.diff(x), 0.0)
  back = np.maximum(np.diff(slopes), 0.0)  # Mass of Q at each loss above 0.
  there = back * x[1:]
  last = int(places[-1]) if len(places) > 1 else 0
  probs = np.zeros(2 * every * max(last, 1) + 1)
  middle = len(probs) // 2
  probs[middle + every * places[1:]] = there
  probs[middle - every * places[1:]] = back
  infinite = float(y[-1])
  probs[middle] = max(0.0, 1.0 - infinite - math.fsum(probs))
  return discretise.Step(-middle, probs, infinite, infinite)


def _lower_hull(x: np.ndarray, y: np.ndarray) -> list[int]:
  """Returns the points of the largest convex curve below; the ends are kept."""
  kept: list[int] = []
  for i in range(len(x)):
    while len(kept) > 1:
      a, b = kept[-2], kept[-1]
      if (y[b] - y[a]) * (x[i] - x[b]) < (y[i] - y[b]) * (x[b] - x[a]):
        break
      kept.pop()
    kept.append(i)
  return kept
