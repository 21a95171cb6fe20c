"""The dtype in which norms, sums, draws and averages are computed.

The invariant: never shorter than float32. A float16 sum of squares underflows
and lets gradients through unclipped; a bfloat16 sum rounds by more than a clip
norm; bfloat16 noise has 128 values a binade.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy import precision
  >>> precision.at_least_float32(jnp.bfloat16, jnp.float16)
  dtype('float32')
"""

import jax
import jax.numpy as jnp


def at_least_float32(*dtypes: jax.typing.DTypeLike) -> jnp.dtype:
  """Returns the longest of float32 and the dtypes given.

  Args:
    *dtypes: Types of arrays of gradients or parameters.

  Raises:
    TypeError: If one is not real and floating point.
  """
  longest = jnp.dtype("float32")
  for dtype in [jnp.dtype(each) for each in dtypes]:
    if not jnp.issubdtype(dtype, jnp.floating):
      raise TypeError(
          "Gradients and parameters must be real and floating point, got"
          f" {dtype}."
      )
    if jnp.finfo(dtype).bits > jnp.finfo(longest).bits:
      longest = dtype
  return longest


def towards_zero(x: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
  """Returns `x` in a dtype, of which no entry is larger than it was.

  Args:
    x: Floating point, float32 at least.
    dtype: Floating point type; x's own or a longer one changes no value.
  """
  cast = x.astype(dtype)
  is_larger = jnp.abs(cast.astype(x.dtype)) > jnp.abs(x)
  return jnp.where(is_larger, jnp.nextafter(cast, jnp.zeros_like(cast)), cast)
