"""The encoding inside a program equals training's, to float32's rounding."""

import datetime

import jax
import numpy as np
import pytest

from jax_privacy.data.tables import encode, frames, raw
from jax_privacy.data.tables import schema as schema_lib

_DAY = {"kind": "date", "bounds": ["2005-01-01", "2024-12-31"]}
_JOB = {"kind": "category", "values": ["a", "b", "c"]}


def _encoder(**rules):
  columns = {
      "age": {"kind": "number", "bounds": [0, 90]},
      # Far from 0: float32 has 0.125 there.
      "second": {"kind": "number", "bounds": [1.5e6, 1.50001e6]},
      "day": _DAY,
      "job": _JOB,
  }
  columns = {name: of | rules.get(name, {}) for name, of in columns.items()}
  columns["rich"] = {"kind": "category", "values": ["no", "yes"]}
  return encode.Encoder(
      schema_lib.from_dict({"columns": columns}), target="rich"
  )


def _rows(**changes):
  rows = np.zeros(
      6, [("age", "f8"), ("second", "f8"), ("day", "M8[D]"), ("job", object)]
  )
  rows["age"] = [0, 90, 45.3, 12, 77, 1]
  rows["second"] = 1.5e6 + np.array([0, 10, 3.3, 7.7, 1.1, 9.9])
  rows["day"] = np.datetime64("2005-01-01") + np.array([0, 7304, 9, 77, 1, 2])
  rows["job"] = list("abcabc")
  for name, value in changes.items():
    rows[name][2] = value
  return rows


def _raw(encoder, rows):
  """By the metadata alone, as another program would."""
  found = raw.describe(encoder)
  numbers = []
  for entry in found["numbers"]:
    values = rows[entry["column"]]
    if entry["kind"] == "date":
      days = values.astype("M8[D]").astype(float)
      values = np.where(np.isnat(values), np.nan, days)
    numbers.append(values - entry["offset"])
  codes = [
      [entry["codes"].get(v or "", -2) for v in rows[entry["column"]]]
      for entry in found["categories"]
  ]
  return {
      "numbers": np.stack(numbers, axis=1).astype(np.float32),
      "categories": np.array(codes, np.int32).T,
  }


def _encoded(encoder, rows):
  (block,) = frames.read_frame(rows, columns=encoder.inputs)
  return encoder.encode_inputs(block)


_ALLOWED = {
    "age": {"outside": "clamp", "missing": "indicator"},
    "day": {"outside": "clamp", "missing": "indicator"},
    "job": {"outside": "other", "missing": "indicator"},
}
_ODD = {
    "nothing": {},
    "below": {"age": -3.0},
    "above": {"age": 1e9},
    "no number": {"age": np.nan},
    "early": {"day": datetime.date(1950, 1, 1)},
    "no day": {"day": "NaT"},
    "unlisted": {"job": "d"},
    "no category": {"job": None},
}


@pytest.mark.parametrize("odd", _ODD)
def test_rows_are_encoded_as_in_training(odd):
  encoder, rows = _encoder(**_ALLOWED), _rows(**_ODD[odd])
  given = _raw(encoder, rows)
  found, is_refused = jax.jit(lambda x: raw.encode_raw(encoder, x))(given)
  wanted = _encoded(encoder, rows)
  assert not is_refused.any()
  # A value has 2^-24 of at most 16 widths, and scaling doubles it; the rest is
  # a few roundings of numbers of at most 2.
  np.testing.assert_allclose(found["numbers"], wanted["numbers"], atol=4e-6)
  np.testing.assert_array_equal(found["categories"], wanted["categories"])
  assert found["categories"].dtype == wanted["categories"].dtype
  blank = raw.blank(encoder)
  for name, array in given.items():
    assert array.shape[1:] == blank[name].shape[1:]
    assert array.dtype == blank[name].dtype


@pytest.mark.parametrize("odd", [name for name in _ODD if name != "nothing"])
def test_a_row_that_training_refuses_is_marked_alone(odd):
  encoder, rows = _encoder(), _rows(**_ODD[odd])
  with pytest.raises(ValueError, match="must be .* in row 3 "):
    _encoded(encoder, rows)
  _, is_refused = raw.encode_raw(encoder, _raw(encoder, rows))
  assert is_refused.tolist() == [False, False, True, False, False, False]


def test_a_table_of_one_kind_of_column():
  columns = {
      "job": _JOB,
      "rich": {"kind": "category", "values": ["no", "yes"]},
  }
  encoder = encode.Encoder(
      schema_lib.from_dict({"columns": columns}), target="rich"
  )
  given = {"numbers": np.zeros((2, 0), np.float32)}
  given["categories"] = np.array([[2], [9]], np.int32)
  found, is_refused = raw.encode_raw(encoder, given)
  assert found["numbers"].shape == (2, 0)
  assert found["categories"][0, 0] == 2
  assert is_refused.tolist() == [False, True]
