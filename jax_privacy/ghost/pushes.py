"""Moves products and lookups in front of what makes their weight.

A weight is often made of parameters: a low-rank update is merged into it, it is
scaled along an axis, a table has a row of padding. A product with such a weight
is the same as products with its parts, and a row of such a table is made of the
parts' rows. Written like that, every part meets the data at a site of its own,
and no weight's gradient is made for each example.

The invariant: what is computed is the same, up to rounding.

Example:
  >>> import jax, jax.numpy as jnp
  >>> from jax_privacy.ghost import pushes
  >>> closed = jax.make_jaxpr(lambda a, b, x: x @ (a @ b))(
  ...     jnp.ones((8, 2)), jnp.ones((2, 8)), jnp.ones((3, 8)))
  >>> pushed = pushes.push(closed, [True, True, False], [False, False, True])
  >>> [[v.aval.shape for v in eqn.invars] for eqn in pushed.jaxpr.eqns[-2:]]
  [[(3, 8), (8, 2)], [(3, 2), (2, 8)]]
"""

from collections.abc import Sequence
from typing import Any

import jax

from jax_privacy import jaxprs
from jax_privacy.ghost import components, flow, lookups, products, tracing
from jax_privacy.ghost.making import Made

# Of what is made of what is made, and so on.
_MAX_ROUNDS = 8
_PUSHES = {"dot_general": products.push, "gather": lookups.push}


def push(
    closed: Any, is_weight: Sequence[bool], is_data: Sequence[bool]
) -> Any:
  """Returns a flat jaxpr with products and lookups moved to the front.

  Args:
    closed: A closed jaxpr.
    is_weight: Booleans, whether an input depends on parameters.
    is_data: Booleans, whether it depends on the example.
  """
  for _ in range(_MAX_ROUNDS):
    pushed = _push_once(closed, is_weight, is_data)
    if pushed is None:
      break
    closed = pushed
  return closed


def _push_once(closed, is_weight, is_data):
  """The jaxpr with each of these moved by one step; None if none can be."""
  jaxpr = closed.jaxpr
  reached = flow.reach(jaxpr, is_weight, is_data)
  makers = {
      v: eqn for eqn in jaxpr.eqns for v in eqn.outvars if v not in reached.data
  }
  leaves = [v for v, is_ in zip(jaxpr.invars, is_weight, strict=True) if is_]
  static = [
      eqn for eqn in jaxpr.eqns if eqn.outvars and eqn.outvars[0] in makers
  ]
  origins = components.origins(static, leaves)
  moves = {}
  for eqn in jaxpr.eqns:
    move = _move(eqn, makers, reached, origins)
    if move is not None:
      moves[id(eqn)] = move
  if not moves:
    return None

  def run(*args):
    env = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    env.update(zip(jaxpr.invars, args, strict=True))
    for eqn in jaxpr.eqns:
      if id(eqn) in moves:
        env[eqn.outvars[0]] = moves[id(eqn)](env)
      else:
        outs = jaxprs.bind(eqn, [tracing.read(env, v) for v in eqn.invars])
        env.update(zip(eqn.outvars, outs, strict=True))
    return [tracing.read(env, v) for v in jaxpr.outvars]

  return jax.make_jaxpr(run)(*(v.aval for v in jaxpr.invars))


def _move(eqn, makers, reached, origins):
  """A function from values to an equation's output, made otherwise; or None."""
  if eqn.primitive.name not in _PUSHES or eqn.outvars[0] not in reached.data:
    return None
  weights = [
      i
      for i, v in enumerate(eqn.invars)
      if tracing.is_var(v) and v in reached.weights and v not in reached.data
  ]
  if len(weights) != 1 or len(eqn.invars) != 2:
    return None
  made = Made.of(eqn.invars[weights[0]], makers, origins)
  if made is None:
    return None
  return _PUSHES[eqn.primitive.name](eqn, weights[0], made)
