"""What a column of a table may hold, as its owner states it.

Invariant: bounds and categories are stated, and never read off the data: they
decide what a model sees of every row, so that numbers taken from the rows would
be a release without noise.

>>> import numpy as np
>>> from jax_privacy.data.tables import cells
>>> age = Number(bounds=(0, 120), outside="clamp", missing="indicator")
>>> age.encode(cells.from_array(np.array([30.0, 150.0, np.nan]))).tolist()
[-0.5, 1.0, 0.0]
>>> Number()
Traceback (most recent call last):
...
ValueError: bounds must be stated, as bounds = [low, high] from public \
knowledge and never from the data, got none: draft a schema from PUBLIC rows \
with `python -m experiments.schema`.
"""

import dataclasses
import datetime
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from jax_privacy.data import bounded
from jax_privacy.data.tables import cells as cells_lib

MISSING = ("refuse", "indicator")
OTHER = "other"
_MISSING_NAME = "missing"
# A trained model keeps its schema.
_BEFORE = "before a model is trained"
_MEANS_MISSING = (
    f"list its text in missing_texts, if it means a missing value, {_BEFORE}"
)
_MAX_CATEGORIES = 2**16
# What is between them is a normal float32, and so is its inverse.
_MAX_BOUND, _MIN_WIDTH = 1e30, 1e-30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Number:
  """A column of numbers.

  Args:
    bounds: Pair (low, high), in the column's units.
    outside: Rule for a number beyond them, "refuse" or "clamp".
    missing: Rule for a missing number: "refuse", or "indicator", by which
      such a row has the middle of the bounds, and a feature says so.

  Raises:
    ValueError: If one breaks its rule.
  """

  # No default is right: () is refused, by name.
  # pyrefly: ignore[bad-assignment]
  bounds: tuple[float, float] = ()
  outside: str = "refuse"
  missing: str = "refuse"

  def __post_init__(self):
    _check_rules(self, ("refuse", "clamp"))
    low, high = map(cells_lib.number, _pair(self.bounds))
    is_range = -_MAX_BOUND <= low < high <= _MAX_BOUND
    if not is_range or high - low < _MIN_WIDTH:
      raise ValueError(
          "bounds must be two numbers, [low, high], low below high, within"
          f" {_MAX_BOUND:g}, got {bounded.short(repr(self.bounds))}."
      )
    object.__setattr__(self, "bounds", (low, high))

  def encode(self, cells: cells_lib.Cells) -> np.ndarray:
    """Returns float32 [num_rows] in [-1, 1]: `raw` by the bounds.

    Args:
      cells: Cells of the column.

    Raises:
      ValueError: If a cell is refused.
    """
    return _scaled(cells, self._within(cells), self.bounds)

  def raw(self, cells: cells_lib.Cells) -> np.ndarray:
    """Returns float32 [num_rows], within the bounds, in the column's units.

    Args:
      cells: Cells of the column.

    Raises:
      ValueError: If a cell is refused, or missing.
    """
    taken = cells.take(self._within(cells), missing=math.nan)
    return taken.astype(np.float32)

  def is_outside(self, cells: cells_lib.Cells) -> np.ndarray:
    """Returns bool [num_rows]: whether a number is beyond the bounds.

    Args:
      cells: Cells of the column.
    """
    low, high = self.bounds
    found = cells_lib.of_values(cells, cells_lib.number, np.float64)
    return cells.take((found < low) | (found > high), missing=False)

  def _within(self, cells) -> np.ndarray:
    _check_missing(self, cells)
    low, high = self.bounds
    found = cells_lib.of_values(cells, cells_lib.number, np.float64)
    cells.refuse(np.isnan(found), rule="a number", remedy=_MEANS_MISSING)
    if self.outside == "refuse":
      cells.refuse(
          (found < low) | (found > high),
          rule=f"in its stated bounds [{low:g}, {high:g}]",
          remedy=f'state wider bounds, or outside = "clamp", {_BEFORE}',
      )
    return np.clip(found, low, high)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Date:
  """A column of days, as 2026-01-31; a time of day is left out.

  Args:
    bounds: Pair (first, last) of days, each a date or its text.
    outside: Rule, as in `Number`.
    missing: Rule, as in `Number`.

  Raises:
    ValueError: If one breaks its rule.
  """

  # pyrefly: ignore[bad-assignment]
  bounds: tuple[datetime.date, datetime.date] = ()
  outside: str = "refuse"
  missing: str = "refuse"

  def __post_init__(self):
    _check_rules(self, ("refuse", "clamp"))
    first, last = map(cells_lib.date, _pair(self.bounds))
    if not first < last:
      raise ValueError(
          "bounds must be two dates, [first, last], first before last, got"
          f" {bounded.short(repr(self.bounds))}."
      )
    object.__setattr__(self, "bounds", (first.item(), last.item()))

  def encode(self, cells: cells_lib.Cells) -> np.ndarray:
    """Returns float32 [num_rows]: -1 for the first day, 1 for the last.

    Args:
      cells: Cells of the column.

    Raises:
      ValueError: If a cell is refused.
    """
    _check_missing(self, cells)
    found = cells_lib.of_values(cells, cells_lib.date, "datetime64[D]")
    cells.refuse(
        np.isnat(found),
        rule="a date such as 2026-01-31",
        remedy=_MEANS_MISSING,
    )
    days = found.astype(np.int64).astype(np.float64)
    first, last = self.bounds
    low, high = self.days
    if self.outside == "refuse":
      cells.refuse(
          (days < low) | (days > high),
          rule=f"in its stated bounds [{first}, {last}]",
          remedy=f'state wider bounds, or outside = "clamp", {_BEFORE}',
      )
    return _scaled(cells, np.clip(days, low, high), (low, high))

  @property
  def days(self) -> tuple[float, float]:
    """The bounds, in days since 1970-01-01."""
    low, high = (np.datetime64(day, "D").astype(int) for day in self.bounds)
    return float(low), float(high)

  def is_outside(self, cells: cells_lib.Cells) -> np.ndarray:
    """Returns bool [num_rows]: whether a day is beyond the bounds.

    Args:
      cells: Cells of the column.
    """
    first, last = (np.datetime64(day, "D") for day in self.bounds)
    found = cells_lib.of_values(cells, cells_lib.date, "datetime64[D]")
    return cells.take((found < first) | (found > last), missing=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Category:
  """A column of texts, each one of a list; numbers count by their text.

  Args:
    values: List of two or more.
    outside: Rule for what is not listed: "refuse", or "other", one more
      category.
    missing: Rule for a missing value: "refuse", or "indicator", one more
      category.

  Raises:
    ValueError: If one breaks its rule.
  """

  values: tuple[str, ...] = ()
  outside: str = "refuse"
  missing: str = "refuse"

  def __post_init__(self):
    _check_rules(self, ("refuse", OTHER))
    if _is_unstated(self.values):
      raise ValueError(_unstated("values", 'values = ["yes", "no"]'))
    is_list = isinstance(self.values, Sequence | np.ndarray)
    is_list = is_list and not isinstance(self.values, str)
    if not is_list or len(self.values) > _MAX_CATEGORIES:
      raise ValueError(
          f"values must be a list of at most {_MAX_CATEGORIES}, got"
          f" {bounded.short(repr(self.values))}."
      )
    names = tuple(map(cells_lib.text, self.values))
    printable = all(name.isprintable() for name in names)
    if len(set(names)) != len(names) or len(names) < 2 or not printable:
      raise ValueError(
          "values must be two or more different printable texts (a constant"
          f" column says nothing), got {bounded.short(repr(self.values))}."
      )
    object.__setattr__(self, "values", names)

  @property
  def names(self) -> tuple[str, ...]:
    """The listed values, and names for others and for missing ones."""
    more = [OTHER] * (self.outside == OTHER)
    more += [_MISSING_NAME] * (self.missing == "indicator")
    return (*self.values, *(f"({name})" for name in more))

  def encode(self, cells: cells_lib.Cells) -> np.ndarray:
    """Returns int32 [num_rows] in [0, len(names)).

    Args:
      cells: Cells of the column.

    Raises:
      ValueError: If a cell is refused.
    """
    _check_missing(self, cells)
    cells = cells_lib.grouped(cells)
    known = {name: code for code, name in enumerate(self.values)}
    other = len(self.values) if self.outside == OTHER else -1
    codes = np.array(
        [known.get(cells_lib.text(value), other) for value in cells.values],
        np.int32,
    )
    cells.refuse(
        codes < 0,
        rule=f"one of its {len(self.values)} stated values",
        remedy=(
            "list it among values, or, of what is no target, state outside ="
            f' "other", {_BEFORE}'
        ),
    )
    return cells.take(codes, missing=len(self.names) - 1)

  def is_outside(self, cells: cells_lib.Cells) -> np.ndarray:
    """Returns bool [num_rows]: whether a value is not listed.

    Args:
      cells: Cells of the column.
    """
    cells, known = cells_lib.grouped(cells), set(self.values)
    is_new = [cells_lib.text(value) not in known for value in cells.values]
    return cells.take(np.array(is_new, bool), missing=False)


Column: TypeAlias = Number | Date | Category
_KINDS = {"number": Number, "date": Date, "category": Category}


def from_dict(stated: Any) -> Column:
  """Returns a column from what a schema file or a config states of it.

  Args:
    stated: Fields by name: "kind", one of number, date and category, and
      those of that class.

  Raises:
    ValueError: If a field is unknown or breaks its rule.
  """
  kind = stated.get("kind") if isinstance(stated, Mapping) else None
  if not isinstance(kind, str) or kind not in _KINDS:
    raise ValueError(
        f"kind must be one of {', '.join(_KINDS)}, got"
        f" {bounded.short(repr(kind))}."
    )
  fields = {field.name for field in dataclasses.fields(_KINDS[kind])}
  for name in stated:
    if name not in fields | {"kind"}:
      raise ValueError(
          f"a {kind} must state {', '.join(sorted(fields))} alone, got"
          f" {bounded.short(repr(name))}."
      )
  return _KINDS[kind](**{k: v for k, v in stated.items() if k != "kind"})


def to_dict(column: Column) -> dict[str, Any]:
  """Returns what `from_dict` takes.

  Args:
    column: Column of a schema.
  """
  (kind,) = (k for k, of_kind in _KINDS.items() if type(column) is of_kind)
  return {"kind": kind, **dataclasses.asdict(column)}


def _check_rules(column: Column, outside: Sequence[str]) -> None:
  for name, choices in (("outside", outside), ("missing", MISSING)):
    if getattr(column, name) not in choices:
      raise ValueError(
          f"{name} must be {' or '.join(map(repr, choices))}, got"
          f" {bounded.short(repr(getattr(column, name)))}."
      )


def _check_missing(column: Column, cells: cells_lib.Cells) -> None:
  if column.missing == "refuse":
    cells.refuse_missing(
        remedy=(
            'state missing = "indicator" to allow it, or, of a target, leave'
            f" such rows out, {_BEFORE}"
        )
    )


def _pair(bounds: Any) -> tuple[Any, Any]:
  if _is_unstated(bounds):
    raise ValueError(_unstated("bounds", "bounds = [low, high]"))
  is_pair = isinstance(bounds, list | tuple) and len(bounds) == 2
  if not is_pair or any(isinstance(bound, bool) for bound in bounds):
    raise ValueError(
        f"bounds must be [low, high], got {bounded.short(repr(bounds))}."
    )
  return tuple(bounds)


def _is_unstated(value: Any) -> bool:
  return value is None or (isinstance(value, list | tuple) and not value)


def _unstated(name: str, form: str) -> str:
  return (
      f"{name} must be stated, as {form} from public knowledge and never from"
      " the data, got none: draft a schema from PUBLIC rows with `python -m"
      " experiments.schema`."
  )


def _scaled(cells, values, bounds) -> np.ndarray:
  """Takes [low, high] to [-1, 1], and what is missing to the middle."""
  low, high = bounds
  scaled = 2 * ((values - low) / (high - low)) - 1
  return cells.take(scaled, missing=0.0).astype(np.float32)
