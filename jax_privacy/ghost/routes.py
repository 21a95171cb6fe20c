"""How each component's gradient is made: by which path, and by which plan.

The invariant: routes follow from shapes, never from data.

Example:
  >>> import jax, jax.numpy as jnp
  >>> from jax_privacy.ghost import costs, graph, routes
  >>> loss = lambda leaves, rows: (jnp.sum(jnp.sin(rows[0] @ leaves[0])), [])
  >>> shapes = (64, 64), (5, 64)
  >>> w, x = (jax.ShapeDtypeStruct(s, "float32") for s in shapes)
  >>> split = graph.split(loss, [w], [x])
  >>> (route,) = routes.find(split, costs.choose, batch_size=8)
  >>> route.plan
  'ghost'
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from jax_privacy.ghost import components, graph, masks, paths, rules

# Most bytes of gradients to keep that a mask is applied to.
_KEPT_MASKED = 8e6


class Route(NamedTuple):
  """How one component's gradient is made.

  Attributes:
    component: The component.
    path: Path from its parameters to weights, or why no norm survives it.
    plan: A key of `plans.PLANS`.
  """

  component: components.Component
  path: paths.Path | paths.NoPath
  plan: str

  @property
  def standardise(self):
    """The equation of weight standardisation that `ghost` goes through."""
    is_ghost = self.plan == "ghost" and isinstance(self.path, paths.Path)
    return self.path.standardise if is_ghost else None


def find(
    split: graph.Split, choose: Callable[..., str], *, batch_size: int
) -> list[Route]:
  """Returns the route of every component.

  Args:
    split: The loss.
    choose: Function that picks a component's plan; see `costs.choose`.
    batch_size: Examples at a time.
  """
  routes = []
  for component in split.components:
    path = paths.find(split, component)
    sites = [split.sites[i] for i in component.site_indices]
    has_path = isinstance(path, paths.Path)
    forms = [rules.find(site) for site in sites]
    plan = choose(
        component,
        forms,
        batch_size=batch_size,
        has_path=has_path,
        has_closed_norm=has_closed_norm(path, forms),
    )
    size = 4 * sum(math.prod(v.aval.shape) for v in component.weights)
    is_masked = has_path and path.mask == "array" and forms[0].num_positions > 1
    if plan == "keep" and is_masked and batch_size * size > _KEPT_MASKED:
      plan = "redo"  # One example at a time: at most twice the memory.
    routes.append(Route(component, path, plan))
  return routes


def has_closed_norm(path: paths.Path | paths.NoPath, forms: Any) -> bool:
  """Returns whether "ghost" is possible for a component.

  Args:
    path: Path from its parameters to weights.
    forms: Forms of its sites.
  """
  if not isinstance(path, paths.Path) or len(forms) > 1:
    return False
  return path.mask != "array" or masks.has_closed_norm(forms[0])
