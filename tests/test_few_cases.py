"""`few` keeps as many cases as it says, and makes all others slow."""

import types

import pytest

from tests.support import few_cases


class _Item(types.SimpleNamespace):

  def get_closest_marker(self, name):
    return next((m for m in self.marks if m.name == name), None)

  def add_marker(self, mark):
    self.marks.append(mark.mark)


def _items(name, cases, *marks):
  marks = [mark.mark for mark in marks]
  return [
      _Item(nodeid=f"a.py::{name}[{i}]", marks=list(marks))
      for i in range(cases)
  ]


def _fast(items):
  return [x.nodeid for x in items if not x.get_closest_marker("slow")]


def test_as_many_are_fast_as_it_says():
  many = _items("many", 7, pytest.mark.few(3))
  one = _items("one", 1, pytest.mark.few(1))
  other = _items("other", 2)
  slow = _items("slow", 2, pytest.mark.few(1), pytest.mark.slow)
  # Pytest may put the cases of other functions between them.
  items = [*many[:2], *one, *other, *slow, *many[2:]]
  few_cases.mark(items)
  assert _fast(items) == [
      "a.py::many[0]", "a.py::one[0]", "a.py::other[0]", "a.py::other[1]",
      "a.py::many[3]", "a.py::many[6]",
  ]  # fmt: skip


@pytest.mark.parametrize("few", [1, 2, 3, 5])
@pytest.mark.parametrize("cases", [1, 2, 3, 8])
def test_positions_are_different_and_among_the_cases(cases, few):
  kept = few_cases.spread(cases, few)
  assert len(kept) == min(cases, few)
  assert kept <= set(range(cases)) and 0 in kept
