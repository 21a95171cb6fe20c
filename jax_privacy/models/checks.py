"""Checks shared by the models: options at construction, images when called.

Invariant: a check reads only shapes, dtypes and Python numbers, so it costs
nothing inside `jax.jit`, and works on abstract values.

>>> positive_int("depth", 16)
16
>>> positive_int("depth", 0)
Traceback (most recent call last):
...
ValueError: depth must be an integer of at least 1, got 0.
"""

import math
import numbers
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jax_privacy import _validate


def positive_int(name: str, value: int) -> int:
  """Returns `value` as an int, or refuses it.

  Args:
    name: Name of the option, for the error text.
    value: A positive integer; a boolean is not one.

  Returns:
    The value as a Python int.

  Raises:
    ValueError: If the value is not a positive integer.
  """
  return _validate.integer(name, value, at_least=1)


def positive_ints(
    name: str, values: Sequence[int], *, length: int
) -> tuple[int, ...]:
  """Returns `values` as a tuple of `length` positive ints, or refuses them.

  Args:
    name: Name of the option, for the error text.
    values: A sequence of positive integers.
    length: Number of values that there must be.

  Returns:
    The values as a tuple of Python ints.

  Raises:
    ValueError: If there are not `length` of them, or one is not positive.
  """
  rule = f"{name} must be {length} positive integers, got {values!r}."
  if isinstance(values, str) or not isinstance(values, Sequence):
    raise ValueError(rule)
  if len(values) != length:
    raise ValueError(rule)
  return tuple(positive_int(f"{name}[{i}]", v) for i, v in enumerate(values))


def finite(name: str, value: float) -> float:
  """Returns `value` as a float, or refuses what is no finite number.

  Args:
    name: Name of the option, for the error text.
    value: Value of the option.

  Raises:
    ValueError: If the value is no finite number.
  """
  return _real(name, value, "a finite number", lambda v: True)


def positive(name: str, value: float) -> float:
  """Returns `value` as a float, or refuses what is not above 0 and finite.

  Args:
    name: Name of the option, for the error text.
    value: Value of the option.

  Raises:
    ValueError: If the value is no positive finite number.
  """
  return _real(name, value, "a positive finite number", lambda v: v > 0.0)


def rate(name: str, value: float) -> float:
  """Returns `value` as a float, or refuses what does not lie in [0, 1).

  Args:
    name: Name of the option, for the error text.
    value: Value of the option.

  Raises:
    ValueError: If the value is no number in [0, 1).
  """
  return _real(name, value, "a number in [0, 1)", lambda v: 0.0 <= v < 1.0)


def _real(
    name: str, value: float, rule: str, holds: Callable[[float], bool]
) -> float:
  is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
  if not is_number or not math.isfinite(value) or not holds(value):
    raise ValueError(f"{name} must be {rule}, got {value!r}.")
  return float(value)


def flag(name: str, value: bool) -> bool:
  """Returns `value`, or refuses what is not a Boolean: "no" would be true.

  Args:
    name: Name of the option, for the error text.
    value: Value of the option.

  Raises:
    ValueError: If the value is not a Boolean.
  """
  if not isinstance(value, bool):
    raise ValueError(f"{name} must be True or False, got {value!r}.")
  return value


def one_of(name: str, value: str, *, valid: Sequence[str]) -> str:
  """Returns `value`, or refuses what is not among the valid names.

  Args:
    name: Name of the option, for the error text.
    value: Value of the option.
    valid: Names that are valid.

  Raises:
    ValueError: If the value is not among them.
  """
  if not isinstance(value, str) or value not in valid:
    raise ValueError(
        f"{name} must be one of {', '.join(valid)}, got {value!r}."
    )
  return value


def image_batch(images: jax.Array, *, image_shape: tuple[int, ...]) -> None:
  """Refuses anything but a batch of float images of the model's shape.

  Args:
    images: Argument of the model's call.
    image_shape: Height, width and channels that the model was built for.

  Raises:
    ValueError: If the shape is not [n, *image_shape], or the dtype is not a
      float (integer pixels have most likely missed their normalisation).
  """
  if images.ndim != 4 or images.shape[1:] != image_shape:
    raise ValueError(
        f"images must be of shape [n, {', '.join(map(str, image_shape))}], got"
        f" {list(images.shape)}."
    )
  if not jnp.issubdtype(images.dtype, jnp.floating):
    raise ValueError(
        f"images must be floats, got {images.dtype}: normalise the pixels"
        " first."
    )
