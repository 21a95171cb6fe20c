"""Sources of tables: encoded rows, splits and groups."""

import datetime
import pickle

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from jax_privacy.data import tables
from tests.support import frames, launch

_PEOPLE = str(launch.ROOT / "tests/support/people.csv")
_SCHEMA = str(launch.ROOT / "tests/support/people.toml")


def _load(**options):
  options = {
      "path": _PEOPLE,
      "schema": _SCHEMA,
      "target": "income",
      "test_path": _PEOPLE,
  } | options
  return tables.load("table", **options)


def test_rows_of_a_file_are_what_the_schema_makes_of_them():
  source = _load(groups=("job",), num_examples=6)
  assert source.number_names == ("age", "joined", "age is missing")
  assert source.category_names == ("job",) and source.category_sizes == (3,)
  assert (source.target.kind, source.label_names) == ("binary", ("low", "high"))
  assert source.num_examples == len(source) == 6 and source.in_memory
  batch = source[np.array([3, -1, 0])]
  days = (datetime.date(2022, 11, 30) - datetime.date(2018, 1, 1)).days
  joined = 2 * days / 2191 - 1  # 2191 days from 2018 to 2024.
  assert batch["numbers"].dtype == np.float32
  np.testing.assert_allclose(batch["numbers"][0], [0, joined, 1], atol=1e-6)
  np.testing.assert_array_equal(batch["numbers"][1], 0)
  assert batch["categories"].tolist() == [[0], [0], [1]]
  assert batch["target"].tolist() == [1, 0, 0]
  assert source.groups["job"].names == ("clerk", "nurse", "(missing)")
  assert source.groups["job"].codes.tolist() == [1, 0, 2, 0, 1, 0]


def test_features_that_are_named_are_all_that_the_model_sees():
  source = _load(features=("age",), groups=("job",))
  assert source.number_names == ("age", "age is missing")
  assert source[np.array([0])]["categories"].shape == (1, 0)
  assert list(source.groups) == ["job"]


def test_a_regression_keeps_the_targets_units():
  source = _load(target="age", schema=_regression(outside="clamp"))
  assert source.target.kind == "regression"
  assert source.label_names == ("age",)
  batch = source[np.array([0, 4, -1])]
  assert batch["target"].dtype == np.float32
  assert batch["target"].tolist() == [41.0, 60.0, 35.0]  # Clamped; the middle.
  with pytest.raises(ValueError, match="people.csv: column 'age' must be in"):
    _load(target="age", schema=_regression(outside="refuse"))


def _regression(**options):
  # Row 4 of the file has no age: as a text that is no number it is refused.
  age = {"kind": "number", "bounds": [10, 60]} | options
  return {
      "columns": {"age": age, "income": {"kind": "category"} | _LOW_HIGH},
      "missing_texts": [],
  }


_LOW_HIGH = {"values": ["low", "high"]}


@pytest.fixture(autouse=True)
def _people_without_a_missing_age(request, monkeypatch, tmp_path):
  if "regression" in request.node.name:
    text = open(_PEOPLE, encoding="utf-8").read().replace("\n,", "\n50,")
    path = tmp_path / "people.csv"
    path.write_text(text)
    monkeypatch.setattr(f"{__name__}._PEOPLE", str(path))


@pytest.mark.parametrize(
    "options, text",
    [
        ({"target": "pay"}, "must state column 'pay'"),
        ({"target": "joined"}, "must be a category or a number"),
        ({"features": ("income",)}, "features must be one or more columns"),
        ({"features": ("age", "age")}, "features must be different"),
        ({"features": "age"}, "features must be names of columns"),
        ({"groups": ("age",)}, "groups must be categories, got 'age'"),
        ({"groups": ("sex",)}, "must state column 'sex'"),
        ({"schema": "no.toml"}, "never read off the data"),
        ({"schema": 5}, "a schema must be of columns"),
        ({"path": 5}, "path must be a string or a path"),
        ({"split": "valid"}, "split must be 'train' or 'test'"),
        ({"test_path": "", "test_fraction": 1.0}, r"must be in \(0, 1\)"),
        ({"test_path": "", "test_fraction": np.nan}, r"must be in \(0, 1\)"),
        (
            {"num_examples": 7},
            r"of examples of the source, 6 \(private, not for .*, got 7",
        ),
    ],
)
def test_wrong_options_are_refused(options, text):
  with pytest.raises(ValueError, match=text) as error:
    _load(**options)
  assert "\n" not in str(error.value)


def test_a_cell_that_is_refused_is_named_with_file_column_and_rule():
  strict = {
      "columns": {
          "age": {"kind": "number", "bounds": [0, 60], "missing": "indicator"},
          "income": {"kind": "category"} | _LOW_HIGH,
      }
  }
  with pytest.raises(ValueError) as error:
    _load(schema=strict)
  assert str(error.value) == (
      f"{_PEOPLE}: column 'age' must be in its stated bounds [0, 60], got '63'"
      " in row 5 (row and value are private, not for release): state wider"
      ' bounds, or outside = "clamp", before a model is trained.'
  )


def test_a_column_that_is_not_in_the_file_is_named():
  schema = {"columns": {"pay": {"kind": "number", "bounds": [0, 1]}}}
  schema["columns"]["income"] = {"kind": "category"} | _LOW_HIGH
  with pytest.raises(ValueError, match="people.csv: column 'pay' must be in"):
    _load(schema=schema)


@pytest.mark.parametrize("name", ["x", "job", "y"])
def test_a_constant_column_is_refused(name):
  rows = frames.rows()
  rows[name] = rows[name][0]
  with pytest.raises(ValueError, match=f"column '{name}' must have two .*priv"):
    frames.source(rows)
  # Of what evaluation or prediction may look at, one row is enough.
  assert len(frames.source(rows[:1])) == 1


def test_splits_are_disjoint_and_follow_the_stated_fraction():
  rows = frames.rows(2000)
  sources = [
      frames.source(rows, split=split, test_fraction=0.25)
      for split in ("train", "test")
  ]
  seen = [source.as_arrays()["numbers"][:, 0] for source in sources]
  assert not set(seen[0]) & set(seen[1]) - {-1.0, 1.0}
  assert len(seen[0]) + len(seen[1]) == 2000
  # Binomial, deviation sqrt(2000 x 0.25 x 0.75) = 19: five of them.
  assert abs(len(seen[1]) - 500) < 97


def test_a_rows_split_does_not_depend_on_other_rows():
  """Were it by place, one more row would change half of a training set."""
  rows = frames.rows(100)
  before = frames.source(rows, split="train").as_arrays()["numbers"]
  more = np.concatenate([frames.rows(1, seed=9), rows])
  after = frames.source(more, split="train").as_arrays()["numbers"]
  assert len(after) - len(before) in (0, 1)
  np.testing.assert_array_equal(after[len(after) - len(before) :], before)


@pytest.mark.parametrize(
    "options", [{"groups": ("job",)}, {"features": ("x",)}]
)
def test_no_option_but_the_schema_moves_a_row(options):
  rows = frames.rows(100)
  whole = frames.source(rows, split="test")
  again = frames.source(rows, split="test", **options)
  np.testing.assert_array_equal(whole.column("x"), again.column("x"))


def test_all_values_of_any_column_can_be_read():
  source = _load(num_examples=6)
  persons = source.column("person")
  assert persons.tolist() == ["p1", "p2", "p1", "p3", "p4", "p2"]
  train = frames.source(frames.rows(), split="train")
  np.testing.assert_array_equal(
      train.as_arrays()["numbers"][:, 0],
      np.clip(train.column("x") / 2, -1, 1).astype(np.float32),
  )
  with pytest.raises(ValueError, match="'pay' must be in the file once"):
    source.column("pay")


@pytest.mark.parametrize(
    "ids",
    [
        np.array([2**53, 2**53 + 1, 7, 2**62], np.int64),  # One in float64.
        np.array([2**63 + 1, 2**63 + 2, 7, 2**53], np.uint64),
        ["007", "7", "8", "9"],
    ],
    ids=["int64", "uint64", "text"],
)
@pytest.mark.parametrize("kind", ["parquet", "frame"])
def test_ids_are_read_as_they_are_written(tmp_path, ids, kind):
  ages, incomes = [1, 2, 3, 4], ["low", "high", "low", "high"]
  stated = {"columns": {"age": {"kind": "number", "bounds": [0, 9]}}}
  stated["columns"]["income"] = {"kind": "category"} | _LOW_HIGH
  if kind == "frame":
    rows = np.array(
        list(zip(ids, ages, incomes, strict=True)),
        [("id", np.asarray(ids).dtype), ("age", int), ("income", "U4")],
    )
    source = tables.from_frame(rows, schema=stated, target="income")
  else:
    path = tmp_path / "t.parquet"
    columns = {"id": pa.array(ids), "age": ages, "income": incomes}
    parquet.write_table(pa.table(columns), path)
    source = tables.load(
        "table", path=str(path), test_path=str(path), schema=stated,
        target="income",
    )  # fmt: skip
  found = source.column("id")
  assert [str(value) for value in found] == [str(value) for value in ids]


def test_a_source_can_be_given_to_another_process():
  source = _load(num_examples=6)
  again = pickle.loads(pickle.dumps(source))
  rows = np.array([5, -1])
  for name, array in source[rows].items():
    np.testing.assert_array_equal(again[rows][name], array)


@pytest.mark.parametrize(
    "name, sizes", [("breast_cancer", (455, 114)), ("wine", (142, 36))]
)
def test_bundled_tables_are_within_their_stated_bounds(name, sizes):
  train, test = (tables.load(name, split=split) for split in ("train", "test"))
  assert (train.num_examples, test.num_examples) == sizes
  # What is out of bounds would be refused; these are wide, but not too wide.
  numbers = train.as_arrays()["numbers"]
  assert (np.abs(numbers).max(axis=0) > 0.5).all()
  classes = np.bincount(test.as_arrays()["target"])
  assert classes.min() >= 9


@pytest.mark.parametrize(
    "name, options, text",
    [
        ("people", {}, "name must be one of breast_cancer, table, wine, got"),
        ("wine", {"path": "x"}, "option of 'wine' must be one of .*got 'path'"),
        ("table", {"path": "x"}, "schema must be given for 'table', got none"),
        (lambda split: 5, {}, "must give a TableSource, or .*, got .*a int"),
    ],
)
def test_unknown_names_and_options_are_refused(name, options, text):
  with pytest.raises(ValueError, match=text):
    tables.load(name, **options)


def _visits(num_persons=40, gaps=()):
  """Several rows of each person; their ids are no part of the schema."""
  rows = frames.rows(num_persons * 3)
  persons = [
      "" if i in gaps else f"p{i}" for i in np.arange(len(rows)) % num_persons
  ]
  out = np.zeros(len(rows), [*rows.dtype.descr, ("person", "U9")])
  for name in rows.dtype.names:
    out[name] = rows[name]
  out["person"] = persons
  return out


def test_rows_of_a_person_are_in_one_split():
  def split(rows, **options):
    return [
        {*frames.source(rows, split=s, **options).column("person").tolist()}
        for s in ("train", "test")
    ]

  rows = _visits()
  train, test = split(rows, split_by="person")
  assert not train & test and len(train | test) == 40 and len(test) > 2
  by_row = split(rows)
  assert by_row[0] & by_row[1]  # What it is for.
  # A person more moves no other; nor does what else a row has.
  more = split(np.append(_visits(41), _visits(41)[::-1]), split_by="person")
  assert train <= more[0] and test <= more[1]


@pytest.mark.parametrize(
    "options, text",
    [
        ({"split_by": "person"}, "column 'person': must be given, got none"),
        ({"split_by": "sex"}, "sex"),
        ({"split_by": 3}, "split_by must be the name of a column"),
        ({"split_by": "person", "split": None}, "where no rows are held out"),
    ],
)
def test_a_split_by_what_no_row_has_is_refused(options, text):
  with pytest.raises(ValueError, match=text):
    frames.source(_visits(gaps=(3,)), **{"split": "train"} | options)
