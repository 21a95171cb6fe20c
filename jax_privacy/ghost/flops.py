"""Estimates what an equation without a rule costs, for `explain`.

The invariant: from shapes alone, and for the reader: no plan rests on it.

Example:
  >>> import jax, jax.numpy as jnp
  >>> from jax_privacy.ghost import flops
  >>> jaxpr = jax.make_jaxpr(jnp.dot)(jnp.ones((4, 3)), jnp.ones((3, 2))).jaxpr
  >>> flops.of_equation(jaxpr.eqns[-1])  # 4 x 2 sums of 3 products.
  48.0
"""

import math
from typing import Any

from jax_privacy import jaxprs


def of_equation(eqn: Any) -> float:
  """Returns the multiplications and additions of one equation, about.

  A `while` counts one iteration, for their number is not known; a `cond` its
  dearest branch; and what is neither a product of arrays nor holds a program,
  one a number that it reads or writes.

  Args:
    eqn: An equation of a jaxpr.
  """
  name = eqn.primitive.name
  out = math.prod(eqn.outvars[0].aval.shape) if eqn.outvars else 0
  if name == "dot_general":
    (contracting, _), _ = jaxprs.param(eqn, "dimension_numbers")
    shape = eqn.invars[0].aval.shape
    return 2.0 * out * math.prod(shape[i] for i in contracting)
  if name == "conv_general_dilated":
    kernel = eqn.invars[1].aval.shape
    spec = jaxprs.param(eqn, "dimension_numbers").rhs_spec
    return 2.0 * out * math.prod(kernel) / max(kernel[spec[0]], 1)
  if name == "cond":
    return max(map(_of_jaxpr, jaxprs.branches(eqn)))
  if name == "scan":
    return jaxprs.param(eqn, "length") * _of_jaxpr(jaxprs.scan(eqn).body)
  held = jaxprs.held(eqn)
  if held:
    return sum(map(_of_jaxpr, held))
  atoms = (*eqn.invars, *eqn.outvars)
  return float(max((math.prod(v.aval.shape) for v in atoms), default=0))


def _of_jaxpr(jaxpr):
  return sum(map(of_equation, jaxpr.eqns))
