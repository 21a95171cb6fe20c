"""Arguments after the colon: a config, or a ValueError that names the key."""

import importlib
import math

import hypothesis
import pytest
from hypothesis import strategies as st

from configs import common
from tests.support import fuzz, launch

_KEYS = ["epsilon", "path", "depth", "width", "views", "smoke", "EPSILON", ""]
_VALUES = st.one_of(
    st.sampled_from(
        ["1", "8", "-1", "0", "nan", "inf", "-inf", "1e999", "1e-999", "1_0"]
    ),
    st.sampled_from(["True", "maybe", "None", "9" * 9999, "", "=", "\uff11"]),
    st.text(max_size=9),
)
_ARGS = st.one_of(
    st.lists(st.tuples(st.sampled_from(_KEYS), _VALUES), max_size=3).map(
        lambda items: ",".join(f"{key}={value}" for key, value in items)
    ),
    st.text(max_size=20),
)


def _check(name, arg):
  get_config = importlib.import_module(f"configs.{name}").get_config
  try:
    config = get_config(arg)
  except ValueError as error:
    fuzz.assert_clear(error, "config argument")
    return
  # Built on what was asked for, and on nothing else.
  assert config.is_locked and config.name == name
  given = dict(item.split("=", 1) for item in arg.split(",") if item)
  if "epsilon" in given and not math.isnan(float(given["epsilon"])):
    assert config.dp.epsilon == float(given["epsilon"])


@fuzz.SHORT
@hypothesis.given(st.sampled_from(launch.CONFIGS), _ARGS)
def test_any_argument_is_taken_or_named(name, arg):
  _check(name, arg)


@pytest.mark.slow
@fuzz.LONG
@hypothesis.given(st.sampled_from(launch.CONFIGS), _ARGS)
def test_any_argument_is_taken_or_named_at_length(name, arg):
  _check(name, arg)


@pytest.mark.parametrize(
    "value", ["9" * 9999, "x" * 9999, "a\nb"], ids=range(3)
)
def test_a_long_value_is_told_in_short(value):
  with pytest.raises(ValueError, match="config argument n must be of") as got:
    common.parse_arg(f"n={value}", n=1)
  fuzz.assert_clear(got.value)
  with pytest.raises(ValueError, match="config argument must be one") as got:
    common.parse_arg(f"{value}=1", n=1)
  fuzz.assert_clear(got.value)
