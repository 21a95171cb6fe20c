"""Parameter transforms through which a norm is known without the gradient.

A weight is often not the parameter itself. Two kinds of path from parameters to
a weight keep the closed forms of `rules`:

  isometric: reshapes, transposes, casts. The norm of the gradient is the same
    on both sides.
  weight standardisation: a formula takes the norm over (`standardised.py`).

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
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jax_privacy import jaxprs
from jax_privacy import weight_standardisation as ws

_STANDARDISE: Any = ws.scaled_weight_standardisation


def find(eqn: Any) -> str | None:
  """Returns "weight_standardisation" for that equation, None for others.

  Args:
    eqn: Equation of a jaxpr.
  """
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
  """Returns whether a one-operand equation keeps every gradient's norm.

  Args:
    eqn: Equation of a jaxpr.
  """
  check = _ISOMETRIES.get(eqn.primitive.name)
  return check is not None and len(eqn.invars) == 1 and check(eqn)


def _moves_entries(eqn) -> bool:
  """An equation that moves every entry to a place of its own, or negates it."""
  del eqn
  return True


def _repeats_nothing(eqn) -> bool:
  before, after = eqn.invars[0].aval, eqn.outvars[0].aval
  return math.prod(before.shape) == math.prod(after.shape)


def _casts_floats(eqn) -> bool:
  dtypes = eqn.invars[0].aval.dtype, eqn.outvars[0].aval.dtype
  return all(jnp.issubdtype(dtype, jnp.floating) for dtype in dtypes)


# Primitive -> whether an equation of it, with one operand, keeps norms.
_ISOMETRIES: dict[str, Callable[[Any], bool]] = {
    "broadcast_in_dim": _repeats_nothing,
    "convert_element_type": _casts_floats,
    "copy": _moves_entries,
    "copy_p": _moves_entries,
    "expand_dims": _moves_entries,
    "neg": _moves_entries,
    "reshape": _moves_entries,
    "rev": _moves_entries,
    "squeeze": _moves_entries,
    "transpose": _moves_entries,
}


def pull_back(
    chain: Sequence[Any], var: Any, cotangent: jax.Array
) -> jax.Array:
  """Returns a variable's cotangent, in the dtype of the given one.

  Casts on the way are left out: a cotangent in float32 stays one.

  Args:
    chain: Isometries from the variable on, each of what the last one gives.
    var: The variable.
    cotangent: Cotangent of what the last isometry gives.
  """
  if not chain:
    return cotangent

  def run(value):
    for eqn in chain:
      if eqn.primitive.name != "convert_element_type":
        (value,) = jaxprs.bind(eqn, [value])
    return value

  like = jax.ShapeDtypeStruct(var.aval.shape, cotangent.dtype)
  return jax.linear_transpose(run, like)(cotangent)[0]
