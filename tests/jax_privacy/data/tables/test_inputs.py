"""Rows to predict: encoded as in training, and what was clamped is said."""

import datetime

import numpy as np
import pytest

from jax_privacy.data.tables import encode, inputs
from jax_privacy.data.tables import schema as schema_lib


def _encoder(outside="clamp", other="other"):
  columns = {
      "age": {"kind": "number", "bounds": [0, 9], "outside": outside},
      "day": {
          "kind": "date",
          "bounds": ["2020-01-01", "2020-12-31"],
          "outside": outside,
          "missing": "indicator",
      },
      "job": {"kind": "category", "values": ["a", "b"], "outside": other},
      "rich": {"kind": "category", "values": ["no", "yes"]},
  }
  schema = schema_lib.from_dict({"columns": columns})
  return encode.Encoder(schema, target="rich")


def _rows(ages, days, jobs):
  return np.array(
      list(zip(ages, days, jobs, strict=True)),
      [("age", float), ("day", "M8[D]"), ("job", "U1")],
  )


_WITHIN = [datetime.date(2020, 2, 1)] * 4


def test_values_beyond_what_is_stated_are_counted_by_column():
  days = [*_WITHIN[:3], datetime.date(1999, 1, 1)]
  rows = _rows([-1, 10, 9, 0], days, ["a", "c", "d", "e"])
  found = inputs.read_inputs(rows, _encoder())
  assert [note.split(" of ")[0] for note in found.notes] == [
      "column 'age': 2",
      "column 'day': 1",
      "column 'job': 3",
  ]
  assert "nearer" in found.notes[0] and '"(other)"' in found.notes[2]
  assert found[np.arange(4)]["numbers"][:, 0].tolist() == [-1, 1, 1, -1]


def test_what_is_within_or_missing_is_no_note():
  rows = _rows([0, 9, 4, 5], [*_WITHIN[:3], "NaT"], ["a", "b", "a", "b"])
  assert inputs.read_inputs(rows, _encoder()).notes == ()


@pytest.mark.parametrize("rules", [("refuse", "other"), ("clamp", "refuse")])
def test_what_is_refused_in_training_is_refused(rules):
  rows = _rows([-1, 1, 2, 3], _WITHIN, ["c", "a", "a", "b"])
  with pytest.raises(ValueError, match=r"the frame: column .* in row 1 "):
    inputs.read_inputs(rows, _encoder(*rules))
