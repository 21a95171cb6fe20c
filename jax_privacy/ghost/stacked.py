"""One equation of a loop's body, as an equation over all iterations.

What a body reads and gives at one equation is stacked outside the loop, along a
leading axis. Over these stacks the equation is, for most primitives, one
equation of the same primitive, between others that move axes: a product with a
weight for each iteration has one more batch axis, a product with one weight for
all has one more position. Rules then apply to it as to any equation. What is no
such equation is called as a whole, and gets the vjp of that call.

The invariant: the equation, between its moves, gives what the body's equation
gives in each iteration.

Example:
  >>> import jax, jax.numpy as jnp
  >>> from jax_privacy.ghost import stacked
  >>> x, w = (jax.ShapeDtypeStruct(s, "float32") for s in ((4, 3), (3, 2)))
  >>> product = jax.make_jaxpr(jnp.dot)(x, w).jaxpr.eqns[0]
  >>> over = stacked.Stacked.of(product, [0, 0], 7)
  >>> [eqn.primitive.name for eqn in over.closed.jaxpr.eqns]
  ['dot_general']
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jax_privacy import jaxprs
from jax_privacy.ghost import flow, tracing, transforms


@dataclasses.dataclass(frozen=True)
class Stacked:
  """An equation over the stacks of a loop.

  Attributes:
    closed: Jaxpr of the stacks that `eqn` reads, to those that it gives.
    core: Number of the equation that is the site; None if all is called.
  """

  closed: Any
  core: int | None

  @classmethod
  def of(cls, eqn: Any, axes: Sequence[int | None], length: int) -> "Stacked":
    """Returns the equation over stacks.

    Args:
      eqn: Equation of a loop's body.
      axes: Per variable that it reads, 0 if it has a stack, None if it is the
        same in every iteration.
      length: Number of iterations.
    """
    read = flow.variables(eqn)
    shapes = [
        jax.ShapeDtypeStruct(_stacked_shape(var, axis, length), var.aval.dtype)
        for var, axis in zip(read, axes, strict=True)
    ]

    def one(*values):
      given = iter(values)
      operands = [
          next(given) if tracing.is_var(a) else a.val for a in eqn.invars
      ]
      outs = jaxprs.bind(eqn, operands)
      pairs = zip(eqn.outvars, outs, strict=True)
      return [out for var, out in pairs if flow.is_inexact(var)]

    if 0 in axes:
      closed = jax.make_jaxpr(jax.vmap(one, axes))(*shapes)
      core = _core(closed.jaxpr, eqn.primitive.name)
      if core is not None:
        return cls(closed, core)
    whole = _one_by_one(one, axes, length) if None in axes else jax.vmap(one)
    return cls(jax.make_jaxpr(jax.jit(whole))(*shapes), None)

  def zeros(self) -> tuple[list[jax.Array], list[jax.Array]]:
    """Returns zeros of the site's outputs, and the same as stacks."""
    jaxpr = self.closed.jaxpr
    site = jaxpr.eqns[-1 if self.core is None else self.core]
    cores = [jax.lax.full(v.aval.shape, 0, v.aval.dtype) for v in site.outvars]
    env = dict(zip(site.outvars, cores, strict=True))
    tracing.evaluate(
        () if self.core is None else jaxpr.eqns[self.core + 1 :], env
    )
    return cores, [env[v] for v in jaxpr.outvars]

  def outputs(self, values: Sequence[Any]) -> list[Any]:
    """Returns what the site gives, before axes are moved.

    Args:
      values: One for each variable that the equation reads.
    """
    jaxpr = self.closed.jaxpr
    env = dict(zip(jaxpr.constvars, self.closed.consts, strict=True))
    env.update(zip(jaxpr.invars, values, strict=True))
    last = len(jaxpr.eqns) - 1 if self.core is None else self.core
    for eqn in jaxpr.eqns[: last + 1]:
      outs = jaxprs.bind(eqn, [tracing.read(env, v) for v in eqn.invars])
      env.update(zip(eqn.outvars, outs, strict=True))
    return [env[v] for v in jaxpr.eqns[last].outvars]


def _stacked_shape(var, axis, length):
  return var.aval.shape if axis is None else (length, *var.aval.shape)


def _one_by_one(one, axes, length):
  """As `vmap`, but gradients of what all share are added one by one."""

  def run(*stacks):
    pairs = list(zip(stacks, axes, strict=True))

    def body(row):
      _, rows = row
      given = iter(rows)
      return one(*(x if axis is None else next(given) for x, axis in pairs))

    rows = [x for x, axis in pairs if axis is not None]
    return jax.lax.map(body, (jnp.arange(length), rows))

  return run


def _core(jaxpr, name) -> int | None:
  """The one equation of that primitive, if all others only lead to or from it.

  Before it, each equation reads one of the jaxpr's inputs at most; after it are
  isometries of its one output.
  """
  found = [i for i, e in enumerate(jaxpr.eqns) if e.primitive.name == name]
  if len(found) != 1:
    return None
  (core,) = found
  origin = {var: {var} for var in jaxpr.invars}
  for eqn in jaxpr.eqns[:core]:
    read = set().union(*(origin.get(v, ()) for v in flow.variables(eqn)))
    if len(read) > 1:
      return None
    origin.update((v, read) for v in eqn.outvars)
  outs = jaxpr.eqns[core].outvars
  for eqn in jaxpr.eqns[core + 1 :]:
    if eqn.invars != outs or not transforms.is_isometry(eqn):
      return None
    outs = eqn.outvars
  return core if outs == jaxpr.outvars else None
