"""What every draw of noise has in common: its end, its sum and its generator.

The invariant: a draw is compiled by itself, whether or not the update is, so
that XLA rounds alike in both; and no update gets noise beyond the last draw
that is accounted for.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy import noise_draws
  >>> noise_draws.past_the_end(jnp.int32(2), num_steps=3)
  False
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jax_privacy import _validate, precision

# A counter's last value, at which it stays: it is never noised.
_LAST_COUNT = 2**31 - 1


def past_the_end(step: jax.Array, num_steps: int | None) -> bool | jax.Array:
  """Returns whether there is no draw for an update.

  Args:
    step: Number of updates made before, an int32 scalar.
    num_steps: Number of updates that are accounted for; None for the most that
      can be counted.

  Returns:
    False; or a traced Boolean, where `step` is traced: see `void`.

  Raises:
    ValueError: If there is none, and `step` is not traced.
  """
  end = _LAST_COUNT if num_steps is None else min(num_steps, _LAST_COUNT)
  if isinstance(step, jax.core.Tracer):
    return (step < 0) | (step >= end)
  if not 0 <= int(step) < end:
    rule = (
        f"at most num_steps = {end}, which the noise is accounted for (to train"
        " longer, begin a new run whose mechanism has more steps)"
    )
    _validate.fail("the number of updates", rule, int(step) + 1)
  return False


def void(
    leaves: Sequence[jax.Array], is_over: bool | jax.Array
) -> list[jax.Array]:
  """Returns noised sums, or NaN where there was no draw for them.

  Before the optimiser, so that its state takes up no gradient either.

  Args:
    leaves: Noised sums.
    is_over: Whether all draws were used before.
  """
  if is_over is False:
    return list(leaves)
  return [
      jnp.where(is_over, jnp.asarray(jnp.nan, leaf.dtype), leaf)
      for leaf in leaves
  ]


def add_noise(leaf: jax.Array, noise: jax.Array) -> jax.Array:
  """Returns `leaf` plus noise of its shape, in the leaf's dtype.

  The sum is made in the longer dtype of the two, float32 at least; rounding it
  to a shorter one rounds what is already private, and is free.

  Args:
    leaf: Sum, real and floating point.
    noise: Noise of the same shape.
  """
  total_dtype = precision.at_least_float32(leaf.dtype, noise.dtype)
  noised = leaf.astype(total_dtype) + noise.astype(total_dtype)
  return noised.astype(leaf.dtype)


# Compiled, though it may be in no compiled update: XLA then rounds alike in
# both. It folds stddev into a factor of the draw's and fuses product and sum.
@functools.partial(jax.jit, static_argnames=("stddev", "dtype"))
def noised(
    key: jax.Array,
    leaf: jax.Array,
    stddev: float,
    dtype: jax.typing.DTypeLike | None,
) -> jax.Array:
  """Returns a leaf plus noise of its own.

  Args:
    key: Key of the step and the leaf.
    leaf: Sum, real and floating point.
    stddev: Standard deviation.
    dtype: Type of the draw; None for the leaf's own, float32 at least.
  """
  dtype = dtype or precision.at_least_float32(leaf.dtype)
  noise = stddev * jax.random.normal(key, leaf.shape, dtype)
  return add_noise(leaf, noise)


def check_generator(key: jax.Array) -> None:
  """Refuses what JAX does not promise to be the same for every sharding.

  Args:
    key: Key of the run's noise.

  Raises:
    ValueError: If it is of another generator, or JAX's option is off.
  """
  # By name: JAX adds its options to the class as it starts.
  if not getattr(jax.config, "jax_threefry_partitionable"):  # noqa: B009
    _validate.fail("jax_threefry_partitionable", "True", False)
  generator = str(jax.random.key_impl(key))
  if generator != "threefry2x32":
    _validate.fail("prng_key", "a key of threefry2x32", generator)


def check_draw_dtype(dtype: jax.typing.DTypeLike | None) -> None:
  """Refuses draws of fewer bits than float32.

  Args:
    dtype: Type of the draw, or None.

  Raises:
    ValueError: If it is another one.
  """
  if dtype is None:
    return
  if jnp.dtype(dtype) not in (jnp.dtype("float32"), jnp.dtype("float64")):
    name = jnp.dtype(dtype).name
    _validate.fail("dtype", "float32, float64 or None", name)
