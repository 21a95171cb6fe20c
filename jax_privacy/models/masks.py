"""Stochastic depth and dropout, with masks that belong to one image.

Invariant: what is dropped for an image is a pure function of that image's own
key and of the layer's index in the network. Neither the batch around it nor its
place in it, nor microbatches or devices, can change it. Without keys nothing is
dropped, as an evaluation should.

>>> import jax
>>> keys = jax.random.split(jax.random.key(0), 3)
>>> x = jax.numpy.ones((3, 100))
>>> y = dropout(x, keys, rate=0.5, layer=0)
>>> bool((dropout(x[2:], keys[2:], rate=0.5, layer=0) == y[2:]).all())
True
>>> dropout(x, None, rate=0.5, layer=0) is x
True
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def check_keys(keys: jax.Array | None, *, num_images: int) -> None:
  """Refuses keys that are not one per image.

  Args:
    keys: PRNG keys [n], typed or raw (uint32 [n, 2]); None for no masks.
    num_images: Number of images, n.

  Raises:
    ValueError: If there are not n of them, or they are no keys.
  """
  if keys is None:
    return
  is_typed = jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)
  is_raw = keys.dtype == jnp.uint32 and keys.ndim == 2
  if keys.shape[:1] != (num_images,) or not (
      is_raw or (is_typed and keys.ndim == 1)
  ):
    raise ValueError(
        f"keys must be one per image, {num_images}, got {keys.dtype}"
        f" {list(keys.shape)}."
    )


def drop_rates(rate: float, *, num_blocks: int) -> tuple[float, ...]:
  """Returns rate * i / n for block i of n: later blocks go more often.

  Args:
    rate: Probability that the last block would be dropped, in [0, 1).
    num_blocks: Number of blocks, n.

  Source: Huang et al. 2016 (arXiv 1603.09382), as in the code of Brock et al.
  2021: i starts at 0, so that the first block is never dropped.
  """
  return tuple(rate * i / num_blocks for i in range(num_blocks))


def stochastic_depth(
    keys: jax.Array | None, *, rates: Sequence[float]
) -> list[jax.Array | None]:
  """Draws for each block and image whether the residual branch is kept.

  Args:
    keys: PRNG keys, one per image, [n]; None keeps all.
    rates: Probability that each block is dropped; block i is layer i.

  Returns:
    Bool [n] for each block, or None where all are kept.
  """
  if keys is None:
    return [None] * len(rates)

  def keep(key, layer):
    key = jax.random.fold_in(key, layer)
    return jax.random.bernoulli(key, 1.0 - rates[layer])

  return [
      jax.vmap(keep, in_axes=(0, None))(keys, layer) if rate else None
      for layer, rate in enumerate(rates)
  ]


def apply_kept(branch: jax.Array, keep: jax.Array | None) -> jax.Array:
  """Returns a residual branch [n, h, w, c], zero where it is not kept.

  What is kept is not scaled up, as in the code of Brock et al. 2021.

  Args:
    branch: Floats [n, h, w, c].
    keep: Bool [n], or None to keep all.
  """
  if keep is None:
    return branch
  return branch * jnp.expand_dims(keep, (1, 2, 3)).astype(branch.dtype)


def dropout(
    x: jax.Array, keys: jax.Array | None, *, rate: float, layer: int
) -> jax.Array:
  """Zeroes entries of `x` with probability `rate`, and scales up the others.

  Args:
    x: Floats [n, features].
    keys: PRNG keys, one per image, [n]; None returns `x`.
    rate: Probability that an entry is zeroed, in [0, 1); 0 returns `x`.
    layer: Index of the layer, so that layers with the same keys draw apart.

  Returns:
    An array of the shape and dtype of `x`; its expectation is `x`.
  """
  if keys is None or not rate:
    return x

  def keep(key):
    key = jax.random.fold_in(key, layer)
    return jax.random.bernoulli(key, 1.0 - rate, x.shape[1:])

  return jnp.where(jax.vmap(keep)(keys), x / (1.0 - rate), jnp.zeros_like(x))
