"""Checks shared by the models: options at construction, images when called.

Invariant: a check reads only shapes, dtypes and Python numbers, so it costs
nothing inside `jax.jit`, and works on abstract values.

>>> positive_int("depth", 16)
16
>>> positive_int("depth", 0)
Traceback (most recent call last):
...
ValueError: depth must be a positive integer, got 0.
"""

import numbers
from collections.abc import Sequence

import jax
import jax.numpy as jnp


def positive_int(name: str, value: int) -> int:
  """Returns `value` as an int, or refuses it.

  Args:
    name: the option, for the error text.
    value: a positive integer; a boolean is not one.

  Returns:
    The value as a Python int.

  Raises:
    ValueError: if the value is not a positive integer.
  """
  if isinstance(value, bool) or not isinstance(value, numbers.Integral):
    raise ValueError(f"{name} must be a positive integer, got {value!r}.")
  if value <= 0:
    raise ValueError(f"{name} must be a positive integer, got {value!r}.")
  return int(value)


def positive_ints(
    name: str, values: Sequence[int], *, length: int
) -> tuple[int, ...]:
  """Returns `values` as a tuple of `length` positive ints, or refuses them.

  Args:
    name: the option, for the error text.
    values: a sequence of positive integers.
    length: how many there must be.

  Returns:
    The values as a tuple of Python ints.

  Raises:
    ValueError: if there are not `length` of them, or one is not positive.
  """
  rule = f"{name} must be {length} positive integers, got {values!r}."
  if isinstance(values, str) or not isinstance(values, Sequence):
    raise ValueError(rule)
  if len(values) != length:
    raise ValueError(rule)
  return tuple(positive_int(f"{name}[{i}]", v) for i, v in enumerate(values))


def image_batch(images: jax.Array, *, image_shape: tuple[int, ...]) -> None:
  """Refuses anything but a batch of float images of the model's shape.

  Args:
    images: what the model was called with.
    image_shape: (height, width, channels) that it was built for.

  Raises:
    ValueError: if the shape is not [n, *image_shape], or the dtype is not a
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
