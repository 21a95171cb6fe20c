"""A loss without its randomness: the same bits for every example.

A mask of dropout depends on an example's place in the batch, so that losses of
examples together and alone could not be compared. Here every random bit is
replaced by a constant: uniforms are 1/8, and dropout keeps what it is given.

The invariant: a function that draws nothing is returned as it is.

Example:
  >>> import jax
  >>> from jax_privacy import quiet
  >>> draw = lambda key: jax.random.uniform(key, (3,))
  >>> print(quiet.quiet(draw, jax.random.key(0))(jax.random.key(1)))
  [0.125 0.125 0.125]
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.extend.core as jex_core
import jax.numpy as jnp

from jax_privacy.ghost import tracing

# Of all 1 bits: a uniform in [0, 1) takes the leading ones.
_UNIFORM = 0.125
_BITS = ("random_bits", "rng_bit_generator", "threefry2x32")


def quiet(fun: Callable[..., Any], *args: Any) -> Callable[..., Any]:
  """Returns `fun` with constant random bits, if it draws any.

  Args:
    fun: Any traceable function of arrays.
    *args: What it will be called with: arrays or shapes, in pytrees.
  """
  closed, shape = jax.make_jaxpr(fun, return_shape=True)(*args)
  if not _draws(closed.jaxpr):
    return fun
  treedef = jax.tree.structure(shape)

  def without_noise(*args):
    outs = _run(closed.jaxpr, closed.consts, jax.tree.leaves(args))
    return treedef.unflatten(outs)

  return without_noise


def _jaxprs(eqn):
  for value in eqn.params.values():
    for item in value if isinstance(value, (tuple, list)) else (value,):
      if isinstance(item, (jex_core.ClosedJaxpr, jex_core.Jaxpr)):
        yield item


def _draws(jaxpr):
  jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
  return any(
      eqn.primitive.name in _BITS or any(map(_draws, _jaxprs(eqn)))
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
  if eqn.primitive.name in _BITS:
    return [_constant(var.aval) for var in eqn.outvars]
  if not any(map(_draws, _jaxprs(eqn))):
    return tracing.bind(eqn, values)
  if eqn.primitive.name in ("jit", "pjit", "closed_call", "custom_jvp_call"):
    inner = next(_jaxprs(eqn))
    return _run(getattr(inner, "jaxpr", inner), inner.consts, values)
  params = {name: _quieted(value) for name, value in eqn.params.items()}
  return tracing.bind(eqn.replace(params=params), values)


def _quieted(value):
  """A parameter of an equation, its programs without randomness."""
  if isinstance(value, (tuple, list)):
    return type(value)(map(_quieted, value))
  if isinstance(value, jex_core.ClosedJaxpr) and _draws(value):
    return jax.make_jaxpr(lambda *xs: _run(value.jaxpr, value.consts, xs))(
        *value.in_avals
    )
  if isinstance(value, jex_core.Jaxpr) and _draws(value):
    avals = [var.aval for var in value.invars]
    closed = jax.make_jaxpr(lambda *xs: _run(value, (), xs))(*avals)
    return value if closed.consts else closed.jaxpr
  return value


def _constant(aval):
  if jnp.issubdtype(aval.dtype, jnp.unsignedinteger):
    bits = jnp.iinfo(aval.dtype).bits
    return jnp.full(aval.shape, int(_UNIFORM * 2**bits), aval.dtype)
  return jnp.zeros(aval.shape, aval.dtype)
