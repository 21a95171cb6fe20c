"""Columns that are in no example, such as the ids of persons.

Invariant: a column is private, like the examples, and nothing reads one but
what asks for it by name.

>>> read_column = held({"person": ["al", "bo"]})
>>> read_column("person").tolist()
['al', 'bo']
>>> read_column("patient")
Traceback (most recent call last):
...
ValueError: column must be one of person, got 'patient'.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from jax_privacy.data import bounded


def held(
    columns: Mapping[str, Any],
) -> Callable[[str], np.ndarray]:
  """Returns a `read_column` of columns that are in memory.

  Args:
    columns: Values [n] by name; a list is kept as it is, since NumPy would make
      its values of one type.
  """
  return functools.partial(_held_column, dict(columns))


def _held_column(columns: dict[str, Any], name: str) -> np.ndarray:
  if name not in columns:
    refuse(name, sorted(columns))
  values = columns[name]
  if isinstance(values, np.ndarray):  # A masked one stays masked.
    return values
  array = np.empty(len(values), object)
  array[:] = values
  return array


def refuse(name: str, names: Sequence[str]) -> NoReturn:
  """Says that a source has no such column.

  Args:
    name: Name that was asked for.
    names: Names that there are.

  Raises:
    ValueError: Always.
  """
  shown = bounded.short(repr(name))
  rule = f"one of {bounded.short(', '.join(names))}" if names else ""
  raise ValueError(
      f"column must be {rule or 'none: the source has none'}, got {shown}."
  )
