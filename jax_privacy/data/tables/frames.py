"""Rows of a pandas or polars frame, or of a NumPy structured array.

Invariant: a frame is read by what the two libraries share (its columns' names,
and each column as a NumPy array), so that neither is imported.

>>> rows = np.array([(41, "a"), (7, "b")], [("age", int), ("name", "U1")])
>>> (block,) = read_frame(rows, columns=("age",))
>>> block["age"].values.tolist()
[41.0, 7.0]
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jax_privacy.data import bounded
from jax_privacy.data.tables import cells as cells_lib
from jax_privacy.data.tables import files


def read_frame(
    frame: Any, *, columns: Sequence[str], exact: bool = False
) -> Iterator[files.Block]:
  """Yields all rows of some columns, as one block.

  Args:
    frame: A pandas or polars frame, or a NumPy structured array [num_rows].
    columns: Names of columns that it must have.
    exact: Whether numbers keep their type, as ids must.

  Raises:
    ValueError: If it is no such frame, or lacks a column.
  """
  names = column_names(frame)
  found: files.Block = {}
  for name in columns:
    if names.count(name) != 1:
      raise ValueError(
          f"column {name!r} must be in the frame once, got"
          f" {bounded.short(', '.join(names))}."
      )
    try:
      found[name] = cells_lib.from_array(_array(frame[name]), exact=exact)
    except ValueError as error:
      raise ValueError(f"column {name!r} {error}") from None
  if not len(frame):
    raise ValueError("the frame must hold a row, got none.")
  yield found


def column_names(frame: Any) -> tuple[str, ...]:
  """Returns the names of a frame's columns.

  Args:
    frame: A frame, as for `read_frame`.

  Raises:
    ValueError: If it is no frame.
  """
  if isinstance(frame, np.ndarray) and frame.dtype.names and frame.ndim == 1:
    return frame.dtype.names
  if hasattr(frame, "columns") and hasattr(frame, "__getitem__"):
    return tuple(map(str, frame.columns))
  raise ValueError(
      "frame must be a pandas or polars frame, or a NumPy structured array"
      f" [num_rows], got {type(frame).__name__}."
  )


def _array(column: Any) -> np.ndarray:
  if isinstance(column, np.ndarray):
    return column
  # A column of text that may be missing has types of its own in both.
  return np.asarray(column.to_numpy())
