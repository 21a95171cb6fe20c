"""Reads the ids of persons, or of other privacy units, one for each row.

A guarantee for persons holds only if all rows of a person have one id. So ids
that may name one person in two ways are refused, not guessed: missing ids,
spellings that differ in case or blanks or leading zeros, fractions, floats too
large to be exact. Two persons under one id would be as wrong: adding one of
them would replace the example that both share.

The invariant: equal codes are equal ids, and no two ids of a column that were
accepted are alike but for their spelling. An error shows row numbers, counted
from 1, which are private, and no id.

Example:
  >>> import numpy as np
  >>> from jax_privacy import unit_ids
  >>> unit_ids.read(np.array(["bo", "al", "bo"])).codes
  array([1, 0, 1])
  >>> unit_ids.read(["al", "Al "])
  Traceback (most recent call last):
  ...
  ValueError: ids must be spelt in one way each, got two spellings of one id \
(rows 1 and 2, counted from 1: private, not for release). Make them equal, or, \
if they are of two units, number the units.
"""

import dataclasses
import decimal
import math
import numbers
import re
import unicodedata
from typing import Any, NoReturn

import jax
import numpy as np

from jax_privacy import _validate

# How programs write that there is no value.
_MISSING = frozenset(
    ("", "-", "--", "-1e0", "?", ".", "#n/a", "n/a", "n.a.", "na", "nan", "nat")
    + ("nil", "none", "null", "undefined", "unknown", "<na>", "<nan>", "<null>")
)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d{1,6})?")
_MISSING_RULE = (
    "given for every row (rows of nobody protect nobody: leave them out, or"
    " give each an id of its own)"
)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class UnitIds:
  """Whose each row is. PRIVATE.

  Attributes:
    codes: Numbers of the rows' units, int64 [num_rows], in the order of sorted
      ids.
    columns: The ids as they were read, each array [num_rows].
  """

  codes: np.ndarray
  columns: tuple[np.ndarray, ...]

  def name(self, row: int) -> bytes:
    """Returns bytes that the unit of a row shares with no other unit.

    Args:
      row: Number of the row.
    """
    texts = [
        str(ids[row]).encode("utf-8", "surrogatepass") for ids in self.columns
    ]
    # Lengths keep ("1", "23") from being ("12", "3").
    return b"".join(len(x).to_bytes(8, "big") + x for x in texts)


def read(ids: Any) -> UnitIds:
  """Returns whose each row is.

  Args:
    ids: Strings, bytes (UTF-8) or whole numbers [num_rows]; or [num_rows,
      num_columns], or a structured array, whose columns name a unit together.
      A NumPy array, a list, or a column of pandas, polars or pyarrow.

  Raises:
    ValueError: If there is no row; if an id is missing (None, NaN, NA, a blank,
      a word such as "null", -1, masked); if a column mixes types, or is not of
      strings or whole numbers; or if two ids may be two spellings of one.
  """
  columns = tuple(_column(values) for values in _split(ids))
  if not len(columns[0]):
    _fail("given for at least one row", "none")
  codes = np.zeros(len(columns[0]), np.int64)
  for values in columns:
    of_row = _codes(values)
    # Both are below the number of rows, so that no product overflows.
    codes = codes * (of_row.max() + 1) + of_row
    codes = np.unique(codes, return_inverse=True)[1].reshape(-1)
  return UnitIds(codes.astype(np.int64), columns)


def _codes(values: np.ndarray) -> np.ndarray:
  """Returns the place of each value among the sorted different ones."""
  if values.dtype.kind != "O":
    return np.unique(values, return_inverse=True)[1].reshape(-1)
  table = {}  # Ten times as fast as NumPy's sort of strings.
  codes = [table.setdefault(value, len(table)) for value in values.tolist()]
  places = np.empty(len(table), np.int64)
  places[[table[value] for value in sorted(table)]] = np.arange(len(table))
  return places[codes]


def num_shared(ids: Any, other_ids: Any) -> int:
  """Returns how many units have rows in both of two sets: private.

  Args:
    ids: Ids of the rows of one set, as for `read`.
    other_ids: Ids of the other set, in as many columns.

  Raises:
    ValueError: As `read`, of both together: a unit that is spelt in two ways is
      refused though each set has one of them.
  """
  sets = [[_column(values) for values in _split(x)] for x in (ids, other_ids)]
  if len(sets[0]) != len(sets[1]):
    _fail("of as many columns as the other ids", f"{len(sets[0])} columns")
  joined = np.stack(
      [
          np.concatenate([a.astype(object), b.astype(object)])
          for a, b in zip(*sets, strict=True)
      ],
      axis=1,
  )
  codes = read(joined).codes
  num_first = len(sets[0][0])
  return len(np.intersect1d(codes[:num_first], codes[num_first:]))


def _split(ids) -> list[np.ndarray]:
  """Returns the columns, each an array [num_rows]."""
  if isinstance(ids, jax.Array):
    rule = "NumPy's (JAX cuts whole numbers to 32 bits, which joins units)"
    _fail(rule, f"a JAX array of {ids.dtype}")
  if isinstance(ids, list | tuple):
    ids = _of_list(ids)
  array = ids if isinstance(ids, np.ma.MaskedArray) else np.asarray(ids)
  if array.dtype.names:
    if array.ndim != 1:
      _fail_shape(array)
    return [array[name] for name in array.dtype.names]
  if array.ndim == 1:
    return [array]
  if array.ndim != 2 or not array.shape[1]:
    _fail_shape(array)
  return list(array.T)


def _of_list(ids) -> np.ndarray:
  """Keeps what a list holds: NumPy would cut NULs, or make floats of ints."""
  widths = {len(x) if isinstance(x, tuple) else None for x in ids}
  held = (list, np.ndarray, jax.Array, dict, set)
  if len(widths) > 1 or any(
      isinstance(x, held) or hasattr(x, "__array__") and np.ndim(x) for x in ids
  ):
    rule = (
        "one id a row (for several columns: an array [num_rows, num_columns],"
        " such as numpy.column_stack of them, or a list of tuples)"
    )
    _fail(rule, "a list of other lists or arrays")
  width = widths.pop() if widths else None
  array = np.empty(len(ids) if width is None else (len(ids), width), object)
  for row, value in enumerate(ids):
    array[row] = value
  return array


def _fail_shape(array) -> NoReturn:
  got = f"{array.dtype} {list(array.shape)}"
  _fail("[num_rows] or [num_rows, num_columns]", got)


def _column(values: np.ndarray) -> np.ndarray:
  """Returns int64, uint64, or objects that are all ints or all strings."""
  if (row := _first(np.ma.getmaskarray(values))) is not None:
    _fail_row(_MISSING_RULE, "a masked one", row)
  values = np.asarray(values)
  kind = values.dtype.kind
  if kind == "f":
    values = _from_floats(values)
  elif kind in "OSUT":
    values = _from_objects(values.astype(object))
  elif kind not in "iu":
    rule = "strings or whole numbers"
    _fail(rule, f"values of {values.dtype}")
  if len(values) and isinstance(values[0], str):
    _check_spelling(values)
  elif (row := _first(values == -1)) is not None:
    _fail_row(_MISSING_RULE, "-1, which marks a missing one", row)
  return values


def _from_floats(values) -> np.ndarray:
  """Whole numbers that came as floats, as a column with gaps does."""
  if (row := _first(np.isnan(values))) is not None:
    _fail_row(_MISSING_RULE, "NaN", row)
  limit = 2 ** min(np.finfo(values.dtype).nmant + 1, 53)
  if (row := _first(~(np.abs(values) < limit))) is not None:
    rule = f"whole numbers that {values.dtype} holds exactly, below {limit}"
    _fail_row(rule, "a larger one", row)
  if (row := _first(values != np.floor(values))) is not None:
    _fail_row("strings or whole numbers", "a fraction", row)
  return values.astype(np.int64)


def _from_objects(values) -> np.ndarray:
  kinds = {}
  out = np.empty(len(values), object)
  for row, value in enumerate(values.tolist()):
    if type(value) is not str:
      value = _plain(value, row)
    out[row] = value
    kinds.setdefault(type(value), row)
  if len(kinds) > 1:
    rule = "all strings or all whole numbers in a column"
    _fail_row(rule, "both", *kinds.values())
  return out


def _is_missing(value) -> bool:
  if value is None or type(value).__name__ in ("NAType", "NaTType"):
    return True
  return isinstance(value, numbers.Real) and math.isnan(value)


def _plain(value, row) -> str | int:
  """Returns a Python string or int."""
  if _is_missing(value):
    _fail_row(_MISSING_RULE, "a missing one", row)
  if isinstance(value, bytes):
    try:
      value = value.decode()
    except UnicodeDecodeError:
      _fail_row("bytes that are UTF-8", "others", row)
  if isinstance(value, str):
    # NumPy's text becomes Python's.
    return str(value)  # pyrefly: ignore[unnecessary-type-conversion]
  if isinstance(value, np.floating | float):
    return int(_from_floats(np.array([value]))[0])
  if isinstance(value, numbers.Integral) and not isinstance(
      value, bool | np.bool_
  ):
    return int(value)
  got = f"a value of {type(value).__name__}"
  _fail_row("strings or whole numbers", got, row)


def _check_spelling(values) -> None:
  """Refuses two strings that may be one id."""
  seen = {}
  first = {}
  for row, value in enumerate(values.tolist()):
    first.setdefault(value, row)
  for value, row in first.items():
    plain = _skeleton(value)
    if plain in _MISSING:
      _fail_row(_MISSING_RULE, "a word for a missing one", row)
    other = seen.setdefault(plain, row)
    if other != row:
      rule = "spelt in one way each"
      remedy = (
          " Make them equal, or, if they are of two units, number the units."
      )
      _fail_row(rule, "two spellings of one id", other, row, remedy=remedy)


def _skeleton(text: str) -> str:
  """Returns what two spellings of one id have in common."""
  text = unicodedata.normalize("NFKC", text).casefold()
  text = unicodedata.normalize("NFKC", text)
  # Blanks, controls, and characters that are not seen; "J. Doe" is "J.Doe".
  text = "".join(c for c in text if unicodedata.category(c)[0] not in "ZC")
  if not _NUMBER.fullmatch(text):
    return text
  # Exact, however many digits: "007", "7.0" and "70e-1" are 7.
  sign, figures, exponent = decimal.Decimal(text).as_tuple()
  digits = "".join(map(str, figures)).lstrip("0")
  kept = digits.rstrip("0")
  if not kept:
    return "0"
  # A number's exponent is an int: only NaN and infinities have letters.
  return f"{'-' * sign}{kept}e{int(exponent) + len(digits) - len(kept)}"


def _first(mask) -> int | None:
  return int(np.argmax(mask)) if np.any(mask) else None


def _fail(rule, got) -> NoReturn:
  raise ValueError(f"ids must be {rule}, got {got}.")


def _fail_row(rule, got, *rows, remedy="") -> NoReturn:
  numbers = [str(row + 1) for row in sorted(rows)]
  where = f"row{'s' * (len(rows) > 1)} {' and '.join(numbers)}"
  raise ValueError(
      f"ids must be {rule}, got {got} ({where}, counted from 1:"
      f" {_validate.PRIVATE}).{remedy}"
  )
