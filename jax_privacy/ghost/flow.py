"""Which variables of a jaxpr depend on the example, and which on parameters.

A *static* variable depends on no example. A *weight* is a static variable
through which a gradient can reach a parameter. In the body of a loop a static
variable has a tier: it is the same in every iteration, follows from what the
loop runs over, or is handed on from one iteration to the next.

The invariant: a variable that depends on the example is never called static.

Example:
  >>> import jax, jax.numpy as jnp
  >>> from jax_privacy.ghost import flow
  >>> jaxpr = jax.make_jaxpr(lambda w, x: x * jnp.sin(w))(1.0, 2.0).jaxpr
  >>> found = flow.reach(jaxpr, [True, False], [False, True])
  >>> [eqn.outvars[0] in found.data for eqn in jaxpr.eqns]
  [False, True]
"""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp

from jax_privacy.ghost import tracing

# Tiers of static variables in a loop's body.
CONSTANT, STACKED, CARRIED = range(3)


class Reached(NamedTuple):
  """Variables of a jaxpr.

  Attributes:
    weights: Those that depend on a parameter, and on no example.
    data: Those that depend on the example.
  """

  weights: set[Any]
  data: set[Any]


def is_inexact(var: Any) -> bool:
  """Returns whether a variable can carry a gradient.

  Args:
    var: Variable of a jaxpr.
  """
  return jnp.issubdtype(var.aval.dtype, jnp.inexact)


def variables(eqn: Any) -> list[Any]:
  """Returns the variables that an equation reads.

  Args:
    eqn: Equation of a jaxpr.
  """
  return [v for v in eqn.invars if tracing.is_var(v)]


def reach(
    jaxpr: Any,
    is_weight: Sequence[bool],
    is_data: Sequence[bool],
    zeros: Collection[Any] = (),
) -> Reached:
  """Returns which variables depend on what.

  Args:
    jaxpr: A jaxpr.
    is_weight: Booleans, whether an input depends on parameters.
    is_data: Booleans, whether it depends on the example, whatever else.
    zeros: Further variables that count as data.

  Returns:
    The variables. What an equation with effects gives counts as data, so that
    it is run where it is.
  """
  pairs = list(zip(jaxpr.invars, is_weight, is_data, strict=True))
  weights = {v for v, w, d in pairs if w and not d and is_inexact(v)}
  data = {v for v, _, d in pairs if d}
  for eqn in jaxpr.eqns:
    read = variables(eqn)
    is_zero = any(v in zeros for v in eqn.outvars)
    if is_zero or eqn.effects or any(v in data for v in read):
      data.update(eqn.outvars)
    elif eqn.primitive.name != "stop_gradient":
      if any(v in weights for v in read):
        weights.update(filter(is_inexact, eqn.outvars))
  return Reached(weights, data)


def live(eqns: Sequence[Any], ends: Collection[Any]) -> set[Any]:
  """Returns the variables through which a gradient of `ends` flows.

  Args:
    eqns: Equations of a jaxpr, in order.
    ends: Variables.
  """
  found = set(ends)
  for eqn in reversed(eqns):
    flows = any(is_inexact(v) and v in found for v in eqn.outvars)
    if flows and eqn.primitive.name != "stop_gradient":
      found.update(filter(is_inexact, variables(eqn)))
  return found


def tiers(
    jaxpr: Any, *, num_consts: int, num_carry: int, data: Collection[Any]
) -> dict[Any, int]:
  """Returns the tier of every static variable of a loop's body.

  Args:
    jaxpr: The body.
    num_consts: Inputs that every iteration is given.
    num_carry: Inputs, after these, that iterations hand on.
    data: Variables that are not static.
  """
  found = dict.fromkeys(jaxpr.constvars, CONSTANT)
  for i, var in enumerate(jaxpr.invars):
    if var in data:
      continue
    at = i - num_consts
    is_handed_on = 0 <= at < num_carry and jaxpr.outvars[at] is not var
    tier = CARRIED if is_handed_on else STACKED if at >= num_carry else CONSTANT
    found[var] = tier
  for eqn in jaxpr.eqns:
    if not any(v in data for v in (*eqn.outvars, *variables(eqn))):
      tier = max((found[v] for v in variables(eqn)), default=CONSTANT)
      found.update(dict.fromkeys(eqn.outvars, tier))
  return found


def ancestors(eqns: Sequence[Any], needed: Collection[Any]) -> set[Any]:
  """Returns `needed`, and all variables that they are made of.

  Args:
    eqns: Equations of a jaxpr, in order.
    needed: Variables.
  """
  found = set(needed)
  for eqn in reversed(eqns):
    if any(v in found for v in eqn.outvars):
      found.update(variables(eqn))
  return found
