"""Frames and arrays of other libraries are tables as their files are."""

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from jax_privacy.data import tables
from tests.support import frames


def test_csv_and_parquet_and_frames_give_the_same_rows(tmp_path):
  rows = frames.rows(50)
  path = tmp_path / "t.parquet"
  columns = {name: rows[name] for name in rows.dtype.names}
  parquet.write_table(pa.table(columns), path)
  csv = tmp_path / "t.csv"
  lines = [",".join(map(str, row)) for row in rows.tolist()]
  csv.write_text("\n".join(["x,job,y", *lines]) + "\n")
  whole = frames.source(rows, split="train").as_arrays()
  for file in (path, csv):
    options = {"schema": frames.SCHEMA, "target": "y", "test_path": ""}
    again = tables.load("table", path=str(file), **options).as_arrays()
    for name, array in whole.items():
      np.testing.assert_array_equal(again[name], array)


class _Series:
  """What a column of a frame has in common with those of two libraries."""

  def __init__(self, values):
    self._values = values

  def to_numpy(self):
    return self._values


class _Frame(dict):

  @property
  def columns(self):
    return list(self)

  def __len__(self):
    return len(self["x"].to_numpy())


def _frames():
  rows = frames.rows(50)
  columns = {name: rows[name] for name in rows.dtype.names}
  yield "neither", lambda: _Frame(
      {k: _Series(v.astype(object)) for k, v in columns.items()}
  )
  for name in ("pandas", "polars"):
    yield name, lambda name=name: pytest.importorskip(name).DataFrame(columns)


@pytest.mark.parametrize("name, make", list(_frames()))
def test_frames_of_other_libraries(name, make):
  del name
  source = frames.source(make(), split=None)
  wanted = frames.source(frames.rows(50), split=None).as_arrays()
  for key, array in wanted.items():
    np.testing.assert_array_equal(source.as_arrays()[key], array)


def test_missing_values_of_frames():
  columns = {
      "n": {"kind": "number", "bounds": [0, 4], "missing": "indicator"},
      "c": {"kind": "category", "values": ["a", "b"], "missing": "indicator"},
      "y": {"kind": "category", "values": ["0", "1"]},
  }
  for name in ("pandas", "polars"):
    library = pytest.importorskip(name)
    frame = library.DataFrame(
        {"n": [1, None, 3], "c": [None, "a", "b"], "y": [0, 1, 1]}
    )
    batch = tables.from_frame(
        frame, schema={"columns": columns}, target="y"
    ).as_arrays()
    assert batch["numbers"].tolist() == [[-0.5, 0], [0, 1], [0.5, 0]]
    assert batch["categories"].tolist() == [[2], [0], [1]]


@pytest.mark.parametrize(
    "frame", [None, "people.csv", np.zeros(3), np.zeros((2, 2), "f,f"), 5]
)
def test_what_is_no_frame_is_refused(frame):
  with pytest.raises(
      ValueError, match="frame must be a pandas or polars frame"
  ):
    frames.source(frame)


def test_an_empty_frame_is_refused():
  with pytest.raises(ValueError, match="must hold a row, got none"):
    frames.source(frames.rows(0))
