"""Searches a monotone test from its safe side, and checks shared arguments.

Invariant: what `largest_rejected` returns was itself rejected (or is 0), so
that rounding makes a lower bound lower, never higher.

Example:
  >>> from jax_privacy.auditing import _search
  >>> 2.999 < _search.largest_rejected(lambda x: x < 3.0) < 3.0
  True
"""

import math
from collections.abc import Callable
from typing import Any

from jax_privacy import _validate

# Relative width at which the search stops.
_TOLERANCE = 1e-6
# An epsilon or mu that no experiment can reach: beyond it, say infinity.
_LIMIT = 2.0**40


def largest_rejected(rejects_fn: Callable[[float], bool]) -> float:
  """Returns about the largest x >= 0 that is rejected, found from below.

  Args:
    rejects_fn: True up to some x and False from there on.

  Returns:
    An x that is rejected and within a millionth (relative, or absolute below
    1) of one that is not; 0 if none is; infinity if 2^40 still is.
  """
  if not rejects_fn(0.0):
    return 0.0
  low, high = 0.0, 1.0
  while rejects_fn(high):
    low, high = high, 2 * high
    if high > _LIMIT:
      return math.inf
  while high - low > _TOLERANCE * max(low, 1.0):
    middle = (low + high) / 2
    low, high = (middle, high) if rejects_fn(middle) else (low, middle)
  return low


def significance(value: Any) -> float:
  """Returns a probability of error in (0, 1) as a float."""
  number = _validate.as_float(value)
  if not 0 < number < 1:
    _validate.fail("significance", "in (0, 1)", value)
  return number


def delta(value: Any, *, positive: bool = False) -> float:
  """Returns delta in [0, 1), or in (0, 1), as a float."""
  number = _validate.as_float(value)
  if positive and not 0 < number < 1:
    _validate.fail("delta", "in (0, 1)", value)
  if not 0 <= number < 1:
    _validate.fail("delta", "in [0, 1)", value)
  return number
