"""Axes of arrays, for rules.

Invariant: nothing here computes on arrays.

Example:
  >>> from jax_privacy.ghost.rules import axes
  >>> axes.others(4, (1,), (3,))
  (0, 2)
  >>> axes.inverse((2, 0, 1))
  (1, 2, 0)
"""

import math
from collections.abc import Sequence
from typing import Any


def others(ndim: int, *taken: Sequence[int]) -> tuple[int, ...]:
  """Returns the axes of an array that are in none of `taken`.

  Args:
    ndim: Number of axes of the array.
    *taken: Axes.
  """
  return tuple(i for i in range(ndim) if not any(i in axes for axes in taken))


def size(aval: Any, axes: Sequence[int]) -> int:
  """Returns the product of an array's lengths along `axes`.

  Args:
    aval: Shape and dtype of the array.
    axes: Some of its axes.
  """
  return math.prod(aval.shape[i] for i in axes)


def inverse(order: Sequence[int]) -> tuple[int, ...]:
  """Returns the permutation that undoes `order`.

  Args:
    order: A permutation of axes.
  """
  return tuple(sorted(range(len(order)), key=order.__getitem__))
