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

import math
from typing import Any

import jax
import jax.numpy as jnp

from jax_privacy import jaxprs
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
_STANDARDISE = ws.scaled_weight_standardisation

# In the last place, that rounding is allowed: of `along`, beside the root of
# the sum of squares of its terms, and so of the Gram form it is taken from.
_UNITS_ALONG = 4
UNITS = 16 + _UNITS_ALONG


def find(eqn: Any) -> str | None:
  """Returns "weight_standardisation" for that equation, None for others."""
  if eqn.primitive.name not in jaxprs.JIT:
    return None
  if jaxprs.param(eqn, "name") != _STANDARDISE.__name__:
    return None
  try:
    traced = jax.make_jaxpr(_STANDARDISE)(*(v.aval for v in eqn.invars))
  except (TypeError, ValueError):  # Its operands are not those of ours.
    return None
  (known,) = traced.jaxpr.eqns
  if str(jaxprs.param(known, "jaxpr")) != str(jaxprs.param(eqn, "jaxpr")):
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


def divisor(gain: jax.Array) -> jax.Array:
  """Returns the gain, with 1 where it is too near zero to be divided by."""
  return jnp.where(jnp.abs(gain) > 1e-6, gain, 1)


def standardised(
    centred: jax.Array,
    along: jax.Array,
    terms: jax.Array,
    kernel: jax.Array,
    gain: jax.Array,
    epsilon: jax.typing.ArrayLike,
) -> tuple[jax.Array, jax.Array]:
  """Squared gradient norms of (kernel, gain), for one example.

  With g the gradient of the standardised weight, W~ the centred kernel with its
  scale s, and for each output channel c

    along_c = <g_c, W~_c>

  the norms are

    kernel: sum over c of gain_c^2 s_c^2 (|g_c - mean(g_c)|^2 - along_c^2)
    gain: sum over c of along_c^2

  where along_c^2 is left out if epsilon took the place of the kernel's norm.
  What rounding may have taken away is added (see `norms.py`): along is a sum of
  positions too, and an error d e of it, d small, moves its square by
  d (along^2 + e^2) at most.

  Args:
    centred: sum over c of gain_c^2 s_c^2 |g_c - mean(g_c)|^2, by
      `norms.contracted` with UNITS.
    along: [channels].
    terms: sum over t of |x_t|^2 |z_t|^2.
    kernel: [..., channels].
    gain: [channels].
    epsilon: As in `standardise_weight`.

  Returns:
    Two scalars.
  """
  dtype = along.dtype
  slack = _UNITS_ALONG * float(jnp.finfo(dtype).eps)
  squares = jnp.square(amplitude(kernel, gain, epsilon).astype(dtype))
  has_norm = ws.channel_scale(kernel, epsilon)[2]
  along_squares = jnp.square(along)
  taken = jnp.sum(jnp.where(has_norm, squares * along_squares, 0))
  kernel_squares = jnp.maximum(centred - (1 - slack) * taken, 0)
  gain_norm = jnp.sqrt(jnp.sum(along_squares)) + slack * jnp.sqrt(terms)
  return kernel_squares, jnp.square(gain_norm)
