"""What a column makes of its cells, by its stated rules alone."""

import datetime

import numpy as np
import pytest

from jax_privacy.data import tables
from jax_privacy.data.tables import cells as cells_lib
from jax_privacy.data.tables import columns


def _cells(*values):
  array = np.empty(len(values), object)
  array[:] = values
  return cells_lib.from_array(array)


def test_numbers_of_any_kind_are_scaled_by_the_bounds():
  age = tables.Number(bounds=[-50, 150])
  wanted = [-1.0, -0.5, 0.5, 1.0]
  texts = _cells("-50", "0", "1e2", " 150 ")
  floats = cells_lib.from_array(np.array([-50, 0, 100, 150], np.float32))
  ints = cells_lib.from_array(np.array([-50, 0, 100, 150]))
  for cells in (texts, floats, ints):
    encoded = age.encode(cells)
    assert encoded.dtype == np.float32
    np.testing.assert_array_equal(encoded, wanted)


@pytest.mark.parametrize("value", [101, -0.5, "101", np.inf, -np.inf, "inf"])
def test_what_is_out_of_bounds_is_refused_or_clamped_as_stated(value):
  bounds = (0, 100)
  with pytest.raises(ValueError, match=r"in its stated bounds \[0, 100\], got"):
    tables.Number(bounds=bounds).encode(_cells(5, value))
  clamped = tables.Number(bounds=bounds, outside="clamp")
  encoded = clamped.encode(_cells(5, value))
  assert encoded[1] == np.sign(float(value))


@pytest.mark.parametrize("value", ["x", "nan", "1_000", "", "=1+1", b"x"])
def test_what_is_no_number_is_refused_even_where_others_are_clamped(value):
  age = tables.Number(bounds=(0, 2000), outside="clamp", missing="indicator")
  with pytest.raises(ValueError, match="must be a number, got .* in row 2"):
    age.encode(_cells(5, value))


@pytest.mark.parametrize("nothing", [None, np.nan, float("nan")])
def test_missing_cells_are_refused_unless_an_indicator_is_stated(nothing):
  with pytest.raises(ValueError, match='given, got none.*"indicator"'):
    tables.Number(bounds=(0, 1)).encode(_cells(1, nothing))
  number = tables.Number(bounds=(1, 3), missing="indicator")
  assert number.encode(_cells(3, nothing)).tolist() == [1.0, 0.0]
  category = tables.Category(values=["a", "b"], missing="indicator")
  assert category.encode(_cells("b", nothing)).tolist() == [1, 2]
  day = tables.Date(bounds=["2020-01-01", "2021-01-01"], missing="indicator")
  assert day.encode(_cells("2021-01-01", nothing)).tolist() == [1.0, 0.0]


def test_rows_and_values_of_an_error_are_marked_private():
  cells = cells_lib.from_array(np.array([1.0, 7.0]), first_row=100)
  with pytest.raises(ValueError) as error:
    tables.Number(bounds=(0, 5)).encode(cells)
  assert "got 7.0 in row 101 (row and value are private" in str(error.value)
  assert "\n" not in str(error.value)


def test_categories_count_by_their_text():
  codes = tables.Category(values=[1, 2.0, "x", True])
  assert codes.values == ("1", "2", "x", "True")
  cells = _cells("1", 2, 1.0, "x", True)
  assert codes.encode(cells).tolist() == [0, 1, 0, 2, 3]
  floats = cells_lib.from_array(np.array([2.0, 1.0, 2.0]))
  assert codes.encode(floats).tolist() == [1, 0, 1]


def test_a_category_that_is_not_listed_is_refused_or_other_as_stated():
  with pytest.raises(ValueError, match="one of its 2 stated values, got 'c'"):
    tables.Category(values=["a", "b"]).encode(_cells("a", "c"))
  other = tables.Category(
      values=["a", "b"], outside="other", missing="indicator"
  )
  assert other.names == ("a", "b", "(other)", "(missing)")
  assert other.encode(_cells("c", "b", None)).tolist() == [2, 1, 3]


def test_dates_of_any_kind():
  joined = tables.Date(bounds=["2020-01-01", "2020-01-03"])
  stamps = np.array(["2020-01-01T23:59", "2020-01-02T00:00"], "M8[ns]")
  assert joined.encode(cells_lib.from_array(stamps)).tolist() == [-1.0, 0.0]
  cells = _cells(
      "2020-01-02", "2020-01-03T10:00:00", datetime.datetime(2020, 1, 1, 5)
  )
  assert joined.encode(cells).tolist() == [0.0, 1.0, -1.0]
  for wrong in ("2020-02-30", "01/02/2020", 5, "20200101"):
    with pytest.raises(ValueError, match="must be a date such as"):
      joined.encode(_cells("2020-01-02", wrong))
  with pytest.raises(ValueError, match="in its stated bounds"):
    joined.encode(_cells("2020-01-04"))


@pytest.mark.parametrize("kind", ["number", "date"])
@pytest.mark.parametrize(
    "bounds",
    [
        (1, 1),
        (2, 1),
        (np.nan, 1),
        (0, np.inf),
        (0, 1e31),
        (0, 1e-31),
        "01",
        (True, 2),
        (0,),
        ("2020-02-02", "2020-01-01"),
        ("x", "y"),
        {},
        7,
    ],
)
def test_wrong_bounds_are_refused(kind, bounds):
  with pytest.raises(ValueError, match="bounds must be .*, got"):
    columns.from_dict({"kind": kind, "bounds": bounds})


@pytest.mark.parametrize(
    "values", [["a"], ["a", "a"], [1, "1"], "ab", [], {}, 5, ["a", "\x1b"]]
)
def test_wrong_values_are_refused(values):
  with pytest.raises(ValueError, match="values must be .*, got"):
    tables.Category(values=values)


@pytest.mark.parametrize(
    "kind, name",
    [("number", "bounds"), ("date", "bounds"), ("category", "values")],
)
def test_what_is_not_stated_is_never_taken_from_the_data(kind, name):
  with pytest.raises(
      ValueError,
      match=f"{name} must be stated, .*never from the data.*experiments.schema",
  ):
    columns.from_dict({"kind": kind})


@pytest.mark.parametrize(
    "stated, text",
    [
        ({"kind": "text"}, "kind must be one of number, date, category"),
        ({}, "kind must be one of"),
        (None, "kind must be one of"),
        ({"kind": []}, "kind must be one of"),
        ({"kind": "number", "bound": [0, 1]}, "alone, got 'bound'"),
        (
            {"kind": "number", "bounds": [0, 1], "outside": "other"},
            "outside must be 'refuse' or 'clamp', got 'other'",
        ),
        (
            {"kind": "category", "values": [1, 2], "missing": "drop"},
            "missing must be 'refuse' or 'indicator', got 'drop'",
        ),
    ],
)
def test_an_unknown_rule_is_refused(stated, text):
  with pytest.raises(ValueError, match=text):
    columns.from_dict(stated)


def test_bounds_at_the_limits_of_floats_give_finite_features():
  wide = tables.Number(bounds=(-1e30, 1e30), outside="clamp")
  encoded = wide.encode(_cells(1e308, -1e308, 10**400, -(10**5000), 0))
  assert encoded.tolist() == [1.0, -1.0, 1.0, -1.0, 0.0]
  with pytest.raises(ValueError, match="got a int too long to show in row 1"):
    tables.Number(bounds=(0, 1)).encode(_cells(10**5000))
