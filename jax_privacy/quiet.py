"""A loss without its randomness: the same bits for every example.

A dropout mask depends on an example's place in the batch, so losses of examples
together and alone could not be compared. Here a constant replaces every random
bit: uniforms are 1/8, and dropout keeps its input.

The invariant: a function that draws nothing is returned unchanged.

Example:
  >>> import jax
  >>> from jax_privacy import quiet
  >>> draw = lambda key: jax.random.uniform(key, (3,))
  >>> print(quiet.without_draws(draw, jax.random.key(0))(jax.random.key(1)))
  [0.125 0.125 0.125]
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jax_privacy import jaxprs
from jax_privacy.ghost import tracing

# Of all 1 bits: a uniform in [0, 1) takes the leading ones.
_UNIFORM = 0.125


def without_draws(fun: Callable[..., Any], *args: Any) -> Callable[..., Any]:
  """Returns `fun` with constant random bits, if it draws any.

  Args:
    fun: Any traceable function of arrays.
    *args: Arguments of the function: arrays or shapes, in pytrees.
  """
  closed, shape = jax.make_jaxpr(fun, return_shape=True)(*args)
  if not _draws(closed.jaxpr):
    return fun
  treedef = jax.tree.structure(shape)

  def without_noise(*args):
    outs = _run(closed.jaxpr, closed.consts, jax.tree.leaves(args))
    return treedef.unflatten(outs)

  return without_noise


def _draws(jaxpr):
  return any(
      eqn.primitive.name in jaxprs.RANDOM or any(map(_draws, jaxprs.held(eqn)))
      for eqn in jaxpr.eqns
  )


def _run(jaxpr, consts, args):
  env = dict(zip(jaxpr.constvars, consts, strict=True))
  env.update(zip(jaxpr.invars, args, strict=True))
  for eqn in jaxpr.eqns:
    values = [tracing.read(env, atom) for atom in eqn.invars]
    env.update(zip(eqn.outvars, _equation(eqn, values), strict=True))
  return [tracing.read(env, atom) for atom in jaxpr.outvars]


def _equation(eqn, values):
  if eqn.primitive.name in jaxprs.RANDOM:
    return [_constant(var.aval) for var in eqn.outvars]
  if not any(map(_draws, jaxprs.held(eqn))):
    return tracing.bind(eqn, values)
  if jaxprs.is_call(eqn) and eqn.primitive.name not in jaxprs.REMAT:
    return _run(*jaxprs.called(eqn), values)
  return tracing.bind(jaxprs.with_held(eqn, _quieted), values)


def _quieted(closed):
  """A program that an equation holds, without randomness."""
  if not _draws(closed.jaxpr):
    return closed
  return jax.make_jaxpr(lambda *xs: _run(closed.jaxpr, closed.consts, xs))(
      *closed.in_avals
  )


def _constant(aval):
  if jnp.issubdtype(aval.dtype, jnp.unsignedinteger):
    bits = jnp.iinfo(aval.dtype).bits
    return jnp.full(aval.shape, int(_UNIFORM * 2**bits), aval.dtype)
  if jnp.issubdtype(aval.dtype, jnp.floating):
    return jnp.full(aval.shape, _UNIFORM, aval.dtype)
  return jnp.zeros(aval.shape, aval.dtype)
