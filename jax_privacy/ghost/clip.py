"""The ghost method: per-example norms and the clipped sum, in one pass.

One forward and one backward pass over activations give every site's inputs and
cotangents (`graph.py`). Each component's plan (`plans.py`) turns these into
squared norms, and, once the clip factors are known, into its part of the sum.

The invariant: the same results as `per_example.ClippedSum`, up to rounding; and
what one example adds to the sum depends on that example alone and has L2 norm
at most the clip norm.

Source: Goodfellow 2015 (arXiv 1510.01799); Li et al. 2022 (arXiv 2110.05679);
Bu et al. 2022 (arXiv 2205.10683 and 2210.00038).

Example:
  >>> import jax.numpy as jnp
  >>> import jax_privacy
  >>> loss = lambda w, x: jnp.sum((x @ w) ** 2)
  >>> grad_fn = jax_privacy.clipped_grad(
  ...     loss, l2_clip_norm=1.0, method="ghost", keep_batch_dim=False)
  >>> print(grad_fn(jnp.ones((2, 1)), jnp.array([[3.0, 4.0]])).ravel().round(3))
  [0.6 0.8]
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_privacy import magnitude, partitioner, per_example, precision
from jax_privacy.ghost import costs, graph, paths, plans, rules, sums


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClippedSum:
  """`(args, is_padding_example) -> (sum, losses, norms, aux)` over a batch.

  Attributes:
    fun: `fun(*args)` returning `(loss, aux)` for one example.
    argnums: What to differentiate; an int or a tuple, as for `jax.grad`.
    batch_argnums: Arguments given to `fun` one row at a time.
    prng_argnum: An argument that holds one key per example, or None.
    clip_norms: A number, or a pytree prefix of the gradient.
    divide_by: Each example's clipped gradient is divided by this.
    keep_batch_dim: Whether rows keep a leading axis of size 1.
    nan_safe: Whether a non-finite gradient counts zero.
    dtype: Of the sum; None for the gradient's own, float32 at least.
    spmd_axis_name: See `jax.vmap`.
    choose: What picks a component's plan; see `costs.choose`.
    loops: See `plans.Recorded`.
  """

  fun: Callable[..., tuple[Any, Any]]
  argnums: int | tuple[int, ...]
  batch_argnums: tuple[int, ...]
  prng_argnum: int | None
  clip_norms: Any
  divide_by: float
  keep_batch_dim: bool
  nan_safe: bool
  dtype: Any
  spmd_axis_name: str | None
  choose: Callable[..., str] = costs.choose
  loops: bool | None = None

  def __call__(self, args, is_padding_example):
    """Returns the sum and, per example, losses, norms and aux."""
    loss = _ExampleLoss(self, args)
    split = graph.split(loss, loss.leaves, loss.row_shapes())
    parts = _Parts(self, loss)
    batch_size = len(is_padding_example)
    routes = [self._route(split, c, batch_size) for c in split.components]
    losses, aux, recorded = self._record(split, loss, routes)
    component_plans = [
        plans.PLANS[route.plan](parts.in_units(r))
        for route, r in zip(routes, recorded, strict=True)
    ]
    sizes = {}
    for plan in component_plans:
      pairs = [(n, plan.unit) for n in plan.norms()]
      sizes.update(zip(plan.leaves, pairs, strict=True))
    relative = parts.relative_norms(sizes, is_padding_example.shape)
    keep = ~is_padding_example
    for r in relative if self.nan_safe else ():
      keep &= jnp.isfinite(r)
    totals = self._totals(loss, parts, component_plans, relative, keep)
    aux = loss.aux_treedef.unflatten(aux)
    return loss.unflatten(totals), losses, parts.norms(relative), aux

  def sum_dtype(self, leaves) -> jnp.dtype:
    """The dtype of sums, and of norms, of these parameters."""
    own = precision.at_least_float32(*(leaf.dtype for leaf in leaves))
    return own if self.dtype is None else jnp.dtype(self.dtype)

  def _route(self, split, component, batch_size):
    """Chooses a component's plan."""
    path = paths.find(split, component)
    sites = [split.sites[i] for i in component.sites]
    plan = self.choose(
        component,
        [rules.find(site) for site in sites],
        batch_size=batch_size,
        has_path=path is not None,
        has_closed_norm=path is not None and len(sites) == 1,
    )
    return _Route(component, path, plan)

  def _record(self, split, loss, routes):
    """Runs forward and backward: losses, aux, and a record per component."""
    shared = split.run_shared(loss.leaves)
    rescaled = {
        route.component.sites[0]: paths.rescaled(
            split, route.component, route.path.standardise, shared
        )
        for route in routes
        if route.plan == "ghost" and route.path.standardise is not None
    }
    zeros = [
        [jnp.zeros(var.aval.shape, var.aval.dtype) for var in site.outputs]
        for site in split.sites
    ]

    def one_example(rows):
      rows = [*rows, jnp.zeros((), jnp.float32)]
      run = functools.partial(split.run_data, shared, rows, rescaled=rescaled)
      value, pull, recorded = jax.vjp(run, zeros, has_aux=True)
      return value, pull(jnp.ones_like(value))[0], recorded

    per_row = jax.vmap(one_example, spmd_axis_name=self.spmd_axis_name)
    per_row = partitioner.checked(per_row)
    losses, cotangents, (aux, data, unscaled) = per_row(loss.rows)

    def record(route):
      component = route.component
      leaves = [loss.leaves[i] for i in component.leaves]
      return plans.Recorded(
          split=split,
          component=component,
          path=route.path,
          shared=shared,
          leaves=leaves,
          data=[data[i] for i in component.sites],
          cotangents=[cotangents[i] for i in component.sites],
          unscaled=unscaled.get(component.sites[0]),
          dtype=self.sum_dtype(leaves),
          loops=self.loops,
      )

    return losses, aux, [record(route) for route in routes]

  def _totals(self, loss, parts, component_plans, relative, keep):
    """Returns the clipped sum of each parameter."""
    totals = [jnp.zeros(x.shape, self.sum_dtype([x])) for x in loss.leaves]
    turn = keep
    # From the loss backwards: what was made last is freed first.
    for plan in reversed(component_plans):
      for leaf, total in parts.sums(plan, relative, turn):
        totals[leaf] = total.astype(totals[leaf].dtype)
      if plan.takes_turns:
        turn = sums.after(totals[plan.leaves[0]], keep)
    return totals


class _Route(NamedTuple):
  """How a component's gradient is had: its path and the name of its plan."""

  component: graph.Component
  path: paths.Path | None
  plan: str


class _ExampleLoss:
  """One example's loss as `(leaves, rows) -> (loss, aux leaves)`.

  The last row is a zero that is added to the loss: without it, a loss that does
  not depend on the data would have no equation on the data side.
  """

  def __init__(self, clipped_sum, args):
    self._of = clipped_sum
    self._args = list(args)
    argnums = clipped_sum.argnums
    self._argnums = (argnums,) if isinstance(argnums, int) else argnums
    params = [args[i] for i in self._argnums]
    leaves, self._treedef = jax.tree.flatten(params)
    self.leaves = [jnp.asarray(leaf) for leaf in leaves]
    precision.at_least_float32(*(leaf.dtype for leaf in self.leaves))
    mapped = [*clipped_sum.batch_argnums]
    if clipped_sum.prng_argnum is not None:
      mapped.append(clipped_sum.prng_argnum)
    self._mapped = mapped
    rows, self._row_treedef = jax.tree.flatten([args[i] for i in mapped])
    self.rows = [jnp.asarray(row) for row in rows]
    self.aux_treedef = None

  def row_shapes(self):
    """Returns one example's shapes."""
    rows = [jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for x in self.rows]
    return [*rows, jax.ShapeDtypeStruct((), jnp.float32)]

  def unflatten(self, leaves):
    """Returns values of the leaves as the argument(s) to differentiate."""
    params = self._treedef.unflatten(leaves)
    return params[0] if isinstance(self._of.argnums, int) else tuple(params)

  def __call__(self, leaves, rows):
    """Returns the loss and aux's leaves."""
    args = list(self._args)
    params = self._treedef.unflatten(leaves)
    for i, param in zip(self._argnums, params, strict=True):
      args[i] = param
    *rows, zero = rows
    rows = self._row_treedef.unflatten(rows)
    for i, row in zip(self._mapped, rows, strict=True):
      if self._of.keep_batch_dim and i != self._of.prng_argnum:
        row = jax.tree.map(lambda x: jnp.expand_dims(x, 0), row)
      args[i] = row
    value, aux = self._of.fun(*args)
    value = jnp.asarray(value)
    if value.shape == () and jnp.issubdtype(value.dtype, jnp.floating):
      value = value + zero.astype(value.dtype)
    if self._of.keep_batch_dim:
      aux = jax.tree.map(per_example.drop_unit_batch_axis, aux)
    aux, self.aux_treedef = jax.tree.flatten(aux)
    return value, aux


class _Parts:
  """The parts of a gradient that are clipped each by itself."""

  def __init__(self, clipped_sum, loss):
    self._of = clipped_sum
    self._treedef = jax.tree.structure(clipped_sum.clip_norms)
    self._clip_norms = jax.tree.leaves(clipped_sum.clip_norms)
    indices = loss.unflatten(range(len(loss.leaves)))
    split = per_example.split_at_prefix(self._treedef, indices)
    self._members = [jax.tree.leaves(part) for part in split]
    self._dtypes = [
        clipped_sum.sum_dtype([loss.leaves[i] for i in members])
        for members in self._members
    ]
    self._part_of = {
        leaf: part
        for part, members in enumerate(self._members)
        for leaf in members
    }

  def in_units(self, recorded):
    """Returns the record, set to give norms over a unit near the clip norm."""
    return dataclasses.replace(
        recorded, unit=self._unit(recorded.component.leaves)
    )

  def _unit(self, leaves):
    parts = {self._part_of[leaf] for leaf in leaves}
    return magnitude.unit_near(min(self._clip_norms[part] for part in parts))

  def relative_norms(self, sizes, shape):
    """Returns, per part, norm over clip norm of each example.

    Args:
      sizes: Per leaf, the norm of its gradient over a unit, and the unit; a
        leaf that is not in it has no gradient.
      shape: (batch_size,).
    """
    relative = []
    for members, clip_norm, dtype in zip(
        self._members, self._clip_norms, self._dtypes, strict=True
    ):
      found = [sizes[leaf] for leaf in members if leaf in sizes]
      each = [n.astype(dtype) * (unit / clip_norm) for n, unit in found]
      squares = jnp.square(jnp.stack([jnp.zeros(shape, dtype), *each]))
      relative.append(jnp.sqrt(magnitude.block_sum(squares)))
    return relative

  def sums(self, plan, relative, keep):
    """Yields a component's parameters, each with its clipped sum."""
    for part in sorted({self._part_of[leaf] for leaf in plan.leaves}):
      factor = per_example.clip_factor(relative[part]) / self._of.divide_by
      totals = plan.clipped_sums(factor, keep)
      for leaf, total in zip(plan.leaves, totals, strict=True):
        if self._part_of[leaf] == part:
          yield leaf, total

  def norms(self, relative):
    """Returns the norms before clipping, in the structure of the clip norms."""
    pairs = zip(relative, self._clip_norms, strict=True)
    return self._treedef.unflatten([r * c for r, c in pairs])
