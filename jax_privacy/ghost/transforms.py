"""Parameter transforms through which a norm is known without the gradient.

A weight is often not the parameter itself. Two kinds of path from parameters to
a weight keep the closed forms of `rules.py`:

  isometric: reshapes, transposes, casts. The norm of the gradient is the same
    on both sides.
  weight standardisation: a formula takes the norm over (`standardised`).

Any other path is no less right, only slower: the gradient is made and pulled
back. The invariant: `find` knows an equation by what it computes, not by its
name alone.

Example:
  >>> import jax, jax.numpy as jnp
  >>> from jax_privacy import weight_standardisation
  >>> from jax_privacy.ghost import transforms
  >>> jaxpr = jax.make_jaxpr(weight_standardisation.standardise_weight)(
  ...     jnp.ones((3, 3, 2, 4)), jnp.ones(4)).jaxpr
  >>> transforms.find(jaxpr.eqns[0])
  'weight_standardisation'
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jax_privacy import weight_standardisation as ws

_ISOMETRIES = (
    "copy",
    "copy_p",
    "expand_dims",
    "neg",
    "reshape",
    "rev",
    "squeeze",
    "transpose",
)
_einsum = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
_STANDARDISE = ws.scaled_weight_standardisation


def find(eqn: Any) -> str | None:
  """Returns "weight_standardisation" for that equation, None for others."""
  is_call = eqn.primitive.name in ("jit", "pjit")
  if not is_call or eqn.params["name"] != _STANDARDISE.__name__:
    return None
  try:
    traced = jax.make_jaxpr(_STANDARDISE)(*(v.aval for v in eqn.invars))
  except (TypeError, ValueError):  # Its operands are not those of ours.
    return None
  (known,) = traced.jaxpr.eqns
  if str(known.params["jaxpr"]) != str(eqn.params["jaxpr"]):
    return None
  return "weight_standardisation"


def is_isometry(eqn: Any) -> bool:
  """Returns whether a one-operand equation keeps every gradient's norm."""
  name = eqn.primitive.name
  before, after = eqn.invars[0].aval, eqn.outvars[0].aval
  if name == "convert_element_type":
    return all(jnp.issubdtype(a.dtype, jnp.floating) for a in (before, after))
  if name == "broadcast_in_dim":
    return len(eqn.invars) == 1 and math.prod(before.shape) == math.prod(
        after.shape
    )
  return name in _ISOMETRIES and len(eqn.invars) == 1


def amplitude(
    kernel: jax.Array, gain: jax.Array, epsilon: jax.typing.ArrayLike
) -> jax.Array:
  """Returns gain_c s_c, [out]: what a centred channel is multiplied by."""
  _, scale, _ = ws.channel_scale(kernel, epsilon)
  return gain.astype(scale.dtype) * scale


def unit_outputs(
    kernel: jax.Array,
    gain: jax.Array,
    epsilon: jax.typing.ArrayLike,
    *,
    outputs: jax.Array,
    channel_axis: int,
    apply: Callable[[jax.Array], jax.Array],
) -> jax.Array:
  """Returns what a site's outputs would be with all gains 1.

  That is its outputs over the gains, unless a gain is about zero; the branch
  that is taken depends on parameters alone.

  Args:
    kernel: [..., out].
    gain: [out].
    epsilon: As in `standardise_weight`.
    outputs: The site's outputs.
    channel_axis: Where they have the axis `out`.
    apply: From a weight to the site's outputs.
  """
  axes = [i for i in range(outputs.ndim) if i != channel_axis]

  def divided():
    return outputs / jnp.expand_dims(gain, axes).astype(outputs.dtype)

  def again():
    centred, scale, _ = ws.channel_scale(kernel, epsilon)
    unit = centred * jnp.expand_dims(scale, range(kernel.ndim - 1))
    return apply(unit.astype(kernel.dtype))

  return jax.lax.cond(jnp.all(jnp.abs(gain) > 1e-6), divided, again)


def standardised(
    gram_squares: jax.Array,
    diagonal: jax.Array,
    input_sums: jax.Array,
    cotangents: jax.Array,
    along: jax.Array,
    kernel: jax.Array,
    gain: jax.Array,
    epsilon: jax.typing.ArrayLike,
) -> tuple[jax.Array, jax.Array]:
  """Squared gradient norms of (kernel, gain), for one example.

  With g the gradient of the standardised weight, W~ the centred kernel with its
  scale s, N the fan-in and, for each output channel c,

    m_c = N mean(g_c) = sum over t of z_tc * (sum of x_t)
    along_c = <g_c, W~_c>

  the norms are

    kernel: sum over c of gain_c^2 s_c^2 (|g_c|^2 - m_c^2 / N - along_c^2)
    gain: sum over c of along_c^2

  where along_c^2 is left out if epsilon took the place of the kernel's norm.
  What rounding may have taken away is added (see `rules.squared_norm`).

  Args:
    gram_squares: sum over c of (gain_c s_c)^2 |g_c|^2.
    diagonal: |x_t|^2, [S, T].
    input_sums: sum of x_t, [S, T].
    cotangents: z, [S, T, P].
    along: <g_c, W~_c>, [S, P].
    kernel: [..., S * P].
    gain: [S * P].
    epsilon: As in `standardise_weight`.

  Returns:
    Two scalars.
  """
  dtype = cotangents.dtype
  squares = jnp.square(amplitude(kernel, gain, epsilon).astype(dtype))
  squares = squares.reshape(along.shape)
  has_norm = ws.channel_scale(kernel, epsilon)[2].reshape(along.shape)
  fan_in = math.prod(kernel.shape[:-1])
  mean = _einsum("stp,st->sp", cotangents, input_sums) / math.sqrt(fan_in)
  along_norm = jnp.where(has_norm, along, 0)
  taken = jnp.sum(squares * (jnp.square(mean) + jnp.square(along_norm)))
  # Both are sums over positions of products with x_t: their rounding errors
  # follow the root of the sum of squares of the terms.
  terms = jnp.sqrt(_einsum("stp,st->sp", jnp.square(cotangents), diagonal))
  slack = 16 * float(jnp.finfo(dtype).eps)
  error = terms * (jnp.abs(mean) + jnp.abs(along) + terms)
  kernel_squares = jnp.maximum(gram_squares - taken, 0)
  kernel_squares += slack * jnp.sum(squares * error)
  gain_error = terms * (jnp.abs(along) + slack * terms)
  return kernel_squares, jnp.sum(jnp.square(along) + slack * gain_error)
