"""Pieces of a batched weight gradient of scaled cotangents.

The invariant: an example that is not counted adds nothing, whatever its numbers
are: it is left out by a selection, since 0 x NaN is NaN.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy.ghost import sums
  >>> x, z = jnp.ones((3, 1, 1, 2)), jnp.ones((3, 1, 1, 1))
  >>> z = sums.scaled(z, jnp.array([0.5, 2.0, jnp.nan]), jnp.arange(3) < 2)
  >>> print(sums.outer(x, z).ravel())
  [2.5 2.5]
"""

import functools
import math

import jax
import jax.numpy as jnp

from jax_privacy import magnitude

# Positions that are summed in one go: more cost less and round more.
POSITION_BLOCK = 256
_einsum = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


def scaled(x: jax.Array, factor: jax.Array, is_counted: jax.Array) -> jax.Array:
  """Returns scaled rows; those that do not count are 0, whatever they hold.

  Args:
    x: Rows, [batch_size, ...].
    factor: Factors, [batch_size].
    is_counted: Booleans [batch_size].
  """
  shape = x.shape
  if sum(n > 1 for n in shape[1:]) <= 1:
    # A weight's copy is a bias's copy then, and XLA may make it in place.
    x = x.reshape(len(x), -1)
  axes = range(1, x.ndim)
  rows = x * jnp.expand_dims(factor, axes)
  return jnp.where(jnp.expand_dims(is_counted, axes), rows, 0).reshape(shape)


def outer(x: jax.Array, z: jax.Array) -> jax.Array:
  """Returns the sum of outer products, [S, D, P].

  Positions are summed in blocks: XLA takes all into one accumulator otherwise,
  and what one example adds is then off by T/4 units of rounding. The shorter of
  the two is transposed.

  Args:
    x: Rows, [B, S, T, D].
    z: Cotangents, [B, S, T, P].
  """
  contract = functools.partial(
      magnitude.contract, letter="t", block=POSITION_BLOCK
  )
  if x.shape[-1] <= z.shape[-1]:
    return contract("bstd,bstp->sdp", x, z)
  return jnp.swapaxes(contract("bstp,bstd->spd", z, x), 1, 2)


def merge_block_size(size: int) -> int:
  """Returns how many positions `merged` adds up at once.

  Args:
    size: Number of all positions.
  """
  return max(64, math.isqrt(size))


def merged(ids: jax.Array, is_row: jax.Array, z: jax.Array) -> jax.Array:
  """Returns `z` with the rows of one id added up, in each block, in the first.

  A scatter adds one row after the other, and so rounds as often as an id comes.

  Args:
    ids: Integers [T].
    is_row: Booleans [T], which of them are to be added at all.
    z: Rows, [T, P].

  Returns:
    [T, P]; 0 where an earlier position of the block has the same id.
  """
  size, block = len(ids), merge_block_size(len(ids))
  pad = -size % block
  ids = jnp.pad(ids, (0, pad)).reshape(-1, block)
  is_row = jnp.pad(is_row, (0, pad)).reshape(-1, block)
  z = jnp.pad(z, ((0, pad), (0, 0))).reshape(-1, block, z.shape[1])
  same = (ids[:, :, None] == ids[:, None]) & is_row[:, None]
  earlier = jnp.tril(jnp.ones((block, block), bool), -1)
  is_first = is_row & ~jnp.any(same & earlier[None], axis=-1)
  added = _einsum("ntu,nup->ntp", same.astype(z.dtype), z)
  added = jnp.where(is_first[..., None], added, 0)
  return added.reshape(-1, z.shape[-1])[:size]


def after(total: jax.Array, is_counted: jax.Array) -> jax.Array:
  """Returns `is_counted`, for sums that are to be made after `total`.

  What is taken from it never holds, but XLA does not see that. Left to itself,
  it scales the cotangents of all layers before it makes the first sum, for a
  sum takes memory (its result) and a copy seems not to; so all copies exist at
  one time. `jax.lax.optimization_barrier` is dropped on a CPU.

  Args:
    total: A sum, not empty.
    is_counted: Booleans [batch_size].
  """
  number = total[(0,) * total.ndim]
  return is_counted & ~(jnp.isnan(number) & (number == 0))
