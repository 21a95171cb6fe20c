"""Values in error texts: one line, of bounded length, whatever they are."""

import sys

import numpy as np
import pytest

from accounting import _validate as accounting_validate
from experiments.tasks import sections
from jax_privacy import _validate


def _deep():
  value = []
  for _ in range(2 * sys.getrecursionlimit()):
    value = [value]
  return value


class _Unprintable:

  def __repr__(self):
    raise ValueError("no digits")


_VALUES = [
    *[0, 1.5, float("nan"), "x", "two\nlines", None, True, [1, 2], {"a": 1}],
    *["x" * 1000, 10**5000, list(range(10**4)), np.arange(3), _Unprintable()],
    _deep(),
]


@pytest.mark.parametrize("value", _VALUES, ids=lambda x: type(x).__name__)
def test_a_value_is_shown_on_one_line_by_either_package(value):
  # Neither package may import the other.
  shown = _validate.shown(value)
  assert shown == accounting_validate.shown(value)
  assert "\n" not in shown and len(shown) < 210


# A field's kind is checked first: an array is no choice.
@pytest.mark.parametrize(
    "value",
    [x for x in _VALUES if not isinstance(x, np.ndarray)],
    ids=lambda x: type(x).__name__,
)
def test_an_error_names_the_field_whatever_the_value(value):
  with pytest.raises(
      ValueError, match="^eval.params must be one of a, b, got "
  ):
    sections.check_choice("eval.params", value, ("a", "b"))
