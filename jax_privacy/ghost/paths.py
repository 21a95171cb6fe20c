"""How a component's parameters become its weights, where a norm survives it.

The invariant: a `Path` is given only where the parameters' squared norms follow
from the sites' forms. For anything else there is a `NoPath`, which says why;
the gradient is made by `jax.vjp` then.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy.ghost import graph, paths
  >>> loss = lambda leaves, rows: (jnp.sum(jnp.sin(rows[0] @ leaves[0].T)), [])
  >>> split = graph.split(loss, [jnp.ones((2, 3))], [jnp.ones((4, 3))])
  >>> paths.find(split, split.components[0])
  Path(standardise=None, roles=(), mask=None)
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jax_privacy.ghost import (
    components,
    graph,
    masks,
    reasons,
    rules,
    tracing,
    transforms,
)


@dataclasses.dataclass(frozen=True)
class Path:
  """An isometric path, one through a mask, or through weight standardisation.

  Attributes:
    standardise: The equation of weight standardisation, or None.
    roles: Per parameter of the component, 0 if it is the kernel of
      `standardise`, 1 if its gain; empty without it.
    mask: Name of what the numbers of the parameter are multiplied by: "array"
      or "number", a constant that may be 0; None if they are not.
  """

  standardise: Any
  roles: tuple[int, ...]
  mask: str | None = None


@dataclasses.dataclass(frozen=True)
class NoPath:
  """No path: the gradient is made.

  Attributes:
    reason: Why, in plain words.
  """

  reason: str


def find(split: graph.Split, component: components.Component) -> Path | NoPath:
  """Returns a component's path, or why it has none.

  Args:
    split: The loss.
    component: One of its components.
  """
  sites = [split.sites[i] for i in component.site_indices]
  for site in sites:
    if rules.find(site) is None:
      return NoPath(rules.why_none(site))
  known = [e for e in component.eqns if transforms.find(e) is not None]
  rest = [e for e in component.eqns if e not in known]
  changes = [eqn for eqn in rest if not transforms.is_isometry(eqn)]
  for eqn in changes:
    if known or not masks.is_mask(eqn, masks.own_variables(split, component)):
      return NoPath(reasons.of_change(split, component, eqn))
  if not known:
    if len(component.piece_indices) > 1:
      return NoPath("several parameters are joined in one weight")
    return Path(None, (), masks.kind(changes))
  reason = _why_not_standardised(component, sites, known)
  return reason or _through(split, component, known[0], rest)


def _why_not_standardised(component, sites, known) -> NoPath | None:
  """Why a weight that is standardised has no path, or None."""
  if any(site.lifted for site in sites):
    return NoPath("the standardised weight is used in a loop")
  if len(known) > 1:
    return NoPath("weight standardisation is used more than once")
  if known[0].outvars[0] not in component.weights:
    return NoPath("the standardised weight is changed again before use")
  if len(component.weights) > 1:
    return NoPath("a parameter of a standardised weight is used elsewhere too")
  if len(sites) > 1:
    return NoPath(f"the standardised weight is used in {len(sites)} places")
  if rules.find(sites[0]).channel_axis is None:
    return NoPath(
        "the channels of the standardised weight are not its last axis where"
        " it is used"
    )
  return None


def _through(split, component, standardise, isometries):
  """The path through weight standardisation, if nothing is below float32."""
  avals = [v.aval for v in standardise.invars[:2]]
  short = [a.dtype.name for a in avals if jnp.finfo(a.dtype).bits < 32]
  if short:
    return NoPath(f"the weight is standardised in {short[0]}")
  sources = {e.outvars[0]: e.invars[0] for e in isometries}
  roots = []
  for atom in standardise.invars[:2]:
    while tracing.is_var(atom) and atom in sources:
      atom = sources[atom]
    roots.append(atom if tracing.is_var(atom) else None)
  own = [split.pieces[i].var for i in component.piece_indices]
  if roots[0] is roots[1]:
    return NoPath("kernel and gain of weight standardisation are the same")
  if any(var not in roots for var in own):
    return NoPath("a parameter takes the place of the kernel, gain or epsilon")
  return Path(standardise, tuple(roots.index(var) for var in own))


def pull_isometric(
    split: graph.Split,
    component: components.Component,
    shared: tracing.Env,
    cotangents: list[jax.Array],
) -> jax.Array:
  """Returns the one parameter's cotangent, in the dtype of its weights'.

  The casts on the way are left out: a cotangent in float32 stays one.

  Args:
    split: The loss.
    component: The component, with an isometric path.
    shared: Values of all shared variables.
    cotangents: Cotangents of the weights.
  """
  own = split.pieces[component.piece_indices[0]].var
  run = masks.path_fn(split, component, shared)
  like = jax.ShapeDtypeStruct(own.aval.shape, cotangents[0].dtype)
  if all(transforms.is_isometry(eqn) for eqn in component.eqns):
    return jax.linear_transpose(run, like)(cotangents)[0]
  start = jnp.zeros(like.shape, like.dtype)
  return jax.vjp(run, start)[1](cotangents)[0]
