"""How a component's parameters become its weights, where a norm survives it.

The invariant: a `Path` is given only where the parameters' squared norms follow
from the sites' forms; for anything else there is none, and the gradient is made
by `jax.vjp`.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy.ghost import graph, paths
  >>> loss = lambda leaves, rows: (jnp.sum(jnp.sin(rows[0] @ leaves[0].T)), [])
  >>> split = graph.split(loss, [jnp.ones((2, 3))], [jnp.ones((4, 3))])
  >>> paths.find(split, split.components[0])
  Path(standardise=None, roles=())
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jax_privacy.ghost import graph, rules, tracing, transforms


@dataclasses.dataclass(frozen=True)
class Path:
  """An isometric path, or one through weight standardisation.

  Attributes:
    standardise: The equation of weight standardisation, or None.
    roles: Per parameter of the component, 0 if it is the kernel of
      `standardise`, 1 if its gain; empty without it.
  """

  standardise: Any
  roles: tuple[int, ...]


def find(split: graph.Split, component: graph.Component) -> Path | None:
  """Returns a component's path, or None."""
  forms = [rules.find(split.sites[i]) for i in component.sites]
  known = [e for e in component.eqns if transforms.find(e) is not None]
  rest = [e for e in component.eqns if e not in known]
  if None in forms or not all(map(transforms.is_isometry, rest)):
    return None
  if not known:
    return Path(None, ()) if len(component.leaves) == 1 else None
  if len(known) > 1 or component.weights != tuple(known[0].outvars):
    return None
  if len(forms) > 1 or forms[0].channel_axis is None:
    return None
  return _through(split, component, known[0], rest)


def _through(split, component, standardise, isometries):
  """The path through weight standardisation, if nothing is below float32."""
  avals = [v.aval for v in standardise.invars[:2]]
  if any(jnp.finfo(aval.dtype).bits < 32 for aval in avals):
    return None
  sources = {e.outvars[0]: e.invars[0] for e in isometries}
  roots = []
  for atom in standardise.invars[:2]:
    while tracing.is_var(atom) and atom in sources:
      atom = sources[atom]
    roots.append(atom if tracing.is_var(atom) else None)
  leaf_vars = [split.leaf_vars[i] for i in component.leaves]
  if roots[0] is roots[1] or any(var not in roots for var in leaf_vars):
    return None
  return Path(standardise, tuple(roots.index(var) for var in leaf_vars))


def rescaled(
    split: graph.Split,
    component: graph.Component,
    standardise: Any,
    shared: tracing.Env,
) -> graph.Rescaled:
  """Returns a way to run the one site with no gain about zero.

  Its output over those gains is then what it would be with all gains 1, which
  the norm of the gradient needs, even of a channel whose gain is 0. For others
  the factor is exactly 1.
  """
  kernel, gain, epsilon = (tracing.read(shared, v) for v in standardise.invars)
  divisor = transforms.divisor(gain)
  (weight,) = tracing.bind(standardise, [kernel, divisor, epsilon])
  (site,) = (split.sites[i] for i in component.sites)
  (output,) = (var.aval for var in site.outputs)
  axes = set(range(output.ndim)) - {rules.find(site).channel_axis}
  factor = jnp.expand_dims(gain / divisor, sorted(axes))
  return graph.Rescaled(weight, factor.astype(output.dtype))


def pull_isometric(
    split: graph.Split,
    component: graph.Component,
    shared: tracing.Env,
    cotangents: list[jax.Array],
) -> jax.Array:
  """Takes weights' cotangents back to the one parameter, in their own dtype.

  The casts on the way are left out: a cotangent in float32 stays one.
  """
  leaf_var = split.leaf_vars[component.leaves[0]]

  def run(value):
    env = dict(shared)
    env[leaf_var] = value
    for eqn in component.eqns:
      if eqn.primitive.name == "convert_element_type":
        env[eqn.outvars[0]] = env[eqn.invars[0]]
      else:
        tracing.evaluate([eqn], env)
    return [env[weight] for weight in component.weights]

  like = jax.ShapeDtypeStruct(leaf_var.aval.shape, cotangents[0].dtype)
  return jax.linear_transpose(run, like)(cotangents)[0]
