"""L2 norms in units of the clip norm, from sums made in blocks.

Entries are divided by a number near the clip norm before they are squared. A
square that underflows then belongs to an entry too small to matter next to the
clip norm. No square that overflows can pass for a small one.

The invariant: a norm is at most a few units of rounding below the norm of its
entries. One accumulator that takes n equal numbers is off by up to n/4 units,
all of one sign. Block by block, the error is a quarter of the numbers in a
block, summed over levels.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy import magnitude
  >>> x = jnp.array([3e-25, 4e-25])
  >>> print(magnitude.relative_norm([x], 1e-25).round(3))
  5.0
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp

from jax_privacy import precision

_BLOCK = 8
# Of a contraction that is made one part after the other, to save memory.
_MAX_PARTS = 16
_einsum = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


def relative_norm(
    leaves: Sequence[jax.Array], unit: chex.Numeric = 1.0
) -> jax.Array:
  """Returns the L2 norm of all entries of all leaves, over `unit`.

  Args:
    leaves: Real floating-point arrays of any shapes.
    unit: A positive number.

  Returns:
    A scalar, float32 at least: 0 without entries; infinity or NaN where the sum
    of squares is not finite.

  Raises:
    TypeError: If a leaf is not real and floating point.
  """
  dtype = precision.at_least_float32(*(leaf.dtype for leaf in leaves))
  if not leaves:
    return jnp.zeros((), dtype)
  unit = jnp.asarray(unit, dtype)
  squares = [jnp.sum(jnp.square(x.astype(dtype) / unit)) for x in leaves]
  return jnp.sqrt(block_sum(jnp.stack(squares)))


def unit_near(clip_norm: float) -> float:
  """Returns a power of two near an extreme clip norm; 1 for ordinary ones.

  Args:
    clip_norm: Clip norm, a positive finite number.
  """
  _, exponent = math.frexp(clip_norm)
  return 1.0 if abs(exponent) < 14 else math.ldexp(1.0, exponent)


def block_sum(x: jax.Array) -> jax.Array:
  """Returns the sum over the first axis, taken eight at a time.

  Args:
    x: Array [n, ...].
  """
  while len(x) > _BLOCK:
    pad = -len(x) % _BLOCK
    x = jnp.pad(x, [(0, pad), *[(0, 0)] * (x.ndim - 1)])
    x = jnp.sum(x.reshape(-1, _BLOCK, *x.shape[1:]), axis=1)
  return jnp.sum(x, axis=0)


def contract(
    spec: str, x: jax.Array, z: jax.Array, *, letter: str, block: int
) -> jax.Array:
  """Returns an einsum in which no accumulator takes more than `block` numbers.

  Args:
    spec: Subscripts of two operands, as for `jnp.einsum`.
    x: First operand.
    z: Second operand.
    letter: Axis of `spec` that is summed in blocks.
    block: Number of entries of that axis to sum at a time.

  Returns:
    `jnp.einsum(spec, x, z)`, up to rounding.
  """
  of_x, of_z, out = spec.replace("->", ",").split(",")
  axes = of_x.index(letter), of_z.index(letter)
  size = x.shape[axes[0]]
  if size <= block:
    return _einsum(spec, x, z)
  step = -(-size // min(-(-size // block), _MAX_PARTS))
  blocked = f"{of_x},{of_z}".replace(letter, "n" + letter) + "->n" + out
  total: Any = 0.0
  for start in range(0, size, step):
    part = [
        jax.lax.slice_in_dim(a, start, min(start + step, size), axis=axis)
        for a, axis in zip((x, z), axes, strict=True)
    ]
    if step <= block:
      total += _einsum(spec, *part)
    else:
      pairs = zip(part, axes, strict=True)
      part = [_blocks(a, axis, block) for a, axis in pairs]
      total += block_sum(_einsum(blocked, *part))
  return total


def mantissa(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns `x` with entries of at most 1, and log2 of what it was divided by.

  Args:
    x: Floating point, not empty; cast to float32 at least.
  """
  x = x.astype(precision.at_least_float32(x.dtype))
  _, exponent = jnp.frexp(jnp.max(jnp.abs(x)))
  return jnp.ldexp(x, -exponent), exponent


def _blocks(x, axis, block):
  """Splits an axis in two, [number of blocks, block], filled with zeros."""
  size = x.shape[axis]
  num = -(-size // block)
  pad = [(0, 0)] * x.ndim
  pad[axis] = (0, num * block - size)
  shape = (*x.shape[:axis], num, block, *x.shape[axis + 1 :])
  return jnp.pad(x, pad).reshape(shape)
