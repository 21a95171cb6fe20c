"""The distribution of a run's privacy loss, and what is read from it.

Invariant: every answer is an upper bound, where the sums are.

>>> upper, lower = np.array([1.0, 0.5, 0.0]), np.array([0.7, 0.5, 0.0])
>>> half = Direction(np.arange(2.0), 0.0, upper, lower)
>>> round(half.epsilon(0.1), 3)
0.777
"""

import math
from typing import NamedTuple

import numpy as np


class Direction(NamedTuple):
  """Distribution of the loss in one direction, removing or adding.

  Attributes:
    losses: Ascending losses, one bin apart: logarithms of likelihood ratios.
    infinity_mass: Probability of an infinite loss.
    upper: Sums of probabilities under the first data set, from each bin
      upwards, and a zero at the end.
    lower: The same of `probs * exp(loss of the first bin - loss)`: the second
      data set's, scaled by a factor of each bin's own so as not to overflow.
  """

  losses: np.ndarray
  infinity_mass: float
  upper: np.ndarray
  lower: np.ndarray

  def deltas(self, epsilons: np.ndarray) -> np.ndarray:
    """Returns hockey-stick divergences at any epsilons, of either sign.

    Args:
      epsilons: Epsilons, shape [n].
    """
    first = np.searchsorted(self.losses, epsilons, side="right")
    # Above the last bin both sums are 0, whatever the exponent.
    nearest = self.losses[np.minimum(first, len(self.losses) - 1)]
    factor = np.exp(np.minimum(epsilons - nearest, 0.0))
    value = self.upper[first] - factor * self.lower[first]
    return np.clip(self.infinity_mass + value, 0.0, 1.0)

  def epsilon(self, delta: float) -> float:
    """Returns the least epsilon >= 0 whose divergence is within delta.

    Args:
      delta: Delta of the guarantee.
    """
    if self.infinity_mass > delta:
      return math.inf
    if self.deltas(np.zeros(1))[0] <= delta:
      return 0.0
    # Divergence falls with epsilon: it passes delta between the last bin that
    # exceeds it and the next, and only mass from that next bin on counts.
    decay = math.exp(self.losses[0] - self.losses[1])
    here = self.infinity_mass + self.upper[1:] - decay * self.lower[1:]
    exceeding = np.flatnonzero(here > delta)
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
    excess: Estimated relative distance of an epsilon above the truth.
  """

  directions: tuple[Direction, ...]
  interval: float
  excess: float

  def epsilon(self, delta: float) -> float:
    """Returns the least epsilon that holds at `delta`, or infinity.

    Args:
      delta: Delta of the guarantee.
    """
    return max(d.epsilon(delta) for d in self.directions)

  def deltas(self, epsilons: np.ndarray) -> np.ndarray:
    """Returns the least delta that holds at each of `epsilons`.

    Args:
      epsilons: Epsilons, shape [n].
    """
    return np.max([d.deltas(epsilons) for d in self.directions], axis=0)
