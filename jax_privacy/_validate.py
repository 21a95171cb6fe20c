"""Checks of public numbers: every error names the field, rule and value.

NaN fails every rule, and a Boolean is not a number. What passes is returned as
the plain Python number, so that `x = positive("x", x)` checks and converts.

Example:
  >>> from jax_privacy import _validate
  >>> _validate.positive("l2_clip_norm", 1)
  1.0
  >>> _validate.positive("l2_clip_norm", float("nan"))
  Traceback (most recent call last):
  ...
  ValueError: l2_clip_norm must be a positive finite number, got nan.
"""

import math
import numbers
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

# What an error says of numbers that are the data's own.
PRIVATE = "private, not for release"
_MAX_SHOWN = 200
# Below, small draws of noise are flushed to zero in float32, down to no noise
# at all; above, large ones overflow.
_MIN_STDDEV, _MAX_STDDEV = 1e-30, 1e30
# Gradients near the clip norm, and what they are scaled by, are normal float32
# numbers; noise in proportion to it can be drawn.
MIN_CLIP_NORM, MAX_CLIP_NORM = 1e-30, 1e30


def fail(name: str, rule: str, value: Any) -> NoReturn:
  """Raises the project's one form of ValueError."""
  raise ValueError(f"{name} must be {rule}, got {shown(value)}.")


def shown(value: Any) -> str:
  """Returns repr(value) on one line, cut where it is long."""
  try:
    text = " ".join(repr(value).split())
  except (RecursionError, ValueError):  # Too deep; too many digits.
    return f"a {type(value).__name__} too long to show"
  return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def as_float(value: Any) -> float:
  """Returns NaN, which fails every rule, for what is not a number."""
  if isinstance(value, (bool, np.bool_, str, bytes)):
    return math.nan
  try:
    return float(value)
  except (OverflowError, TypeError, ValueError):  # A tracer's is a TypeError.
    return math.nan


def positive(name: str, value: Any) -> float:
  """Returns `value` as a float if it is a finite number above 0."""
  number = as_float(value)
  if not (number > 0 and math.isfinite(number)):
    fail(name, "a positive finite number", value)
  return number


def clip_norm(name: str, value: Any) -> float:
  """Returns `value` as a float if gradients can be clipped to that norm."""
  number = positive(name, value)
  if not MIN_CLIP_NORM <= number <= MAX_CLIP_NORM:
    rule = f"between {MIN_CLIP_NORM:g} and {MAX_CLIP_NORM:g}"
    fail(name, rule, value)
  return number


def stddev(name: str, value: Any) -> float:
  """Returns `value` as a float if noise of that scale can be drawn."""
  number = positive(name, value)
  if not _MIN_STDDEV <= number <= _MAX_STDDEV:
    rule = f"in [{_MIN_STDDEV:g}, {_MAX_STDDEV:g}], for float32"
    fail(name, rule, value)
  return number


def probability(name: str, value: Any) -> float:
  """Returns `value` as a float if it lies in (0, 1]."""
  number = as_float(value)
  if not 0 < number <= 1:
    fail(name, "in (0, 1]", value)
  return number


def integer(name: str, value: Any, *, at_least: int) -> int:
  """Returns `value` as an int if it is a whole number >= `at_least`."""
  is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
  if not is_whole or value < at_least:
    fail(name, f"an integer of at least {at_least}", value)
  return int(value)


def prng_key(name: str, value: Any) -> jax.Array:
  """Returns a key for one key (typed, or raw uint32 [2]) or an int seed."""
  rule = "a PRNG key (jax.random.key) or an int"
  if isinstance(value, int) and not isinstance(value, bool):
    return jax.random.key(value)
  if not isinstance(value, jax.Array):
    fail(name, rule, value)
  is_typed = jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
  is_raw = value.dtype == jnp.uint32 and value.ndim == 1
  if not (is_raw or (is_typed and value.ndim == 0)):
    fail(name, rule, f"{value.dtype} {value.shape}")
  return value
