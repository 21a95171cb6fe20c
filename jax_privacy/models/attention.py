"""Causal attention: rotary positions, shared key heads, windows, soft-caps.

Invariant: position i sees positions i - window + 1 to i of its own sequence,
and nothing else. The softmax is in float32 at least.

>>> from flax import nnx
>>> import numpy as np
>>> attention = Attention(
...     8, num_heads=2, num_kv_heads=1, head_size=4, rngs=nnx.Rngs(0))
>>> y, _ = attention(jnp.ones((2, 3, 8)), jnp.arange(3))
>>> y.shape
(2, 3, 8)
>>> visible(np.arange(3), np.arange(3), window=2).astype(int).tolist()
[[1, 0, 0], [1, 1, 0], [0, 1, 1]]
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jax_privacy.models import checks, sequence_layers


def visible(
    queries: jax.Array, keys: jax.Array, *, window: int | None
) -> jax.Array:
  """Returns which keys each query sees, bool [num_queries, num_keys].

  Args:
    queries: Positions of the queries, [num_queries].
    keys: Positions of the keys, [num_keys].
    window: Number of positions that are seen, the query's own included; None
      for all before it.
  """
  distance = queries[:, None] - keys[None, :]
  seen = distance >= 0
  return seen if window is None else seen & (distance < window)


def rotate(
    x: jax.Array,
    positions: jax.Array,
    *,
    fraction: float = 1.0,
    base: float = 10_000.0,
) -> jax.Array:
  """Turns pairs of features by angles that grow with the position.

  Feature i of the first r = fraction * head_size ones is paired with feature
  i + r / 2, and turned by position * base^(-2 i / r).

  Args:
    x: Floats [n, t, heads, head_size].
    positions: Integers [t].
    fraction: Share of the features that are turned; the others stay.
    base: Base of the wavelengths.

  Returns:
    An array like `x`.

  Source: Su et al. 2021 (arXiv 2104.09864), with Gemma's pairs.
  """
  size = int(x.shape[-1] * fraction) // 2
  dtype = sequence_layers.statistics_dtype(x.dtype)
  rates = base ** (-jnp.arange(size, dtype=dtype) / size)
  angles = positions.astype(dtype)[:, None] * rates[None]
  sin, cos = (f(angles)[None, :, None] for f in (jnp.sin, jnp.cos))
  first, second, rest = jnp.split(x.astype(dtype), (size, 2 * size), axis=-1)
  turned = (first * cos - second * sin, second * cos + first * sin, rest)
  return jnp.concatenate(turned, axis=-1).astype(x.dtype)


def soft_cap(x: jax.Array, cap: float | None) -> jax.Array:
  """Returns cap * tanh(x / cap), within +-cap; `x` itself for None.

  Args:
    x: Floats of any shape.
    cap: Bound, positive.
  """
  return x if cap is None else cap * jnp.tanh(x / cap)


class Attention(nnx.Module):
  """Causal self-attention of h heads of size k, with g heads of keys, g | h.

  With w = width it has 2 w h k + 2 w g k weights. g = 1 is multi-query, g = h
  ordinary attention.

  Args:
    width: Features of input and output.
    num_heads: Heads of queries, h.
    num_kv_heads: Heads of keys and of values, g.
    head_size: Features of a head, k.
    window: Number of positions that are seen; None for all before.
    rotary_fraction: Share of a head's features with rotary positions; 0 for no
      rotary positions.
    cap: Soft-cap of the scores; None for none.
    use_bias: Whether the maps to queries, keys and values have biases.
    use_out_bias: Whether the last map has one.
    init_scale: Factor of the variance of the last map's first weights.
    compute_dtype: Name of the dtype of the products; None for the parameters'.
    rngs: Source of the parameters' random keys.

  Raises:
    ValueError: If g does not divide h, or the window is not positive.

  Source: Vaswani et al. 2017; Shazeer 2019 (arXiv 1911.02150); Ainslie et al.
  2023 (arXiv 2305.13245); the soft-cap is Gemma 2's (arXiv 2408.00118).
  """

  def __init__(
      self,
      width: int,
      *,
      num_heads: int,
      num_kv_heads: int,
      head_size: int,
      window: int | None = None,
      rotary_fraction: float = 1.0,
      cap: float | None = None,
      use_bias: bool = False,
      use_out_bias: bool = False,
      init_scale: float = 1.0,
      compute_dtype: str | None = None,
      rngs: nnx.Rngs,
  ):
    if num_heads % num_kv_heads:
      raise ValueError(
          f"num_kv_heads must divide num_heads = {num_heads}, got"
          f" {num_kv_heads}."
      )
    if window is not None:
      checks.positive_int("window", window)
    self.num_kv_heads, self.head_size = num_kv_heads, head_size
    self.window, self.cap = window, cap
    self.rotary_fraction = rotary_fraction
    kit = {"compute_dtype": compute_dtype, "rngs": rngs}
    queries, keys = num_heads * head_size, num_kv_heads * head_size
    make = sequence_layers.linear
    self.query = make(width, queries, use_bias=use_bias, **kit)
    self.key = make(width, keys, use_bias=use_bias, **kit)
    self.value = make(width, keys, use_bias=use_bias, **kit)
    self.out = make(
        queries, width, use_bias=use_out_bias, init_scale=init_scale, **kit
    )

  def __call__(
      self, x: jax.Array, positions: jax.Array, cache: Any = None
  ) -> tuple[jax.Array, Any]:
    """Attends.

    Args:
      x: Floats [n, t, width].
      positions: Positions of `x`, consecutive integers [t].
      cache: Keys and values of all positions so far, of `init_cache`; None to
        see `x` alone.

    Returns:
      (floats [n, t, width], the cache with those of `x`).
    """
    query, key, value = (
        self._heads(f(x)) for f in (self.query, self.key, self.value)
    )
    if self.rotary_fraction:
      query, key = (
          rotate(h, positions, fraction=self.rotary_fraction)
          for h in (query, key)
      )
    key_positions = positions
    if cache is not None:
      cache = {
          name: jax.lax.dynamic_update_slice_in_dim(
              cache[name], heads.astype(cache[name].dtype), positions[0], axis=1
          )
          for name, heads in (("key", key), ("value", value))
      }
      key, value = cache["key"], cache["value"]
      key_positions = jnp.arange(key.shape[1], dtype=positions.dtype)
    seen = visible(positions, key_positions, window=self.window)
    return self.out(self._attend(query, key, value, seen)), cache

  def init_cache(
      self, num_sequences: int, length: int, dtype: jnp.dtype
  ) -> dict[str, jax.Array]:
    """Returns a cache for `length` positions, all empty.

    Args:
      num_sequences: Number of sequences, n.
      length: Number of positions that there may be.
      dtype: Type of what is kept.
    """
    shape = (num_sequences, length, self.num_kv_heads, self.head_size)
    return {name: jnp.zeros(shape, dtype) for name in ("key", "value")}

  def _heads(self, x: jax.Array) -> jax.Array:
    num_heads = x.shape[-1] // self.head_size
    return x.reshape(*x.shape[:2], num_heads, self.head_size)

  def _attend(self, query, key, value, seen) -> jax.Array:
    n, t, num_heads, size = query.shape
    groups = self.num_kv_heads
    query = query.reshape(n, t, groups, num_heads // groups, size)
    dtype = sequence_layers.statistics_dtype(query.dtype)
    scores = jnp.einsum(
        "ntgik,nsgk->ngits", query, key, preferred_element_type=dtype
    )
    scores = soft_cap(scores * size**-0.5, self.cap)
    # Finite, so that no gradient is NaN; each position sees itself at least.
    least = jnp.asarray(jnp.finfo(dtype).min, dtype)
    scores = jnp.where(jnp.expand_dims(seen, (0, 1, 2)), scores, least)
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    mixed = jnp.einsum("ngits,nsgk->ntgik", weights, value)
    return mixed.reshape(n, t, num_heads * size)
