"""How many of a user's examples are in a batch, and how likely each number is.

Invariant: what is left out moves up, so that the mixture of Gaussians that is
made from it is at least as easy to tell from no example at all.

>>> numbers, weights = numbers_in_batch(2, 0.5)
>>> numbers, f"{weights[1]:.3f}"
((0, 1, 2), '0.500')
"""

import functools
import math

import numpy as np

# Less than this is nothing next to the rounding of a double.
_DUST = 1e-40
# How many components a user's mixture may have.
MAX_NUMBERS = 200


@functools.lru_cache(maxsize=64)
def numbers_in_batch(
    count: int, prob: float
) -> tuple[tuple[int, ...], tuple[float, ...]]:
  """Returns numbers of a user's examples in a batch, and their probabilities.

  Few of them, and none too small: what is left out below, or between two, moves
  up to the next. That is no more private: of a larger sum more lies beyond any
  threshold, and the other data set's stays where it is. What is left out at the
  top is dust.

  Args:
    count: Number of the user's examples.
    prob: Sampling probability of each.

  Returns:
    0 and rising numbers, and the probability of each.
  """
  from scipy import stats

  # By Bernstein's inequality less than `_DUST` lies further from the mean: of
  # t = 62 + 14 sqrt(v), t^2 is above 2 x 92.2 x (v + t / 3).
  reach = 62 + 14 * math.sqrt(count * prob * (1 - prob))
  low = max(0, math.floor(count * prob - reach))
  numbers = np.arange(low, min(count, math.ceil(count * prob + reach)) + 1)
  weights = stats.binom.pmf(numbers, count, prob)
  while weights[-1] < _DUST:
    numbers, weights = numbers[:-1], weights[:-1]
  if (every := -(-len(numbers) // MAX_NUMBERS)) > 1:
    first = 1 if low == 0 else 0  # 0 stays: its mass must not move up.
    starts = np.arange(first, len(numbers), every)
    blocks = np.add.reduceat(weights, starts)
    ends = np.append(numbers[starts[1:] - 1], numbers[-1])
    numbers = np.append(numbers[:first], ends)
    weights = np.append(weights[:first], blocks)
  numbers, weights = numbers.tolist(), weights.tolist()
  weights[weights.index(max(weights))] += 1 - math.fsum(weights)
  if numbers[0]:  # What the mixture is compared with does not move.
    numbers, weights = [0, *numbers], [0.0, *weights]
  return tuple(numbers), tuple(weights)
