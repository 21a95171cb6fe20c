"""What one forward and backward pass leaves of a component, for its plan.

The invariant: a `Recorded` is frozen. It holds no gradient: those are made of
it, one example after the other or all at once (`map_examples`).

Example:
  >>> import dataclasses
  >>> from jax_privacy.ghost import recorded
  >>> [field.name for field in dataclasses.fields(recorded.Recorded)][:3]
  ['split', 'component', 'path']
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.extend.core as jex_core
import jax.numpy as jnp

from jax_privacy import partitioner
from jax_privacy.ghost import components, graph, masks, paths, rules, tracing


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recorded:
  """What one forward and backward pass leaves of a component.

  Attributes:
    split: The loss.
    component: The component.
    path: Path from its parameters to weights, or why no norm survives it.
    shared: Values of all shared variables.
    pieces: Values of the component's pieces of parameters.
    data: Per site, the operands that depend on the example, batched.
    cotangents: Per site, those of its outputs, batched.
    unscaled: The one site's output over `factor`, batched, if it was run as
      `standardised.rescaled`; else None.
    dtype: Dtype of sums.
    unit: Unit of norms; see `magnitude.unit_near`.
    loops: Whether gradients are made one after the other: True, False, or None
      for what suits the platform that runs.
  """

  split: graph.Split
  component: components.Component
  path: paths.Path | paths.NoPath
  shared: tracing.Env
  pieces: list[Any]
  data: list[Any]
  cotangents: list[Any]
  unscaled: Any
  dtype: Any
  unit: float = 1.0
  loops: bool | None = None

  @property
  def has_path(self) -> bool:
    """Whether norms survive from weights to parameters."""
    return isinstance(self.path, paths.Path)

  @property
  def sites(self) -> list[graph.Site]:
    """The component's sites."""
    return [self.split.sites[i] for i in self.component.site_indices]

  def weights(self, site: graph.Site) -> list[Any]:
    """Returns the values of a site's weights.

    Args:
      site: One of the component's sites.
    """
    return [self.shared[var] for var in site.weights]

  @functools.cached_property
  def is_heavy(self) -> bool:
    """Whether making a gradient is a product of matrices."""
    forms = [rules.find(site) for site in self.sites]
    return any(form and form.num_positions > 1 for form in forms)

  def standardise_operands(self) -> list[Any]:
    """Returns the kernel, gain and epsilon of weight standardisation."""
    atoms = self.path.standardise.invars
    return [tracing.read(self.shared, atom) for atom in atoms]

  def scale(self) -> jax.Array:
    """Returns constants that the weight's gradient is multiplied by."""
    return masks.scale(self.split, self.component, self.shared, self.dtype)

  def vjp_to_params(self) -> Callable[[dict[Any, jax.Array]], list[Any]]:
    """Returns the map from weights' cotangents to parameters' gradients."""
    weights = self.component.weights
    if self.has_path and self.path.standardise is None:
      pull = functools.partial(
          paths.pull_isometric, self.split, self.component, self.shared
      )
      return lambda grads: [pull([grads[var] for var in weights])]
    transform_fn = self.split.transform_fn(self.component, self.shared)
    _, vjp_fn = jax.vjp(transform_fn, *self.pieces)
    return lambda grads: list(
        vjp_fn([grads[var].astype(var.aval.dtype) for var in weights])
    )

  def map_examples(self, fun: Callable[..., Any], *args: Any) -> Any:
    """Returns `fun` of each example, stacked.

    On a CPU one example after the other, if there is much to multiply: its
    gradient then stays in cache while it is squared. Elsewhere all at once, in
    batched matrix products.

    Args:
      fun: Function of one example.
      *args: Pytrees of arrays with a leading batch axis.
    """
    if not self.is_heavy and not self.loops:
      return partitioner.checked(jax.vmap(fun))(*args)
    fun = _traced(fun, args)  # Or each of what follows would trace it.
    at_once = partitioner.checked(jax.vmap(fun))
    loop = functools.partial(_one_by_one, fun)
    return _on_platform(self.loops, loop, at_once, args)


def _traced(fun, args):
  """Returns `fun`, of the types of `args` without their first axis, traced."""
  rows = [jax.tree.map(lambda x: x[0], arg) for arg in args]
  closed, shapes = jax.make_jaxpr(fun, return_shape=True)(*rows)
  run, treedef = jex_core.jaxpr_as_fun(closed), jax.tree.structure(shapes)
  return lambda *row: treedef.unflatten(run(*jax.tree.leaves(row)))


def _one_by_one(fun, *args):
  """As `jax.lax.map`, but for when memory for the results is taken.

  `jax.lax.map` starts from zeros, which XLA makes before anything else; these
  start from a number of the last argument, and so exist only after it.
  """
  size = len(jax.tree.leaves(args)[0])
  rows = [jax.tree.map(lambda x: x[0], arg) for arg in args]
  start = jnp.real(jax.tree.leaves(rows[-1])[0].ravel()[0])

  def buffer(result):
    shape = (size, *result.shape)
    return jnp.broadcast_to(start.astype(result.dtype), shape)

  def body(i, results):
    take = functools.partial(jax.lax.dynamic_index_in_dim, index=i, axis=0)
    row = jax.tree.map(lambda x: take(x, keepdims=False), args)
    put = functools.partial(jax.lax.dynamic_update_index_in_dim, axis=0)
    return jax.tree.map(lambda r, x: put(r, x, index=i), results, fun(*row))

  results = jax.tree.map(buffer, jax.eval_shape(fun, *rows))
  return jax.lax.fori_loop(0, size, body, results)


def _on_platform(loops, on_cpu, elsewhere, args):
  """Runs `on_cpu` there or if `loops`, else `elsewhere`; compiles only one."""
  if loops is not None:
    return (on_cpu if loops else elsewhere)(*args)
  return jax.lax.platform_dependent(*args, cpu=on_cpu, default=elsewhere)
