"""Traces the loss of one example to a flat jaxpr, and runs equations.

Calls are inlined, so that every use of a parameter by a primitive is in sight.
Two stay whole: a parameter transform that `transforms.py` knows, and a
checkpointed region that no parameter enters (it keeps the memory it saves).

The invariant: a flat jaxpr computes what the function does, bit for bit.

Example:
  >>> import jax, jax.numpy as jnp
  >>> from jax_privacy.ghost import tracing
  >>> def loss(leaves, rows):
  ...   return jnp.sum(jax.jit(jnp.dot)(rows[0], leaves[0])), []
  >>> traced = tracing.trace(loss, [jnp.ones((3, 2))], [jnp.ones((4, 3))])
  >>> [eqn.primitive.name for eqn in traced.closed.jaxpr.eqns]
  ['dot_general', 'reduce_sum']
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.extend.core as jex_core
import jax.numpy as jnp

from jax_privacy import jaxprs
from jax_privacy.ghost import transforms

Env: TypeAlias = dict[Any, Any]  # Jaxpr variable -> value.


class Traced(NamedTuple):
  """A traced loss.

  Attributes:
    closed: The flat jaxpr: its outputs are the loss, then aux's leaves.
    raw: The same, with its calls.
    aux_treedef: The structure of aux.
  """

  closed: jex_core.ClosedJaxpr
  raw: jex_core.ClosedJaxpr
  aux_treedef: Any


def trace(
    fun: Callable[..., tuple[Any, Any]],
    leaves: Sequence[Any],
    rows: Sequence[Any],
) -> Traced:
  """Returns the flat jaxpr of `fun(leaves, rows) -> (loss, aux)`.

  Args:
    fun: The loss of one example.
    leaves: The parameters: arrays or shapes.
    rows: One example's data: arrays or shapes.

  Raises:
    TypeError: If `fun` asks for the value of an array it is given.
  """
  num_leaves = len(leaves)

  def flat(*args):
    return fun(list(args[:num_leaves]), list(args[num_leaves:]))

  try:
    closed, (_, aux) = jax.make_jaxpr(flat, return_shape=True)(*leaves, *rows)
  except (
      jax.errors.ConcretizationTypeError,
      jax.errors.TracerArrayConversionError,
      jax.errors.TracerIntegerConversionError,
  ) as error:
    raise TypeError(
        "fun must be traceable for one example, every array it is given being"
        " abstract, but it asked for a value: use jax.lax.cond or jnp.where in"
        " place of Python control flow on arrays, and pass what is not an array"
        f" by closure. JAX says: {error}"
    ) from error
  has_weight = [i < num_leaves for i in range(len(closed.jaxpr.invars))]
  flat = opened(closed, has_weight)
  return Traced(flat, closed, jax.tree.structure(aux))


def opened(
    closed: Any, has_weight: Sequence[bool], *, keeps_remat: bool = False
) -> Any:
  """Returns the jaxpr with calls opened, but for those that stay whole.

  Args:
    closed: A closed jaxpr.
    has_weight: Booleans, whether a parameter enters an input.
    keeps_remat: Whether every checkpointed region stays whole.
  """
  if not any(map(_is_inlined, closed.jaxpr.eqns)):
    return closed
  inlined = functools.partial(_inlined, closed, has_weight, keeps_remat)
  return jax.make_jaxpr(inlined)(*(var.aval for var in closed.jaxpr.invars))


def is_var(atom: Any) -> bool:
  """Returns whether an operand is a variable, not a literal.

  Args:
    atom: Operand of an equation.
  """
  return not isinstance(atom, jex_core.Literal)


def read(env: Env, atom: Any) -> Any:
  """Returns a variable's or literal's value.

  Args:
    env: Values of variables.
    atom: Operand of an equation.
  """
  return env[atom] if is_var(atom) else atom.val


def bind(eqn: Any, values: Sequence[Any]) -> list[Any]:
  """Returns the outputs of one equation, as a list.

  Args:
    eqn: Equation of a jaxpr.
    values: Values of its operands.
  """
  if eqn.primitive.name == "dot_general":
    return _dot_general(eqn, values)
  return jaxprs.bind(eqn, values)


def evaluate(eqns: Sequence[Any], env: Env) -> None:
  """Runs equations in order, writing what they give into `env`.

  Args:
    eqns: Equations of a jaxpr.
    env: Values of variables, which grow.
  """
  for eqn in eqns:
    outs = bind(eqn, [read(env, atom) for atom in eqn.invars])
    env.update(zip(eqn.outvars, outs, strict=True))


def _dot_general(eqn, values):
  """A product, of operands without axes of 1 that are not summed over.

  Once they are batched, XLA copies results and operands that have one on a CPU:
  a pass over the activations of every dense layer.
  """
  contracting, batch = jaxprs.param(eqn, "dimension_numbers")
  kept = [
      [i for i, n in enumerate(v.shape) if n != 1 or i in summed]
      for v, summed in zip(values, contracting, strict=True)
  ]
  has_unit_axis = any(
      len(axes) < v.ndim for axes, v in zip(kept, values, strict=True)
  )
  if not has_unit_axis or jaxprs.param(eqn, "out_sharding") is not None:
    return jaxprs.bind(eqn, values)

  def renumbered(pair):
    return tuple(
        tuple(axes.index(i) for i in numbers if i in axes)
        for numbers, axes in zip(pair, kept, strict=True)
    )

  numbers = renumbered(contracting), renumbered(batch)
  values = [
      jnp.reshape(v, [v.shape[i] for i in axes])
      for v, axes in zip(values, kept, strict=True)
  ]
  (out,) = jaxprs.bind(eqn, values, dimension_numbers=numbers)
  return [jnp.reshape(out, eqn.outvars[0].aval.shape)]


def _inlined(closed, has_weight, keeps_remat, *args):
  """Evaluates a jaxpr with calls opened; traced again, it is flat."""

  def run(jaxpr, consts, args, has_weight):
    env = dict(zip(jaxpr.constvars, consts, strict=True))
    env.update(zip(jaxpr.invars, args, strict=True))
    weighty = {v for v, w in zip(jaxpr.invars, has_weight, strict=True) if w}
    for eqn in jaxpr.eqns:
      values = [read(env, atom) for atom in eqn.invars]
      flags = [is_var(atom) and atom in weighty for atom in eqn.invars]
      if _is_opened(eqn, any(flags) and not keeps_remat):
        outs = run(*jaxprs.called(eqn), values, flags)
      else:
        outs = bind(eqn, values)
      env.update(zip(eqn.outvars, outs, strict=True))
      if any(flags):
        weighty.update(eqn.outvars)
    return [read(env, atom) for atom in jaxpr.outvars]

  return run(closed.jaxpr, closed.consts, args, has_weight)


def _is_opened(eqn, has_weight):
  if not _is_inlined(eqn) or transforms.find(eqn) is not None:
    return False
  return has_weight or eqn.primitive.name not in jaxprs.REMAT


def _is_inlined(eqn):
  return jaxprs.is_call(eqn) and eqn.primitive.name not in jaxprs.CUSTOM
