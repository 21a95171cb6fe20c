"""Finds where a slow, monotone function crosses a target, in few calls.

Epsilon against noise, steps or batch size is close to a straight line in
logarithms, so that regula falsi there needs a handful of calls. Invariant: the
answer is a point that was evaluated and found within the target, never one
that was only interpolated.

>>> found = smallest(lambda x: 1 / x, target=0.5, guess=1, low=0.1, high=9)
>>> round(found, 2)
2.0
>>> largest_integer(lambda n: n * n, target=50.0, guess=3, high=100)
7
"""

import math
from collections.abc import Callable

_MAX_CALLS = 200
# Of a curve that flattens, as with other releases, interpolation closes in
# from one side alone.
_BISECT_FROM = 8


def smallest(
    fn: Callable[[float], float],
    *,
    target: float,
    guess: float,
    low: float,
    high: float,
    rtol: float = 1e-4,
) -> float | None:
  """Returns a point just within the target, of a falling function.

  Args:
    fn: Positive, non-increasing function of a positive number.
    target: Largest value of `fn` that will do.
    guess: Point to start at, between `low` and `high`.
    low: Least point considered.
    high: Greatest point considered.
    rtol: Relative distance below the target that is near enough.

  Returns:
    x with fn(x) <= target, and fn(x) >= target * (1 - rtol) where fn takes
    such a value; `low` if that is within already; None if `high` is not.

  Raises:
    RuntimeError: If the function is not monotone.
  """
  # Aims at the middle of the accepted range, to fall on neither side of it.
  goal = math.log(target) + 0.5 * math.log1p(-rtol)
  x, slope = min(max(guess, low), high), 1.5
  inside = outside = previous = None
  for turn in range(_MAX_CALLS):
    point = (x, fn(x))
    if point[1] <= target:
      inside = point
      if point[1] >= target * (1 - rtol) or x <= low:
        return x
    else:
      outside = point
      if x >= high:
        return None
    if inside is not None and outside is not None:
      if math.log(inside[0] / outside[0]) < 1e-9:
        return inside[0]  # fn jumps over the accepted range.
      if turn >= _BISECT_FROM and turn % 2:  # One end has not moved.
        x = math.sqrt(inside[0] * outside[0])
      else:
        x = math.exp(_between(outside, inside, goal))
    else:
      slope = _slope(previous, point, slope)
      x = min(max(x * _stride(point[1], goal, slope, turn), low), high)
    previous = point
  raise RuntimeError("The search did not end: the function is not monotone.")


def _slope(previous, point, slope: float) -> float:
  """How fast log fn falls with log x, from the last two points."""
  if previous is None or not (
      0 < point[1] < math.inf and 0 < previous[1] < math.inf
  ):
    return slope
  run = math.log(previous[0] / point[0])
  rise = math.log(point[1] / previous[1])
  return min(max(rise / run, 0.1), 50.0) if run != 0 else slope


def _stride(value: float, goal: float, slope: float, turn: int) -> float:
  """Factor from a point towards the goal, while only one side is known."""
  if value == 0:
    return 0.5
  if math.isinf(value):
    return 2.0
  # Longer and longer, lest a wrong slope never reaches the other side.
  step = (math.log(value) - goal) / slope * 1.5 ** max(0, turn - 2)
  return math.exp(min(max(step, -3.0), 3.0))


def _between(outside, inside, goal: float) -> float:
  """Logarithm of the next point: interpolated, and kept off the ends."""
  left, right = math.log(outside[0]), math.log(inside[0])
  middle = 0.5 * (left + right)
  if not (0 < inside[1] and math.isfinite(outside[1])):
    return middle
  above, below = math.log(outside[1]), math.log(inside[1])
  if above - below < 1e-12:
    return middle
  share = (above - goal) / (above - below)
  return left + min(max(share, 0.01), 0.99) * (right - left)


def largest_integer(
    fn: Callable[[int], float],
    *,
    target: float,
    guess: int,
    high: int,
) -> int | None:
  """Returns the largest integer within the target, of a rising function.

  Args:
    fn: Non-negative, non-decreasing function of an integer of at least 1.
    target: Largest value of `fn` that will do.
    guess: Integer to start at.
    high: Largest integer considered.

  Returns:
    n with fn(n) <= target, and fn(n + 1) > target unless n is `high`; None
    if fn(1) > target.

  Raises:
    RuntimeError: If the function is not monotone.
  """
  n = min(max(guess, 1), high)
  inside = outside = None
  stride, turn = 1, 0
  for _ in range(_MAX_CALLS):
    value = fn(n)
    if value <= target:
      inside = (n, value)
      if n == high:
        return n
    else:
      outside = (n, value)
      if n == 1:
        return None
    if inside is not None and outside is not None:
      if outside[0] - inside[0] == 1:
        return inside[0]
      n, turn = _next_integer(inside, outside, target, turn), turn + 1
    elif inside is not None:
      n, stride = min(high, inside[0] + stride), stride * 8
    elif outside is not None:
      n, stride = max(1, outside[0] - stride), stride * 8
  raise RuntimeError("The search did not end: the function is not monotone.")


def _next_integer(inside, outside, target: float, turn: int) -> int:
  """The next integer to try, strictly between the two."""
  low, high = inside[0], outside[0]
  if turn % 3 == 2 or not (inside[1] > 0 and math.isfinite(outside[1])):
    return (low + high) // 2
  rise = math.log(outside[1] / inside[1])
  share = math.log(target / inside[1]) / rise if rise > 0 else 0.5
  point = low * math.exp(share * math.log(high / low))
  # Rounding up on every other turn closes in from both sides.
  rounded = math.floor(point) + turn % 2
  return min(max(rounded, low + 1), high - 1)
