"""What is known of the primitives that parameters meet: one rule each.

A rule looks at a site and, where it applies, gives its `Form`: the gradient of
the site's weight, for one example, is

  for each s of S independent groups: sum over t of x[s, t] z[s, t]^T

with T positions, x of D numbers and z of P. Its squared norm follows from Gram
matrices (`norms.py`), and the gradient is not made. To add a rule, write one
function and register it for its primitive.

A site without a rule gets the vjp of its one equation (`generic_gradient`).

The invariant: `Form.gradient` equals that vjp, in float32 at least.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy.ghost import graph, rules
  >>> loss = lambda leaves, rows: (jnp.sum(jnp.sin(rows[0] @ leaves[0])), [])
  >>> split = graph.split(loss, [jnp.ones((3, 2))], [jnp.ones((4, 3))])
  >>> form = rules.find(split.sites[0])
  >>> form.num_groups, form.num_positions, form.num_inputs, form.num_outputs
  (1, 4, 3, 2)
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jax_privacy import jaxprs, precision
from jax_privacy.ghost import flow, graph

_RULES: dict[str, Callable[[graph.Site], "Form | None"]] = {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Form:
  """One site's weight gradient as a sum of outer products.

  Functions take one example's x, the operand that depends on data, and z, the
  cotangent of the output.

  Attributes:
    num_groups: S.
    num_positions: T.
    num_inputs: D.
    num_outputs: P.
    gram: Function from x to <x_t, x_u>, [S, T, T].
    diagonal: Function from x to |x_t|^2, [S, T].
    input_sums: Function from x to the sum of each x_t, [S, T].
    cotangents: Function from z to [S, T, P].
    rows: Function from x to [S, T, D]; None if that is much larger than x.
    restore: Function from [S, D, P] to the weight's shape.
    gradient: Function from (x, z) to the gradient, in the weight's shape.
    gram_flops: Multiplications and additions that `gram` takes.
    channel_axis: Axis of the output where it has the weight's last axis, if
      that is the S * P outputs; None if it is not.
    merge: Function from (x, z) to z, with positions that are added one after
      the other added before, in blocks; None if there are no such positions.
  """

  num_groups: int
  num_positions: int
  num_inputs: int
  num_outputs: int
  gram: Callable[[jax.Array], jax.Array]
  diagonal: Callable[[jax.Array], jax.Array]
  input_sums: Callable[[jax.Array], jax.Array]
  cotangents: Callable[[jax.Array], jax.Array]
  rows: Callable[[jax.Array], jax.Array] | None
  restore: Callable[[jax.Array], jax.Array] | None
  gradient: Callable[[jax.Array, jax.Array], jax.Array]
  gram_flops: float
  channel_axis: int | None
  merge: Callable[[jax.Array, jax.Array], jax.Array] | None = None

  @property
  def gradient_flops(self) -> float:
    """What `gradient` costs, in multiplications and additions."""
    return (
        2.0
        * self.num_groups
        * self.num_positions
        * self.num_inputs
        * self.num_outputs
    )


def register(primitive: str) -> Callable[..., Any]:
  """Returns a decorator that registers a rule.

  A rule is a function from a site to its `Form`, or None.

  Args:
    primitive: Name of the primitive that the rule is for.
  """

  def decorate(rule):
    _RULES[primitive] = rule
    return rule

  return decorate


def find(site: graph.Site) -> Form | None:
  """Returns a site's form, or None where no rule applies; see `why_none`.

  Args:
    site: The site.
  """
  return _RULES[site.name](site) if _misfit(site) is None else None


def why_none(site: graph.Site) -> str:
  """Returns why a site has no form, in plain words.

  Args:
    site: The site.
  """
  uncovered = f"the rule for `{site.name}` does not cover this use of it"
  return _misfit(site) or uncovered


def _misfit(site) -> str | None:
  """Why no rule is asked about a site; None if one is."""
  if site.name not in _RULES:
    return f"there is no rule for `{site.label}`"
  if len(site.weight_operands) > 1:
    return f"both operands of `{site.label}` come from parameters"
  if len(site.data_operands) != 1:
    return f"`{site.name}` reads several operands that depend on the example"
  shapes = [atom.aval.shape for atom in (*site.eqn.invars, *site.eqn.outvars)]
  if 0 in map(math.prod, shapes):
    return f"an operand or the result of `{site.name}` is empty"
  dtypes = [site.weights[0].aval.dtype, *(v.aval.dtype for v in site.outputs)]
  if not all(jnp.issubdtype(d, jnp.floating) for d in dtypes):
    return f"`{site.name}` is not of real floating-point numbers"
  return None


def generic_gradient(
    site: graph.Site,
    shared: Any,
    weights: Sequence[jax.Array],
    data: Sequence[jax.Array],
    cotangents: Sequence[jax.Array],
) -> list[jax.Array]:
  """Returns the gradients of a site's weights: the vjp of its equation.

  Args:
    site: The site.
    shared: Values of the operands that are neither weights nor data.
    weights: Values of the weights.
    data: One example's operands.
    cotangents: One per output of the site.
  """
  _, vjp_fn = jax.vjp(lambda *w: site.apply(shared, w, data), *weights)
  return list(vjp_fn(list(cotangents)))


def in_dtype(site: graph.Site, dtype: jax.typing.DTypeLike) -> graph.Site:
  """Returns the site with its equation set to compute in `dtype`.

  Args:
    site: The site.
    dtype: A floating-point dtype.
  """
  eqn = jaxprs.with_params(
      site.eqn,
      preferred_element_type=jnp.dtype(dtype),
      precision=jax.lax.Precision.HIGHEST,
  )
  return dataclasses.replace(site, eqn=eqn)


def norm_dtype(site: graph.Site) -> Any:
  """Returns the dtype of norms: float32 at least, so that no operand is cut.

  Args:
    site: The site.
  """
  atoms = (*site.weights, *site.outputs, *site.data)
  dtypes = [v.aval.dtype for v in atoms if flow.is_inexact(v)]
  return precision.at_least_float32(*dtypes)
