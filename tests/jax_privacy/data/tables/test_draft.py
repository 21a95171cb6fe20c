"""A drafted schema fits the public rows, and leaves room around them."""

import datetime

import numpy as np
import pytest

from jax_privacy.data.tables import cells as cells_lib
from jax_privacy.data.tables import draft
from jax_privacy.data.tables import schema as schema_lib


def _block(**columns):
  found = {}
  for name, values in columns.items():
    array = np.empty(len(values), object)
    array[:] = values
    found[name] = cells_lib.from_array(array)
  return found


def test_each_kind_of_column_is_drafted():
  blocks = [
      _block(
          age=["41", "7"], job=["b", "NA"], day=["2020-01-31", ""], y=["0", "1"]
      ),
      _block(
          age=["63", ""], job=["a", "a"], day=["2019-05-01", ""], y=["1", "1"]
      ),
  ]
  schema, left_out = draft.draft_schema(blocks)
  assert not left_out
  columns = schema.columns
  assert columns["age"].bounds == (7.0, 63.0)
  assert columns["age"].missing == columns["job"].missing == "indicator"
  assert columns["age"].outside == "clamp"
  assert columns["job"].values == ("a", "b")
  assert columns["day"].bounds == (
      datetime.date(2019, 5, 1),
      datetime.date(2020, 1, 31),
  )
  assert columns["y"].values == ("0", "1") and columns["y"].missing == "refuse"
  assert schema_lib.parse(schema_lib.to_toml(schema)) == schema
  for block in blocks:
    for name, cells in block.items():
      columns[name].encode(cells.without(schema.missing_texts))


@pytest.mark.parametrize(
    "low, high, bounds",
    [
        (1990.0, 2024.0, (1900.0, 2100.0)),
        (-0.123, 4.56, (-0.2, 4.6)),
        (5e-324, 1e-320, (0.0, 1e-300)),
        (0.0, 100.0, (0.0, 100.0)),
        (12345.0, 98765.0, (12000.0, 99000.0)),
    ],
)
def test_bounds_are_rounded_outwards(low, high, bounds):
  assert draft._rounded(low, high) == bounds


def test_what_cannot_be_drafted_is_said():
  names = [f"n{i}" for i in range(101)]
  found = _block(
      name=names, one=["x"] * 101, huge=[f"{i}e40" for i in range(101)]
  )
  found |= _block(n=[str(i) for i in range(101)])
  schema, left_out = draft.draft_schema([found])
  assert list(schema.columns) == ["n"]
  assert left_out["name"] == "texts must be at most 100, got more."
  assert left_out["one"] == "all rows have one value"
  assert "within 1e+30" in left_out["huge"]
  with pytest.raises(ValueError, match="columns must be 1 to"):
    draft.draft_schema([_block(one=["x", "x"])])
