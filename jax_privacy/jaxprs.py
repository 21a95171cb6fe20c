"""Reads the equations of a jaxpr, for the versions of JAX that are known.

The names and contents of an equation's parameters change between versions of
JAX: 0.12 no longer has scan's `num_consts`. Every file that reads a jaxpr uses
this module.

The invariant: nothing is guessed. If a parameter is missing, or counts do not
fit the equation, UnknownJaxError names the version.

Example:
  >>> import jax, jax.numpy as jnp
  >>> from jax_privacy import jaxprs
  >>> add = lambda total, x: (total + x, None)
  >>> closed = jax.make_jaxpr(lambda x: jax.lax.scan(add, 0.0, x)[0])(
  ...     jnp.ones(3))
  >>> loop = jaxprs.scan(closed.jaxpr.eqns[0])
  >>> loop.num_consts, loop.num_carry
  (0, 1)
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex_core

KNOWN = "0.10 to 0.12"

JIT = ("jit", "pjit")
REMAT = ("remat2", "checkpoint")
CUSTOM = ("custom_jvp_call", "custom_vjp_call")

# Primitives whose cotangents a function of the user's makes: it need not be
# linear, so that a scaled or summed cotangent may give anything.
_OWN_TRANSPOSE = (
    *("custom_vjp_call", "custom_transpose_call", "linear_call"),
    "custom_linear_solve",
)

# Primitives that draw random numbers. What makes keys draws none.
RANDOM = (
    *("random_bits", "random_gamma", "rng_bit_generator", "rng_uniform"),
    "threefry2x32",
)

# Primitives that only call the jaxpr they hold, and the parameter it is in.
_CALLED = {
    **dict.fromkeys(JIT + REMAT, "jaxpr"),
    **dict.fromkeys(("closed_call", "core_call", *CUSTOM), "call_jaxpr"),
}


class UnknownJaxError(NotImplementedError):
  """An equation is not written as in the versions of JAX that are known."""


class Scan(NamedTuple):
  """A `scan`: its operands are constants, carry, and what it runs over.

  Attributes:
    num_consts: Operands that every iteration is given.
    num_carry: Operands, after these, that iterations hand on.
    body: Jaxpr of one iteration.
    closed: The same, with its constants.
    options: Arguments of `jax.lax.scan` that say how it runs.
  """

  num_consts: int
  num_carry: int
  body: Any
  closed: Any
  options: dict[str, Any]


class While(NamedTuple):
  """A `while`: its operands are both jaxprs' constants, and the carry.

  Attributes:
    num_cond_consts: Operands that only `cond` is given.
    num_body_consts: Operands, after these, that only `body` is given.
    cond: Jaxpr of the condition.
    body: Jaxpr of one iteration.
  """

  num_cond_consts: int
  num_body_consts: int
  cond: Any
  body: Any


def params(eqn: Any, *names: str) -> dict[str, Any]:
  """Returns the parameters of these names.

  Args:
    eqn: Equation of a jaxpr.
    *names: Names of its parameters.

  Raises:
    UnknownJaxError: If the equation does not have one of them.
  """
  missing = [name for name in names if name not in eqn.params]
  if missing:
    raise _unknown(eqn, f"lacks {missing[0]!r}")
  return {name: eqn.params[name] for name in names}


def param(eqn: Any, name: str) -> Any:
  """Returns one parameter; see `params`.

  Args:
    eqn: Equation of a jaxpr.
    name: Name of the parameter.
  """
  return params(eqn, name)[name]


def with_params(eqn: Any, **values: Any) -> Any:
  """Returns the equation with the parameters set that it has.

  Args:
    eqn: Equation of a jaxpr.
    **values: Values by name; names that it lacks are left out.
  """
  values = {k: v for k, v in values.items() if k in eqn.params}
  return eqn.replace(params={**eqn.params, **values})


def bind(eqn: Any, values: Sequence[Any], **changes: Any) -> list[Any]:
  """Returns the outputs of one equation.

  Args:
    eqn: Equation of a jaxpr.
    values: Values of the operands.
    **changes: Parameters that replace its own.

  Returns:
    The outputs, as a list.

  Raises:
    UnknownJaxError: If JAX binds it in a way that is not known here.
  """
  try:
    given = eqn.primitive.get_bind_params(eqn.params)
    manager = eqn.ctx.manager
  except AttributeError as error:  # JAX documents neither.
    raise _unknown(eqn, str(error)) from error
  with manager:
    outs = eqn.primitive.bind(*values, **{**given, **changes})
  return list(outs) if eqn.primitive.multiple_results else [outs]


def is_call(eqn: Any) -> bool:
  """Returns whether an equation only calls the jaxpr that it holds.

  Args:
    eqn: Equation of a jaxpr.
  """
  return eqn.primitive.name in _CALLED


def called(eqn: Any) -> tuple[Any, Sequence[Any]]:
  """Returns the jaxpr that a call calls, and the values of its constants.

  Args:
    eqn: Equation of a jaxpr.
  """
  inner = param(eqn, _CALLED[eqn.primitive.name])
  jaxpr = getattr(inner, "jaxpr", inner)
  _check_num(eqn, jaxpr, len(eqn.invars), "the jaxpr that is called")
  return jaxpr, getattr(inner, "consts", ())


def held(eqn: Any) -> list[Any]:
  """Returns every jaxpr that an equation holds, of any primitive.

  Args:
    eqn: Equation of a jaxpr.
  """
  found = []
  for value in eqn.params.values():
    for item in value if isinstance(value, (tuple, list)) else (value,):
      if isinstance(item, (jex_core.ClosedJaxpr, jex_core.Jaxpr)):
        found.append(getattr(item, "jaxpr", item))
  return found


def has_own_transpose(eqn: Any) -> bool:
  """Returns whether a function of the user's makes cotangents in an equation.

  Such a function (of `jax.custom_vjp`, say) need not be linear.

  Args:
    eqn: Equation of a jaxpr; what it holds is looked into.
  """
  return eqn.primitive.name in _OWN_TRANSPOSE or any(
      has_own_transpose(inner) for jaxpr in held(eqn) for inner in jaxpr.eqns
  )


def with_held(eqn: Any, fun: Callable[[Any], Any]) -> Any:
  """Returns the equation with `fun` of every jaxpr that it holds.

  Args:
    eqn: Equation of a jaxpr.
    fun: Function from a closed jaxpr to a closed jaxpr of the same inputs and
      outputs. Where JAX wants an open one and `fun` adds constants, the old one
      stays.
  """

  def changed(value):
    if isinstance(value, (tuple, list)):
      items = map(changed, value)
      is_named = hasattr(value, "_fields")
      return type(value)(*items) if is_named else type(value)(items)
    if isinstance(value, jex_core.ClosedJaxpr):
      return fun(value)
    if isinstance(value, jex_core.Jaxpr):
      closed = fun(jex_core.ClosedJaxpr(value, ()))
      return value if closed.consts else closed.jaxpr
    return value

  values = {name: changed(value) for name, value in eqn.params.items()}
  return eqn.replace(params=values)


def branches(eqn: Any) -> list[Any]:
  """Returns the branches of a `cond`: jaxprs of all operands but the first.

  Args:
    eqn: Equation of a jaxpr.
  """
  found = [getattr(b, "jaxpr", b) for b in param(eqn, "branches")]
  for branch in found:
    _check_num(eqn, branch, len(eqn.invars) - 1, "a branch")
  return found


def while_loop(eqn: Any) -> While:
  """Returns what a `while` holds.

  Args:
    eqn: Equation of a jaxpr.
  """
  names = ("cond_nconsts", "body_nconsts", "cond_jaxpr", "body_jaxpr")
  num_cond, num_body, cond, body = params(eqn, *names).values()
  cond, body = (getattr(j, "jaxpr", j) for j in (cond, body))
  _check_num(eqn, cond, len(eqn.invars) - num_body, "the condition")
  _check_num(eqn, body, len(eqn.invars) - num_cond, "the body")
  return While(num_cond, num_body, cond, body)


def scan(eqn: Any) -> Scan:
  """Returns what a `scan` holds.

  Args:
    eqn: Equation of a jaxpr.

  Raises:
    UnknownJaxError: If JAX writes it in a way that is not known here.
  """
  for read in (_counts_to_0_11, _counts_from_0_12):
    counts = read(eqn)
    if counts is not None:
      break
  else:
    raise _unknown(eqn, "has neither 'num_consts' nor 'ft_in'")
  num_consts, num_carry, num_rows = counts
  closed = param(eqn, "jaxpr")
  if not isinstance(closed, jex_core.ClosedJaxpr):
    closed = jex_core.ClosedJaxpr(closed, ())
  body = closed.jaxpr
  _check_num(eqn, body, num_consts + num_carry + num_rows, "the body")
  _check_num(eqn, body, len(eqn.invars), "the body")
  if min(counts) < 0 or num_carry > len(eqn.outvars):
    raise _unknown(eqn, f"counts {counts} operands of each kind")
  options = params(eqn, "length", "reverse", "unroll")
  return Scan(num_consts, num_carry, body, closed, options)


def _counts_to_0_11(eqn):
  if "num_consts" not in eqn.params:
    return None
  num_consts, num_carry = params(eqn, "num_consts", "num_carry").values()
  return num_consts, num_carry, len(eqn.invars) - num_consts - num_carry


def _counts_from_0_12(eqn):
  """`ft_in` is a tree of the operands: constants, carry, what is run over."""
  if "ft_in" not in eqn.params:
    return None
  try:
    num_consts, num_carry, num_rows = map(len, eqn.params["ft_in"].unpack())
  except (AttributeError, TypeError, ValueError) as error:
    raise _unknown(eqn, f"has another 'ft_in': {error}") from error
  return num_consts, num_carry, num_rows


def _check_num(eqn, jaxpr, num, what):
  if len(jaxpr.invars) != num:
    raise _unknown(
        eqn, f"holds {len(jaxpr.invars)} inputs where {what} takes {num}"
    )


def _unknown(eqn, reason) -> UnknownJaxError:
  return UnknownJaxError(
      f"JAX must be {KNOWN}, got {jax.__version__}: its {eqn.primitive.name!r}"
      f" {reason} (parameters: {', '.join(sorted(eqn.params))}). Install a"
      " version that is known, or a newer version of this toolkit."
  )
