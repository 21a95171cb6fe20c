"""Scaled weight standardisation, known to ghost clipping.

The function is jitted, so a traced loss contains it whole and by name.
`ghost/standardised.py` has the norm of its gradient in closed form.

The invariant: each output channel of the result has mean 0 and norm |gain|,
unless the kernel's own is too small to divide by.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy import weight_standardisation
  >>> kernel = jnp.arange(8.0).reshape(2, 2, 1, 2)
  >>> weight = weight_standardisation.standardise_weight(kernel, jnp.ones(2))
  >>> print(jnp.sum(weight**2, axis=(0, 1, 2)).round(3))
  [1. 1.]
"""

import math

import jax
import jax.numpy as jnp

from jax_privacy import precision


def standardise_weight(
    kernel: jax.Array, gain: jax.Array, *, epsilon: float = 1e-4
) -> jax.Array:
  """Centres and scales a kernel, one output channel at a time.

  (W - mean) * gain / sqrt(max(var * fan_in, epsilon)), with mean and var over
  everything but the output channel, float32 at least.

  Args:
    kernel: Weights [..., out].
    gain: Norms [out] of the output channels.
    epsilon: Least squared norm by which a centred channel is divided.

  Returns:
    The standardised kernel, of the shape and dtype of `kernel`.

  Source: Brock et al. 2021, "Characterizing signal propagation to close the
  performance gap in unnormalized ResNets" (arXiv 2101.08692); epsilon and
  its place as in the code of De et al. 2022 (arXiv 2204.13650).
  """
  return scaled_weight_standardisation(kernel, gain, epsilon)


def channel_scale(
    kernel: jax.Array, epsilon: jax.typing.ArrayLike
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns the factor that gives each centred channel norm 1.

  Args:
    kernel: Weights [..., out].
    epsilon: Least squared norm by which a centred channel is divided.

  Returns:
    The centred kernel, the scales [out], and where the channel's norm is
    divided by: bool [out], False where epsilon is. Float32 at least.
  """
  weight = kernel.astype(precision.at_least_float32(kernel.dtype))
  axes = tuple(range(kernel.ndim - 1))
  centred = weight - jnp.mean(weight, axis=axes, keepdims=True)
  squares = jnp.var(weight, axis=axes) * math.prod(kernel.shape[:-1])
  scale = jax.lax.rsqrt(jnp.maximum(squares, epsilon))
  return centred, scale, squares > epsilon


@jax.jit
def scaled_weight_standardisation(kernel, gain, epsilon):
  """Returns `standardise_weight`, under the name that ghost clipping looks for.

  Args:
    kernel: Weights [..., out].
    gain: Norms [out] of the output channels.
    epsilon: Least squared norm by which a centred channel is divided.
  """
  centred, scale, _ = channel_scale(kernel, epsilon)
  scale *= gain.astype(scale.dtype)
  scale = jnp.expand_dims(scale, tuple(range(kernel.ndim - 1)))
  return (centred * scale).astype(kernel.dtype)
