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
    _validate,
    clipped_sum,
    explanation,
    partitioner,
    per_example,
    precision,
    sharding,
)
from jax_privacy.ghost import (
    costs,
    example_loss,
    explain,
    graph,
    pieces,
    plans,
    regions,
    routes,
    shards,
    standardised,
    sums,
    tracing,
    two_passes,
)
from jax_privacy.ghost import parts as parts_lib
from jax_privacy.ghost.recorded import Recorded


@dataclasses.dataclass(frozen=True, kw_only=True)
class GhostSum(clipped_sum.ClippedSum):
  """A sum without most examples' gradients; see `ClippedSum`.

  Attributes:
    choose: Function that picks a component's plan; see `costs.choose`.
    loops: Whether gradients are made one by one; see `recorded.Recorded`.
    passes: Number of passes; see `clipped_grad`.
    layout: Layout of parameters over devices; None if they are whole.
  """

  choose: Callable[..., str] = costs.choose
  loops: bool | None = None
  passes: int | None = None
  layout: shards.Layout | None = None

  def __call__(self, args, is_padding_example):
    """Returns the sum and, per example, losses, norms and aux."""
    loss = example_loss.ExampleLoss.of(self, args)
    leaves = (
        self.layout.whole_shapes(loss.leaves) if self.layout else loss.leaves
    )
    split = graph.split(loss, leaves, loss.row_shapes())
    parts = self._parts(loss)
    batch_size = len(is_padding_example)
    region = self._region(loss, split.traced)
    if isinstance(region, regions.Region):
      own = routes.find(region.split, self.choose, batch_size=batch_size)
      two = two_passes.TwoPasses(
          self, loss, region, split.traced, parts, own, self.layout
      )
      return two.run(is_padding_example)
    found = routes.find(split, self.choose, batch_size=batch_size)
    losses, aux, recorded = self._record(split, loss, parts, found)
    component_plans = [
        plans.PLANS[route.plan](r)
        for route, r in zip(found, recorded, strict=True)
    ]
    found_norms = [plan.norms() for plan in component_plans]
    leaf_norms = {}
    for plan, measured in zip(component_plans, found_norms, strict=True):
      for piece, norms in zip(plan.piece_indices, measured.norms, strict=True):
        of_leaf = leaf_norms.setdefault(split.pieces[piece].leaf, [])
        of_leaf.append((norms, plan.unit))
    relative = parts.relative_norms(leaf_norms, is_padding_example.shape)
    is_counted = ~is_padding_example
    for r in relative if self.nan_safe else ():
      is_counted &= jnp.isfinite(r)
    kept = [measured.kept for measured in found_norms]
    totals = self._totals(
        loss,
        split,
        parts,
        [*zip(component_plans, kept, strict=True)],
        relative,
        is_counted,
    )
    aux = split.traced.aux_treedef.unflatten(aux)
    return loss.unflatten(totals), losses, parts.norms(relative), aux

  def explain(self, args, num_examples):
    """See `ClippedSum`: each parameter has its plan, and why it has that."""
    loss = example_loss.ExampleLoss.of(self, args)
    split = graph.split(loss, loss.leaves, loss.row_shapes())
    names = [name for name, _ in self.parameters(args)]
    region, note = self._region(loss, split.traced), ""
    if isinstance(region, regions.Shared):
      note = f"jax.checkpoint saves no memory: {region.reason}"
    if isinstance(region, regions.Region):
      split, note = region.split, "in two passes"
    found = routes.find(split, self.choose, batch_size=num_examples)
    rows = explain.rows(split, found, names, num_examples=num_examples)
    if isinstance(region, regions.Region):
      rows = explain.with_calls(rows, region)
    return explanation.Explanation("ghost", num_examples, rows, note)

  def split_over(self, mesh, args):
    """See `ClippedSum`: in two passes, parameters are gathered where used."""
    loss = example_loss.ExampleLoss.of(self, args)
    traced = tracing.trace(loss, loss.leaves, loss.row_shapes())
    if not isinstance(self._region(loss, traced), regions.Region):
      return None
    axes = tuple(sharding.split_axis(mesh, leaf.shape) for leaf in loss.leaves)
    layout = shards.Layout(sharding.FSDP, mesh.shape[sharding.FSDP], axes)
    return dataclasses.replace(self, layout=layout)

  def _region(self, loss, traced) -> regions.Region | regions.Shared | None:
    """The loss as it is clipped in two passes, or why not; None for one."""
    num_leaves = len(loss.leaves)
    raw = traced.raw
    is_leaf = [i < num_leaves for i in range(len(raw.jaxpr.invars))]
    if self.passes == 1 or (
        self.passes is None and not regions.has_checkpoint(raw, is_leaf)
    ):
      return None
    dtypes = [self.sum_dtype([leaf]) for leaf in loss.leaves]
    region = two_passes.find(traced, num_leaves, dtypes)
    if self.passes == 2 and isinstance(region, regions.Shared):
      rule = f"1 or None for this loss ({region.reason})"
      _validate.fail("passes", rule, self.passes)
    return region

  def sum_dtype(self, leaves) -> jnp.dtype:
    """Returns the dtype of sums, and of norms, of some parameters.

    Args:
      leaves: Arrays of parameters.
    """
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
      own = [split.pieces[i] for i in component.piece_indices]
      leaves = {piece.leaf: loss.leaves[piece.leaf] for piece in own}
      return Recorded(
          split=split,
          component=component,
          path=route.path,
          shared=shared,
          pieces=[shared[piece.var] for piece in own],
          data=[data[i] for i in component.site_indices],
          cotangents=[cotangents[i] for i in component.site_indices],
          unscaled=unscaled.get(component.site_indices[0]),
          dtype=self.sum_dtype(leaves.values()),
          unit=parts.unit(leaves),
          loops=self.loops,
      )

    return losses, aux, [record(route) for route in found]

  def _totals(self, loss, split, parts, planned, relative, is_counted):
    """Returns the clipped sum of each parameter."""
    totals = [jnp.zeros(x.shape, self.sum_dtype([x])) for x in loss.leaves]
    of_pieces, turn = {}, is_counted
    # From the loss backwards: what was made last is freed first.
    for plan, kept in reversed(planned):
      own = [split.pieces[i] for i in plan.piece_indices]
      part_of = [parts.part_of(piece.leaf) for piece in own]
      for part in sorted(set(part_of)):
        clip_norm = parts.clip_norms[part]
        factor = per_example.row_factor(self, relative[part], clip_norm)
        made = plan.clipped_sums(kept, factor, turn)
        for piece, its_part, total in zip(own, part_of, made, strict=True):
          if its_part == part:
            total = total.astype(totals[piece.leaf].dtype)
            of_pieces[piece.var] = per_example.scaled_total(
                self, total, clip_norm
            )
      if plan.takes_turns:
        turn = sums.after(of_pieces[own[0].var], is_counted)
    for leaf, cut in enumerate(split.cuts):
      if next(pieces.in_order(cut)).var in of_pieces:
        totals[leaf] = pieces.join(cut, of_pieces)
    return totals
