"""ListOps against Python's own evaluation of the same expression."""

import statistics

import numpy as np
import pytest

from jax_privacy.data import text
from jax_privacy.data.text import listops

_NAMES = {
    "[MIN": "min([",
    "[MAX": "max([",
    "[MED": "med([",
    "[SM": "sm([",
    "]": "]),",
}


def _by_python(words):
  source = "".join(_NAMES.get(word, f"{word},") for word in words)
  names = {
      "min": min,
      "max": max,
      "med": lambda values: int(statistics.median(values)),
      "sm": lambda values: sum(values) % 10,
  }
  return eval(source, {"__builtins__": {}}, names)[0]  # noqa: S307


def test_values_are_those_of_python_and_fit():
  source = text.load(
      "listops", length=24, max_depth=3, max_arguments=4, num_examples=200
  )
  batch = source[np.arange(200)]
  depths, values = set(), []
  for i in range(200):
    *words, value = source.tokeniser.decode(batch["tokens"][i]).split()
    assert batch["num_tokens"][i] == len(words) + 1 <= 24
    assert batch["num_context"][i] == len(words)
    assert int(value) == _by_python(words) == listops.value_of(words)
    level = np.cumsum([(w[0] == "[") - (w == "]") for w in words])
    assert level[-1] == 0 and (level[:-1] > 0).all()
    depths.add(int(level.max()))
    values.append(int(value))
  assert depths == {1, 2, 3} and len(set(values)) == 10


def test_splits_differ_and_stay():
  first, again, test = (
      text.load("listops", length=24, split=split)[np.arange(9)]["tokens"]
      for split in ("train", "train", "test")
  )
  np.testing.assert_array_equal(first, again)
  assert (first != test).any(axis=1).all()


@pytest.mark.parametrize(
    "options, rule",
    [
        ({"length": 4}, "length must be an integer of at least 5, got 4"),
        ({"max_depth": 0}, "max_depth must be an integer of at least 1"),
        (
            {"max_arguments": 1},
            "max_arguments must be an integer of at least 2",
        ),
    ],
)
def test_wrong_options_are_refused(options, rule):
  with pytest.raises(ValueError, match=rule):
    text.load("listops", **options)


def test_the_least_room_will_do():
  source = text.load("listops", length=5, num_examples=50)
  assert (source[np.arange(50)]["num_tokens"] == 5).all()
