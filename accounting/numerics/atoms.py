"""Releases whose privacy loss takes single values, each as a term of a sum.

Adding and removing give the same loss in all of them, so that each has one
direction. Invariant: an atom between two points of the grid is split such that
its masses under both data sets are kept, as `discretise.py` does it; the points
are at least as easy to tell apart.

>>> term = Laplace(epsilon=0.5)
>>> [step] = term.steps(1e-3, tail=1e-20)
>>> print(f"{float(np.sum(step.probs)):.3f}")
1.000
"""

import abc
import dataclasses
import math

import numpy as np

from accounting.numerics import discretise, log_sums

# Larger losses are not put on a grid, and smaller ones count as the least.
MAX_EPSILON, MIN_EPSILON = 1e5, 1e-9
_BINS = 50_000
_DEFAULT = 1e-4


class Atoms(abc.ABC):
  """A release as pairs of a loss and its probability."""

  max_bins = 2**22

  @abc.abstractmethod
  def atoms(
      self, interval: float, tail: float
  ) -> tuple[np.ndarray, np.ndarray, float]:
    """Returns losses, their probabilities, and the mass at infinity.

    Args:
      interval: Width of a bin.
      tail: Probability left out at either end.
    """

  @abc.abstractmethod
  def span(self, tail: float) -> tuple[float, float]:
    """Returns the least and largest loss on the grid.

    Args:
      tail: Probability left out at either end.
    """

  @property
  @abc.abstractmethod
  def deviation(self) -> float:
    """About the standard deviation of the loss."""

  def steps(
      self, interval: float, *, tail: float
  ) -> tuple[discretise.Step, ...]:
    """Returns the loss; it is the same in both directions.

    Args:
      interval: Width of a bin.
      tail: Probability left out at either end.
    """
    losses, probs, infinite = self.atoms(interval, tail)
    places = np.floor(losses / interval).astype(int)
    offset = np.clip(losses - places * interval, 0.0, interval)
    upper = probs * np.expm1(-offset) / np.expm1(-interval)
    first = int(np.min(places))
    size = int(np.max(places)) - first + 2
    found = np.bincount(places - first, probs - upper, size)
    found += np.bincount(places - first + 1, upper, size)
    return (discretise.Step(first, found, infinite, infinite),)

  def interval(self, tail: float) -> float:
    """Returns the width of a bin to begin with.

    Args:
      tail: Probability left out at either end.
    """
    low, high = self.span(tail)
    return max(
        min(_DEFAULT, self.deviation / 16),
        min((high - low) / _BINS, self.deviation / 14),
    )

  def divergence(self, order: float) -> float:
    """Returns the Renyi divergence at an order above 1.

    Args:
      order: Renyi order.
    """
    losses, probs, _ = self.atoms(math.inf, 0.0)
    with np.errstate(divide="ignore"):
      logs = np.log(probs) + (order - 1) * losses
    return max(0.0, float(log_sums.log_sum_exp(logs)) / (order - 1))


@dataclasses.dataclass(frozen=True)
class Laplace(Atoms):
  """Laplace noise of scale 1 / epsilon on a number that moves by 1.

  Attributes:
    epsilon: Largest loss.
  """

  epsilon: float

  def atoms(
      self, interval: float, tail: float
  ) -> tuple[np.ndarray, np.ndarray, float]:
    """See `Atoms`. Between 0 and 1 the output is cut into cells.

    A cell ends where the loss is a point of the grid: `steps` then splits its
    masses between the points at either side, which are easier to tell apart
    than any output between them. A cell across a point would hide what is
    beyond it. A cell's two masses have the ratio of its middle.
    """
    del tail
    end = self.epsilon
    most = math.floor(end / interval)
    points = interval * np.arange(most, -most - 1, -1)
    edges = np.clip(0.5 - 0.5 * points / self.epsilon, 0.0, 1.0)
    edges = np.concatenate([[0.0], edges, [1.0]])
    widths = self.epsilon * np.diff(edges)
    cells = -0.5 * np.exp(-self.epsilon * edges[:-1]) * np.expm1(-widths)
    losses = self.epsilon * (1 - edges[:-1] - edges[1:])
    ends = [0.5], [0.5 * math.exp(-self.epsilon)]
    return (
        np.concatenate([[self.epsilon], losses, [-self.epsilon]]),
        np.concatenate([ends[0], cells, ends[1]]),
        0.0,
    )

  def span(self, tail: float) -> tuple[float, float]:
    """See `Atoms`."""
    del tail
    return -self.epsilon, self.epsilon

  @property
  def deviation(self) -> float:
    """See `Atoms`."""
    return self.epsilon

  def divergence(self, order: float) -> float:
    """See `Atoms`.

    Source: Mironov 2017 (1702.07476), Proposition 6.
    """
    e, a = self.epsilon, order
    logs = np.array(
        [
            math.log(a / (2 * a - 1)) + (a - 1) * e,
            math.log((a - 1) / (2 * a - 1)) - a * e,
        ]
    )
    return max(0.0, float(log_sums.log_sum_exp(logs)) / (a - 1))


@dataclasses.dataclass(frozen=True)
class DiscreteLaplace(Atoms):
  """Two-sided geometric noise on an integer.

  Attributes:
    rate: Reciprocal of the scale: P(x) falls as exp(-rate |x|).
    sensitivity: Largest change of the integer.
  """

  rate: float
  sensitivity: int

  def atoms(
      self, interval: float, tail: float
  ) -> tuple[np.ndarray, np.ndarray, float]:
    """See `Atoms`."""
    del interval, tail
    total = 1 + math.exp(-self.rate)
    x = np.arange(1, self.sensitivity)
    most = self.rate * self.sensitivity
    inner = -math.expm1(-self.rate) / total * np.exp(-self.rate * x)
    return (
        np.concatenate([[most], most - 2 * self.rate * x, [-most]]),
        np.concatenate([[1 / total], inner, [math.exp(-most) / total]]),
        0.0,
    )

  def span(self, tail: float) -> tuple[float, float]:
    """See `Atoms`."""
    del tail
    most = self.rate * self.sensitivity
    return -most, most

  @property
  def deviation(self) -> float:
    """See `Atoms`."""
    return self.rate * self.sensitivity


@dataclasses.dataclass(frozen=True)
class DiscreteGaussian(Atoms):
  """Discrete Gaussian noise on an integer.

  Attributes:
    stddev: Parameter sigma: P(x) falls as exp(-x^2 / (2 sigma^2)).
    sensitivity: Largest change of the integer.
  """

  stddev: float
  sensitivity: int

  def atoms(
      self, interval: float, tail: float
  ) -> tuple[np.ndarray, np.ndarray, float]:
    """See `Atoms`.

    Beyond the window both data sets have less than the tail: P(|x| >= r) is at
    most twice exp(-r^2 / (2 sigma^2)).
    """
    del interval
    reach = self._reach(tail)
    x = np.arange(-reach, reach + self.sensitivity + 1)
    logs = -0.5 * (x / self.stddev) ** 2
    probs = np.exp(logs - float(log_sums.log_sum_exp(logs)))
    moved = self.sensitivity * (self.sensitivity - 2.0 * x)
    return moved / (2 * self.stddev**2), probs, min(1.0, 2 * tail)

  def _reach(self, tail: float) -> int:
    deviations = math.sqrt(2 * math.log(4 / max(tail, 1e-300)))
    return math.ceil(self.stddev * deviations) + 1

  def span(self, tail: float) -> tuple[float, float]:
    """See `Atoms`."""
    reach, moved = self._reach(tail), self.sensitivity
    most = moved * (moved + 2 * reach) / (2 * self.stddev**2)
    return -most, most

  @property
  def deviation(self) -> float:
    """See `Atoms`."""
    return self.sensitivity / self.stddev


@dataclasses.dataclass(frozen=True)
class Response(Atoms):
  """A randomised response, or any (epsilon, delta) guarantee at its worst.

  Attributes:
    epsilon: Loss of the true answer.
    delta: Probability of an infinite loss.
    num_answers: Number of answers.
  """

  epsilon: float
  delta: float = 0.0
  num_answers: int = 2

  def atoms(
      self, interval: float, tail: float
  ) -> tuple[np.ndarray, np.ndarray, float]:
    """See `Atoms`."""
    del interval, tail
    others = self.num_answers - 1
    false = math.exp(
        -self.epsilon - math.log1p(others * math.exp(-self.epsilon))
    )
    probs = np.array([1 - others * false, (others - 1) * false, false])
    losses = np.array([self.epsilon, 0.0, -self.epsilon])
    return losses, (1 - self.delta) * probs, self.delta

  def span(self, tail: float) -> tuple[float, float]:
    """See `Atoms`."""
    del tail
    return -self.epsilon, self.epsilon

  @property
  def deviation(self) -> float:
    """See `Atoms`."""
    return self.epsilon
