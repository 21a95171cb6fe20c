"""Ids that may name one person in two ways are refused, others kept apart."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from jax_privacy import unit_ids

_OBJECT = lambda *values: np.array(values, object)


@pytest.mark.parametrize(
    "ids",
    [
        ["b", "a", "b", "c"],
        np.array(["b", "a", "b", "c"]),
        np.array([b"b", b"a", b"b", b"c"]),
        np.array(["b", "a", "b", "c"], np.dtypes.StringDType()),
        [5, -3, 5, 7],
        np.array([5, 2, 5, 7], np.uint8),
        np.array([5, 2, 5, 7], np.float32),
        _OBJECT(5.0, 2, np.int16(5), 2**70),
        np.array([2**63, 5, 2**63, 2**64 - 1], np.uint64),
        [("h", 2), ("h", 1), ("h", 2), ("i", 1)],
        np.array([[1, 2], [1, 1], [1, 2], [2, 0]]),
        np.array(
            [("h", 2), ("h", 1), ("h", 2), ("i", 1)],
            [("hospital", "U9"), ("patient", int)],
        ),
        np.ma.masked_array([5, 2, 5, 7], [0, 0, 0, 0]),
    ],
    ids=repr,
)
def test_rows_of_a_unit_share_a_code(ids):
  codes = unit_ids.read(ids).codes
  assert codes.dtype == np.int64 and codes[0] == codes[2]
  assert sorted({*codes.tolist()}) == [0, 1, 2]


def test_large_ids_that_differ_by_one_stay_apart():
  # As int32 or float64 they would be one.
  for base in (2**32, 2**53, 2**62):
    ids = np.array([base, base + 1, base + 2**32], np.int64)
    assert len({*unit_ids.read(ids).codes.tolist()}) == 3
  assert len({*unit_ids.read([2**63, 2**63 + 1, -5]).codes.tolist()}) == 3


def test_text_of_different_numbers_is_no_second_spelling():
  ids = ["1" + "0" * 40, "1" + "0" * 39 + "1", "12", "1.2", "120", "-12", "1e2"]
  assert sorted(unit_ids.read(ids).codes) == list(range(7))


def test_columns_are_not_joined_to_one_text():
  found = unit_ids.read([("1", "23"), ("12", "3"), ("1", "23")])
  assert found.codes.tolist() == [0, 1, 0]
  assert len({found.name(row) for row in range(3)}) == 2


def test_units_in_two_sets_are_counted():
  shared = unit_ids.num_shared
  assert shared(["a", "b", "a"], ["c"]) == 0
  assert shared(["a", "b", "a"], np.array(["c", "a", "a"])) == 1
  assert shared(np.array([7, 8], np.uint64), np.array([7.0, 9.0])) == 1
  assert shared([("h", 1), ("h", 2)], [("i", 1), ("h", 2)]) == 1
  with pytest.raises(ValueError, match="spelt in one way each.*rows 1 and 3"):
    shared(["al", "bo"], ["Al"])
  with pytest.raises(ValueError, match="all strings or all whole numbers"):
    shared(["7"], [7])
  with pytest.raises(ValueError, match="as many columns"):
    shared([("h", 1)], ["h"])


@pytest.mark.parametrize("missing", [None, float("nan"), "NA", "-1", " "])
def test_a_missing_id_is_refused_in_any_column(missing):
  for ids in (["a", missing], [("a", "x"), ("b", missing)]):
    with pytest.raises(
        ValueError, match="for every row.*row 2, counted from 1: private"
    ):
      unit_ids.read(ids)


_NA = type("NAType", (), {})()  # As pandas has it.


@pytest.mark.parametrize(
    "ids, rule",
    [
        (np.array([1.0, np.nan]), "given for every row.*got NaN"),
        (_OBJECT("a", _NA), "given for every row"),
        (_OBJECT(1, np.datetime64("NaT", "D")), "got a value of datetime64"),
        (np.array([4, -1]), "given for every row.*got -1"),
        (_OBJECT(4, -1.0), "given for every row.*got -1"),
        (["a", ""], "got a word for a missing one"),
        (["a", "<NA>"], "got a word for a missing one"),
        (np.ma.masked_array([1, 2], [0, 1]), "got a masked one"),
        (
            np.ma.masked_array([(1, 2), (3, 4)], [(0, 0), (0, 1)], "i4,i4"),
            "got a masked one",
        ),
        (["al", "Al"], "spelt in one way"),
        (["al", "al "], "spelt in one way"),
        (["J. Doe", "J.\u00a0Doe"], "spelt in one way"),
        (["al", "a\u200bl"], "spelt in one way"),
        (["al", "al\0"], "spelt in one way"),
        (["é", "e\u0301"], "spelt in one way"),
        (["STRASSE", "straße"], "spelt in one way"),
        (["7", "007"], "spelt in one way"),
        (["7", "7.0"], "spelt in one way"),
        (["7", "+7"], "spelt in one way"),
        (["7.5", "7.50"], "spelt in one way"),
        (["1" + "0" * 30, "1E+30"], "spelt in one way"),
        (["0", "-0"], "spelt in one way"),
        (["7", "７"], "spelt in one way"),
        (["a", 1], "all strings or all whole numbers.*rows 1 and 2"),
        (_OBJECT("7", 7), "all strings or all whole numbers"),
        (np.array([1.0, 1.5]), "got a fraction"),
        (np.array([1.0, np.inf]), "float64 holds exactly"),
        (
            np.array([1, 2**24], np.float32),
            "float32 holds exactly, below 16777",
        ),
        (_OBJECT(1, 2.0**53), "float64 holds exactly"),
        (np.array([True, False]), "values of bool"),
        (_OBJECT(1, True), "a value of bool"),
        (np.array([1j]), "values of complex128"),
        (np.array([0], "datetime64[D]"), "values of datetime64"),
        (_OBJECT(b"a", b"\xff"), "UTF-8"),
        (jnp.arange(3), "a JAX array"),
        ([jnp.arange(3), jnp.arange(3)], "a list of other lists or arrays"),
        ([[1, 2], [3, 4]], "a list of other lists or arrays"),
        ([np.arange(2), np.arange(2)], "a list of other lists or arrays"),
        ([("a", "b"), "c"], "a list of other lists or arrays"),
        ([("a", "b"), ("c",)], "a list of other lists or arrays"),
        ([], "at least one row"),
        (np.zeros((0, 2), int), "at least one row"),
        (np.zeros((2, 0), int), r"\[num_rows\] or"),
        (np.zeros((2, 2, 2), int), r"\[num_rows\] or"),
        ("al", r"\[num_rows\] or"),
        (None, r"\[num_rows\] or"),
        (types.SimpleNamespace(), r"\[num_rows\] or"),
    ],
)
def test_what_may_be_wrong_is_refused(ids, rule):
  with pytest.raises(ValueError, match=rule) as caught:
    unit_ids.read(ids)
  text = str(caught.value)
  assert text.startswith("ids must be ") and "\n" not in text
  # An id may be a name: it is not shown.
  assert "Doe" not in text and "al" not in text.split()
