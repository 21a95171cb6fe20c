"""A schema is what its owner states, and no more."""

import pytest

from jax_privacy.data import tables
from jax_privacy.data.tables import schema as schema_lib

_TEXT = """
missing_texts = ["", "NA"]
[columns.age]
kind = "number"
bounds = [0, 1e2]
outside = "clamp"
missing = "indicator"
[columns."job, \\"now\\""]
kind = "category"
values = ["a", "é", 3]
[columns.joined]
kind = "date"
bounds = [2020-01-31, "2021-02-28"]
"""


def test_what_is_written_is_what_was_read():
  schema = schema_lib.parse(_TEXT)
  assert list(schema.columns) == ["age", 'job, "now"', "joined"]
  assert schema.columns["age"].missing == "indicator"
  again = schema_lib.to_toml(schema, comments=["of", "people"])
  assert again.startswith("# of\n# people\n")
  assert schema_lib.parse(again) == schema


@pytest.mark.parametrize(
    "name, kind", [("two", "binary"), ("three", "class"), ("n", "regression")]
)
def test_the_kind_of_a_target_follows_from_its_column(name, kind):
  schema = tables.Schema(
      columns={
          "two": tables.Category(values=["a", "b"]),
          "three": tables.Category(values=["a", "b", "c"]),
          "n": tables.Number(bounds=(0, 1)),
      }
  )
  assert schema.target(name).kind == kind


def test_a_target_of_the_wrong_kind_is_refused():
  schema = tables.Schema(
      columns={
          "day": tables.Date(bounds=("2020-01-01", "2020-01-02")),
          "holes": tables.Number(bounds=(0, 1), missing="indicator"),
          "others": tables.Category(values=["a", "b"], outside="other"),
      }
  )
  with pytest.raises(ValueError, match="a category or a number, got 'day'"):
    schema.target("day")
  for name in ("holes", "others"):
    with pytest.raises(ValueError, match="must refuse missing and unlisted"):
      schema.target(name)
  with pytest.raises(ValueError, match="must state column 'pay', got day"):
    schema.target("pay")


@pytest.mark.parametrize(
    "text, rule",
    [
        ("x = 1", "must be of columns and missing_texts"),
        ("columns = 1", "columns must be tables by name"),
        ("", "columns must be tables by name"),
        ("[columns]", "columns must be 1 to"),
        ("[columns.age]", "column 'age': kind must be one of"),
        ("[columns.age]\nkind = 'number'", "'age': bounds must be stated"),
        ("missing_texts = 3\n[columns.a]\nkind='date'", "'a': bounds must"),
        ("[columns.a\n", "Expected"),
        ("a = " + "[" * 5000, "nest less deep|Invalid|Expected|maximum"),
    ],
)
def test_a_wrong_file_is_named_with_its_rule(tmp_path, text, rule):
  path = tmp_path / "people.toml"
  path.write_text(text)
  with pytest.raises(ValueError, match=rule) as error:
    schema_lib.read(path)
  assert str(error.value).startswith(str(path))
  assert "\n" not in str(error.value)


def test_where_there_is_no_schema_the_error_says_how_to_state_one(tmp_path):
  with pytest.raises(
      ValueError, match="never read off the data.*python -m experiments.schema"
  ):
    schema_lib.read(tmp_path / "people.toml")


def test_missing_texts_must_be_texts():
  columns = {"a": tables.Number(bounds=(0, 1))}
  for wrong in ("NA", [1], 5):
    with pytest.raises(ValueError, match="missing_texts must be a list"):
      tables.Schema(columns=columns, missing_texts=wrong)
