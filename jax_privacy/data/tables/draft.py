"""Drafts a schema from PUBLIC rows, for their owner to check.

Invariant: never called in training. Bounds and categories that are read off
private rows are a release of them without noise.

>>> rows = np.array(
...     [(41, "a"), (7, "b"), (9, "a")], [("age", int), ("job", "U1")])
>>> from jax_privacy.data.tables import frames
>>> (block,) = frames.read_frame(rows, columns=("age", "job"))
>>> schema, left_out = draft_schema([block])
>>> schema.columns["age"].bounds, schema.columns["job"].values
((7.0, 41.0), ('a', 'b'))
"""

import math
from collections.abc import Iterable

import numpy as np

from jax_privacy.data.tables import cells as cells_lib
from jax_privacy.data.tables import columns as columns_lib
from jax_privacy.data.tables import files
from jax_privacy.data.tables import schema as schema_lib

_MAX_CATEGORIES = 100
# A number that takes so few values is more likely a code.
_MAX_CODES = 2
_MISSING_TEXTS = ("", "NA", "N/A", "nan", "NaN", "null", "None", "?")


def draft_schema(
    public_blocks: Iterable[files.Block],
) -> tuple[schema_lib.Schema, dict[str, str]]:
  """Returns a schema that fits rows which anyone may see.

  Numbers and dates beyond the bounds are clamped. Bounds are rounded
  outwards to two digits; a column with missing cells has an indicator.

  Args:
    public_blocks: PUBLIC rows, as of `files.read_file`.

  Returns:
    The schema, and the columns that were left out, with why.

  Raises:
    ValueError: If no column is left.
  """
  found: dict[str, dict] = {}
  with_missing: set[str] = set()
  for block in public_blocks:
    for name, cells in block.items():
      cells = cells.without(_MISSING_TEXTS)
      if cells.is_missing.any():
        with_missing.add(name)
      present = np.unique(cells.places[~cells.is_missing])
      values = found.setdefault(name, {})
      values.update(dict.fromkeys(cells.values[present].tolist()))
  columns, left_out = {}, {}
  for name, values in found.items():
    missing = "indicator" if name in with_missing else "refuse"
    if len(values) < 2:
      left_out[name] = "all rows have one value"
      continue
    try:
      columns[name] = _column(list(values), missing)
    except ValueError as error:
      left_out[name] = str(error)
  schema = schema_lib.Schema(columns=columns, missing_texts=_MISSING_TEXTS)
  return schema, left_out


def _column(values: list, missing: str) -> columns_lib.Column:
  numbers = np.array([cells_lib.number(value) for value in values])
  if np.isfinite(numbers).all() and len(set(numbers)) > _MAX_CODES:
    return columns_lib.Number(
        bounds=_rounded(numbers.min(), numbers.max()),
        outside="clamp",
        missing=missing,
    )
  dates = np.array([cells_lib.date(value) for value in values], "M8[D]")
  if not np.isnat(dates).any():
    bounds = (dates.min().item(), dates.max().item())
    return columns_lib.Date(bounds=bounds, outside="clamp", missing=missing)
  texts = sorted({cells_lib.text(value) for value in values})
  if len(texts) > _MAX_CATEGORIES:
    raise ValueError(f"texts must be at most {_MAX_CATEGORIES}, got more.")
  return columns_lib.Category(values=tuple(texts), missing=missing)


def _rounded(low: float, high: float) -> tuple[float, float]:
  """Returns bounds around these, rounded outwards to two digits of either."""
  digits = math.floor(math.log10(max(abs(low), abs(high)))) - 1
  step = 10.0 ** max(digits, -300)
  first, last = math.floor(low / step) * step, math.ceil(high / step) * step
  return float(f"{first:.12g}"), float(f"{last:.12g}")
