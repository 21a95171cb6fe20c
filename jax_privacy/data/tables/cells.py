"""Cells of one column, of whichever file or frame.

Invariant: every refusal names the rule, and says that the row and the value it
shows are private. A missing cell has place -1.

>>> cells = from_array(np.array([2.5, np.nan, 2.5]))
>>> cells.values.tolist(), cells.places.tolist()
([2.5, nan, 2.5], [0, -1, 2])
>>> cells.refuse(cells.values > 2, rule="at most 2")
Traceback (most recent call last):
...
ValueError: must be at most 2, got 2.5 in row 1 (row and value are private, \
not for release).
"""

import datetime
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jax_privacy.data import bounded

_DAYS = "datetime64[D]"


class Cells(NamedTuple):
  """Some rows of a column.

  Attributes:
    values: Numbers or datetime64[D] of one dimension, or objects: text,
      numbers, booleans and dates.
    places: Int64 [num_rows]: where in `values` a row's value is, -1 if missing.
    first_row: The number of the first row in its table, counted from 1.
  """

  values: np.ndarray
  places: np.ndarray
  first_row: int = 1

  @property
  def is_missing(self) -> np.ndarray:
    """Bool [num_rows]."""
    return self.places < 0

  def without(self, missing_texts: Sequence[str]) -> "Cells":
    """Returns the cells with some texts as missing.

    Args:
      missing_texts: Texts that mean that a value is missing.
    """
    if self.values.dtype != object or not len(self.values):
      return self
    means_missing = np.array(
        [isinstance(v, str) and v in missing_texts for v in self.values], bool
    )
    places = np.where(means_missing[self.places], -1, self.places)
    return self._replace(places=np.where(self.is_missing, -1, places))

  def take(self, of_values: np.ndarray, *, missing: Any) -> np.ndarray:
    """Returns, for each row, what belongs to its value.

    Args:
      of_values: Array [len(values)].
      missing: Entry of a missing cell.

    Returns:
      An array [num_rows].
    """
    if not len(of_values):
      return np.full(len(self.places), missing, of_values.dtype)
    taken = of_values[self.places]
    taken[self.is_missing] = missing
    return taken

  def refuse(
      self, is_wrong: np.ndarray, *, rule: str, remedy: str = ""
  ) -> None:
    """Refuses the first row that has a wrong value.

    Args:
      is_wrong: Bool [len(values)].
      rule: Rule that a value must follow, for the error text.
      remedy: Advice for the error text.

    Raises:
      ValueError: If a row has one.
    """
    rows = np.flatnonzero(self.take(is_wrong, missing=False))
    if len(rows):
      value = self.values[self.places[rows[0]]]
      self._fail(rows[0], rule, _shown(_scalar(value)), remedy)

  def refuse_missing(self, *, remedy: str) -> None:
    """Refuses the first row whose value is missing.

    Args:
      remedy: Advice for the error text.

    Raises:
      ValueError: If a row has none.
    """
    rows = np.flatnonzero(self.is_missing)
    if len(rows):
      self._fail(rows[0], "given", "none", remedy)

  def _fail(self, row, rule, shown, remedy) -> None:
    end = f": {remedy}" if remedy else ""
    raise ValueError(
        f"must be {rule}, got {shown} in row {self.first_row + int(row)} (row"
        f" and value are {bounded.PRIVATE}){end}."
    )


def from_array(
    array: np.ndarray, *, first_row: int = 1, exact: bool = False
) -> Cells:
  """Returns the cells of a NumPy array.

  Args:
    array: Array [num_rows] of numbers, booleans, dates, text or objects; NaN,
      NaT and None are missing.
    first_row: Number of the first row, as in `Cells`.
    exact: Whether numbers keep their type: float64 makes one of two large ids.

  Raises:
    ValueError: If it is of another shape or type.
  """
  if array.ndim != 1:
    raise ValueError(f"must be 1-D, got {list(array.shape)}.")
  kind, places = array.dtype.kind, np.arange(len(array))
  if kind in "iuf":
    values = array if exact else array.astype(np.float64)
    is_missing = np.isnan(values)
  elif kind == "M":
    values = array.astype(_DAYS)
    is_missing = np.isnat(values)
  elif kind in "bUSTO":
    values, places = _distinct(array, first_row)
    return Cells(values, places, first_row)
  else:
    raise ValueError(
        f"must be numbers, booleans, dates or text, got {array.dtype}."
    )
  return Cells(values, np.where(is_missing, -1, places), first_row)


def number(value: Any) -> float:
  """Returns a number, or NaN for what is none.

  Args:
    value: Value of a cell.
  """
  if isinstance(value, str) and "_" in value:  # Python's own 1_000.
    return math.nan
  try:
    return float(value)
  except OverflowError:
    return math.inf if value > 0 else -math.inf
  except (TypeError, ValueError):
    return math.nan


def text(value: Any) -> str:
  """Returns a category's text: of whole numbers, without a point.

  Args:
    value: Value of a cell.
  """
  value = _scalar(value)
  if isinstance(value, float) and value.is_integer():
    value = int(value)
  try:
    return value if isinstance(value, str) else str(value)
  except ValueError:  # As for `_shown`.
    return ""


def date(value: Any) -> np.datetime64:
  """Returns a day, or NaT for what is none; text is as 2026-01-31.

  Args:
    value: Value of a cell.
  """
  if isinstance(value, np.datetime64):
    return value.astype(_DAYS)
  if isinstance(value, datetime.datetime):
    value = value.date()
  if isinstance(value, str) and value[4:5] == value[7:8] == "-":
    try:
      value = datetime.datetime.fromisoformat(value).date()
    except ValueError:
      return np.datetime64("NaT", "D")
  if isinstance(value, datetime.date):
    return np.datetime64(value, "D")
  return np.datetime64("NaT", "D")


def of_values(
    cells: Cells, convert: Callable[[Any], Any], dtype: Any
) -> np.ndarray:
  """Returns each value converted, [len(values)].

  Args:
    cells: Cells of a column.
    convert: Function of one value.
    dtype: Type of the array; values of that type are not converted.
  """
  if cells.values.dtype == np.dtype(dtype) and dtype is not object:
    return cells.values
  return np.array([convert(value) for value in cells.values], dtype=dtype)


def grouped(cells: Cells) -> Cells:
  """Returns the same cells with each value once.

  Args:
    cells: Cells of a column.
  """
  if cells.values.dtype == object:
    return cells
  values, places = np.unique(cells.values, return_inverse=True)
  places = cells.take(places.astype(np.int64), missing=-1)
  return cells._replace(values=values, places=places)


def _distinct(
    array: np.ndarray, first_row: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the values of an array of objects, each once, and their places."""
  values: list[Any] = []
  known: dict[Any, int] = {}
  places = np.empty(len(array), np.int64)
  for row, value in enumerate(array.tolist()):
    if _is_none(value):
      places[row] = -1
      continue
    if isinstance(value, bytes):
      try:
        value = value.decode("utf-8")
      except UnicodeDecodeError:
        raise ValueError(
            f"must be text in UTF-8, got other bytes in row {first_row + row}"
            f" ({bounded.PRIVATE})."
        ) from None
    key = (type(value), value)
    try:
      place = known.setdefault(key, len(values))
    except TypeError:
      raise ValueError(
          f"must be numbers, booleans, dates or text, got a"
          f" {type(value).__name__} in row {first_row + row}"
          f" ({bounded.PRIVATE})."
      ) from None
    if place == len(values):
      values.append(value)
    places[row] = place
  found = np.empty(len(values), object)
  found[:] = values
  return found, places


def _is_none(value: Any) -> bool:
  """Tells what means no value: None, NaN, NaT and pandas' NA."""
  if value is None:
    return True
  try:
    return bool(value != value)
  except (TypeError, ValueError):  # NA has no truth value.
    return type(value).__name__ == "NAType"


def _scalar(value: Any) -> Any:
  """Returns a NumPy scalar as Python's."""
  return value.item() if isinstance(value, np.generic) else value


def _shown(value: Any) -> str:
  try:
    return bounded.short(repr(value))
  except ValueError:  # An integer of more digits than Python prints.
    return f"a {type(value).__name__} too long to show"
