"""L2 norms in units of the clip norm, from sums made in blocks.

Entries are divided by a number near the clip norm before they are squared. A
square that underflows then belongs to an entry too small to matter beside the
clip norm, whatever the clip norm is, and none that overflows can pass for a
small one.

The invariant: a norm is not below what its entries have, by more than a few
units of rounding. One accumulator that takes n equal numbers is off by up to
n/2 units, all of one sign; block by block, by half the numbers in a block,
summed over levels.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy import magnitude
  >>> x = jnp.array([3e-25, 4e-25])
  >>> print(magnitude.relative_norm([x], 1e-25).round(3))
  5.0
"""

import math
from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp

from jax_privacy import precision

_BLOCK = 8


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
  """Returns a power of two near an extreme clip norm; 1 for ordinary ones."""
  _, exponent = math.frexp(clip_norm)
  return 1.0 if abs(exponent) < 14 else math.ldexp(1.0, exponent)


def block_sum(x: jax.Array) -> jax.Array:
  """Sums over the first axis, eight at a time."""
  while len(x) > _BLOCK:
    pad = -len(x) % _BLOCK
    x = jnp.pad(x, [(0, pad), *[(0, 0)] * (x.ndim - 1)])
    x = jnp.sum(x.reshape(-1, _BLOCK, *x.shape[1:]), axis=1)
  return jnp.sum(x, axis=0)
