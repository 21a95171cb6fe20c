"""The ghost method: per-example norms and the clipped sum, in one pass.

One forward and one backward pass over activations give every site's inputs and
cotangents (`graph.py`). Each component's plan (`plans.py`) turns these into
squared norms, and, once the clip factors are known, into its part of the sum.

The invariant: the same results as `per_example.VmapSum`, up to rounding; and
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

import jax
import jax.numpy as jnp

from jax_privacy import (
    clipped_sum,
    explanation,
    partitioner,
    per_example,
    precision,
)
from jax_privacy.ghost import (
    costs,
    example_loss,
    explain,
    graph,
    plans,
    routes,
    standardised,
    sums,
)
from jax_privacy.ghost import parts as parts_lib
from jax_privacy.ghost.recorded import Recorded


@dataclasses.dataclass(frozen=True, kw_only=True)
class GhostSum(clipped_sum.ClippedSum):
  """A sum without most examples' gradients; see `ClippedSum`.

  Attributes:
    choose: What picks a component's plan; see `costs.choose`.
    loops: See `recorded.Recorded`.
  """

  choose: Callable[..., str] = costs.choose
  loops: bool | None = None

  def __call__(self, args, is_padding_example):
    """Returns the sum and, per example, losses, norms and aux."""
    loss = example_loss.ExampleLoss.of(self, args)
    split = graph.split(loss, loss.leaves, loss.row_shapes())
    parts = self._parts(loss)
    batch_size = len(is_padding_example)
    found = routes.find(split, self.choose, batch_size=batch_size)
    losses, aux, recorded = self._record(split, loss, parts, found)
    component_plans = [
        plans.PLANS[route.plan](r)
        for route, r in zip(found, recorded, strict=True)
    ]
    found_norms = [plan.norms() for plan in component_plans]
    leaf_norms = {}
    for plan, measured in zip(component_plans, found_norms, strict=True):
      pairs = [(n, plan.unit) for n in measured.norms]
      leaf_norms.update(zip(plan.leaf_indices, pairs, strict=True))
    relative = parts.relative_norms(leaf_norms, is_padding_example.shape)
    is_counted = ~is_padding_example
    for r in relative if self.nan_safe else ():
      is_counted &= jnp.isfinite(r)
    kept = [measured.kept for measured in found_norms]
    totals = self._totals(
        loss, parts, component_plans, kept, relative, is_counted
    )
    aux = split.aux_treedef.unflatten(aux)
    return loss.unflatten(totals), losses, parts.norms(relative), aux

  def explain(self, args, num_examples):
    """Returns a row for each parameter, with its plan and why it has that."""
    loss = example_loss.ExampleLoss.of(self, args)
    split = graph.split(loss, loss.leaves, loss.row_shapes())
    found = routes.find(split, self.choose, batch_size=num_examples)
    names = [name for name, _ in self.parameters(args)]
    rows = explain.rows(split, found, names, num_examples=num_examples)
    return explanation.Explanation("ghost", num_examples, rows)

  def sum_dtype(self, leaves) -> jnp.dtype:
    """The dtype of sums, and of norms, of these parameters."""
    own = precision.at_least_float32(*(leaf.dtype for leaf in leaves))
    return own if self.dtype is None else jnp.dtype(self.dtype)

  def _parts(self, loss):
    """The parts of the gradient, by the numbers of its leaves."""
    numbers = loss.unflatten(range(len(loss.leaves)))

    def dtype_fn(part):
      return self.sum_dtype([loss.leaves[i] for i in part])

    return parts_lib.Parts.of(self.clip_norms, numbers, dtype_fn)

  def _record(self, split, loss, parts, found):
    """Runs forward and backward: losses, aux, and a record per component."""
    shared = split.run_shared(loss.leaves)
    rescaled = {
        route.component.site_indices[0]: standardised.rescaled(
            split, route.component, route.standardise, shared
        )
        for route in found
        if route.standardise is not None
    }
    zeros = split.zeros()

    def one_example(rows):
      rows = [*rows, jnp.zeros((), jnp.float32)]
      run = functools.partial(split.run_data, shared, rows, rescaled=rescaled)
      value, vjp_fn, recorded = jax.vjp(run, zeros, has_aux=True)
      return value, vjp_fn(jnp.ones_like(value))[0], recorded

    per_row = jax.vmap(one_example, spmd_axis_name=self.spmd_axis_name)
    per_row = partitioner.checked(per_row)
    losses, cotangents, (aux, data, unscaled) = per_row(loss.rows)

    def record(route):
      component = route.component
      leaves = [loss.leaves[i] for i in component.leaf_indices]
      return Recorded(
          split=split,
          component=component,
          path=route.path,
          shared=shared,
          leaves=leaves,
          data=[data[i] for i in component.site_indices],
          cotangents=[cotangents[i] for i in component.site_indices],
          unscaled=unscaled.get(component.site_indices[0]),
          dtype=self.sum_dtype(leaves),
          unit=parts.unit(component.leaf_indices),
          loops=self.loops,
      )

    return losses, aux, [record(route) for route in found]

  def _totals(self, loss, parts, component_plans, kept, relative, is_counted):
    """Returns the clipped sum of each parameter."""
    totals = [jnp.zeros(x.shape, self.sum_dtype([x])) for x in loss.leaves]
    turn = is_counted
    # From the loss backwards: what was made last is freed first.
    for plan, plan_kept in reversed([*zip(component_plans, kept, strict=True)]):
      part_of = {leaf: parts.part_of(leaf) for leaf in plan.leaf_indices}
      for part in sorted(set(part_of.values())):
        factor = per_example.clip_factor(relative[part]) / self.divide_by
        of_leaves = plan.clipped_sums(plan_kept, factor, turn)
        for leaf, total in zip(plan.leaf_indices, of_leaves, strict=True):
          if part_of[leaf] == part:
            totals[leaf] = total.astype(totals[leaf].dtype)
      if plan.takes_turns:
        turn = sums.after(totals[plan.leaf_indices[0]], is_counted)
    return totals
