"""Says how each parameter's gradient is clipped, and why not faster.

The invariant: rows follow from the routes that the method takes for the same
shapes, and so from nothing of the data.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy.ghost import costs, explain, graph, routes
  >>> loss = lambda leaves, rows: (jnp.sum(jnp.sin(rows[0] @ leaves[0])), [])
  >>> split = graph.split(loss, [jnp.ones((512, 256))], [jnp.ones(512)])
  >>> found = routes.find(split, costs.choose, batch_size=8)
  >>> [row] = explain.rows(split, found, ["w"], num_examples=8)
  >>> row.rule, row.plan, row.flops, row.reason
  ('dense', 'ghost', 263680.0, '')
"""

import dataclasses
from collections.abc import Sequence

from jax_privacy import explanation
from jax_privacy.ghost import costs, flops, graph, paths, regions, routes, rules

# Of the primitives that have a rule here.
_RULES = {
    "conv_general_dilated": "convolution",
    "dot_general": "dense",
    "gather": "embedding",
}
# The gradients of one equation: a forward pass, and two products backwards.
_PASSES = 3
_UNUSED = "the loss does not depend on it: its gradient is zero"


def rows(
    split: graph.Split,
    found: Sequence[routes.Route],
    names: Sequence[str],
    *,
    num_examples: int,
) -> tuple[explanation.Row, ...]:
  """Returns a row for each parameter, in order.

  Args:
    split: The loss.
    found: The route of each component.
    names: Names of the parameters.
    num_examples: Examples at a time.
  """
  by_leaf = {}
  for route in found:
    own = [split.pieces[i].leaf for i in route.component.piece_indices]
    row = _row(split, route, names[own[0]], num_examples)
    by_leaf.setdefault(own[0], []).append(row)
    for leaf in dict.fromkeys(own):
      if leaf != own[0]:
        by_leaf.setdefault(leaf, []).append(_together(row, names[leaf]))
  return tuple(
      _merged(by_leaf.get(leaf, []), name, split.leaf_vars[leaf].aval.shape)
      for leaf, name in enumerate(names)
  )


def with_calls(
    rows: Sequence[explanation.Row], region: regions.Region
) -> tuple[explanation.Row, ...]:
  """Returns the rows of a loss that is clipped in two passes.

  Args:
    rows: Rows for the sites outside of loops and checkpoints.
    region: The loss.
  """
  names = {}
  for call in region.calls.values():
    for i in call.sources.values():
      leaf = region.split.pieces[i].leaf
      names.setdefault(leaf, []).append(call.eqn.primitive.name)
  return tuple(
      row
      if leaf not in names
      else dataclasses.replace(
          row,
          rule=", ".join(
              f"sites in {name}" for name in dict.fromkeys(names[leaf])
          ),
          plan="probe",
          flops=None,
          reason="",
      )
      for leaf, row in enumerate(rows)
  )


def _together(row, name):
  """The row of a parameter whose norm is counted in another's row."""
  reason = f"its norm is taken together with {row.parameter}'s"
  return dataclasses.replace(
      row, parameter=name, flops=0.0, num_bytes=0.0, reason=reason
  )


def _merged(rows, name, shape):
  """One row of a parameter, made of those of its pieces."""
  if not rows:
    rows = [_unused(name)]

  def distinct(key):
    return ", ".join(dict.fromkeys(map(key, rows)))

  return dataclasses.replace(
      rows[0],
      shape=tuple(shape),
      rule=distinct(lambda row: row.rule),
      plan=distinct(lambda row: row.plan),
      flops=sum(row.flops for row in rows),
      num_bytes=max(row.num_bytes for row in rows),
      reason=next((row.reason for row in rows if row.reason), ""),
  )


def _row(split, route, name, num_examples):
  """The row of a component's first parameter, but for its shape."""
  component, path = route.component, route.path
  sites = [split.sites[i] for i in component.site_indices]
  forms = [rules.find(site) for site in sites]
  has_path = isinstance(path, paths.Path)
  generic = [s for s, f in zip(sites, forms, strict=True) if f is None]
  by_plan = costs.estimate(
      component,
      forms,
      batch_size=num_examples,
      has_path=has_path,
      has_closed_norm=routes.has_closed_norm(path, forms),
      generic_flops=_PASSES * sum(flops.of_equation(s.eqn) for s in generic),
  )
  cost = by_plan[route.plan]
  return explanation.Row(
      parameter=name,
      shape=(),
      rule=_rule_names(sites, forms),
      plan=route.plan,
      flops=cost.flops,
      num_bytes=cost.num_bytes,
      reason=_reason(route, forms, by_plan),
  )


def _reason(route, forms, by_plan):
  """Why the plan is none that is faster; empty for the fastest."""
  if route.plan == "ghost":
    return ""
  if isinstance(route.path, paths.NoPath):
    is_large = route.plan == "redo"
    large = "; too large to keep, so made twice" if is_large else ""
    return route.path.reason + large
  if route.path.mask == "array" and "ghost" not in by_plan:
    return (
        "the parameter is multiplied by a constant array, such as a mask, and"
        " used at several positions"
    )
  if len(forms) > 1:
    places = f"it is used in {len(forms)} places"
    return f"{places}, whose gradients are added before the norm is taken"
  count = forms[0].num_positions
  slower = by_plan["ghost"].seconds / by_plan[route.plan].seconds
  longer = f"ghost would take {slower:.1f} times as long"
  if count == 1:
    return f"{longer} for a gradient so small"
  return f"{longer}, for Gram matrices of {count} x {count} positions"


def _rule_names(sites, forms):
  """The rule at each site, equal ones counted."""
  counts = {}
  for site, form in zip(sites, forms, strict=True):
    name = _RULES.get(site.name, f"rule for {site.name}")
    name = f"vjp of {site.label}" if form is None else name
    counts[name] = counts.get(name, 0) + 1
  return ", ".join(n if k == 1 else f"{n} x{k}" for n, k in counts.items())


def _unused(name):
  return explanation.Row(
      parameter=name,
      shape=(),
      rule="",
      plan="none",
      flops=0.0,
      num_bytes=0.0,
      reason=_UNUSED,
  )
