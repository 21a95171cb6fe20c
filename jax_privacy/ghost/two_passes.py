"""Clipping in two passes, in the memory of an ordinary step.

The first pass gives norms and keeps nothing for them (`probes.py`); the second
is an ordinary gradient, of the sum of factor times loss. Loops and
`jax.checkpoint` are run as they are written, in both.

The invariant: an example that is not counted adds exactly zero. In the second
pass it is run on the data of one that is, with a factor of zero: zero times
what is finite is zero. Cotangents are scaled before the second pass, so the
derivative must be linear in them: what `jax.custom_vjp` says need not be.

Example:
  >>> import jax, jax.numpy as jnp
  >>> import jax_privacy
  >>> layer = jax.checkpoint(lambda h, w: (jnp.tanh(h @ w), None))
  >>> loss = lambda w, x: jnp.sum(jax.lax.scan(layer, x, w)[0])
  >>> args = jnp.ones((4, 2, 2)), jnp.ones((3, 2))
  >>> options = {"l2_clip_norm": 0.1, "keep_batch_dim": False}
  >>> one, two = [
  ...     jax_privacy.clipped_grad(loss, passes=passes, **options)(*args)
  ...     for passes in (1, 2)]
  >>> bool(jnp.allclose(one, two, rtol=1e-5))
  True
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jax_privacy import clipped_sum, jaxprs, partitioner, per_example
from jax_privacy.ghost import (
    example_loss,
    plans,
    probes,
    regions,
    routes,
    shards,
    tracing,
)
from jax_privacy.ghost import parts as parts_lib
from jax_privacy.ghost.recorded import Recorded

_PRODUCTS = ("dot_general", "conv_general_dilated")


def find(
    traced: tracing.Traced, num_leaves: int, dtypes: Sequence[Any]
) -> regions.Region | regions.Shared:
  """Returns the loss as a region, or why it must be clipped in one pass.

  Args:
    traced: The loss of one example.
    num_leaves: Number of its parameters.
    dtypes: Dtypes of the parameters' sums.
  """
  invars = traced.raw.jaxpr.invars
  is_leaf = [i < num_leaves for i in range(len(invars))]
  for var, dtype in zip(invars, dtypes, strict=False):
    if var.aval.dtype != dtype:
      return regions.Shared(
          f"a sum is {jnp.dtype(dtype).name}, of a parameter that is"
          f" {var.aval.dtype.name}"
      )
  if any(map(jaxprs.has_own_transpose, traced.raw.jaxpr.eqns)):
    return regions.Shared(
        "a derivative of its own (jax.custom_vjp) need not be linear, and the"
        " second pass scales cotangents before it"
    )
  is_row = [not leaf for leaf in is_leaf]
  return regions.find(_exact(traced.raw), is_leaf, is_row)


def _exact(closed):
  """The jaxpr with products of unsaid precision at the highest."""
  eqns = []
  for eqn in closed.jaxpr.eqns:
    if (
        eqn.primitive.name in _PRODUCTS
        and jaxprs.param(eqn, "precision") is None
    ):
      eqn = jaxprs.with_params(eqn, precision=jax.lax.Precision.HIGHEST)
    elif jaxprs.held(eqn):
      eqn = jaxprs.with_held(eqn, _exact)
    eqns.append(eqn)
  return closed.replace(jaxpr=closed.jaxpr.replace(eqns=eqns))


@dataclasses.dataclass(frozen=True)
class TwoPasses:
  """A clipped sum in two passes.

  Attributes:
    spec: Options of clipping.
    loss: The loss and its arguments.
    region: The loss as a region.
    traced: Jaxprs of the loss.
    parts: Parts of the gradient that are clipped each by itself.
    routes: Routes of the components of the region's own sites.
    layout: Layout of parameters over devices; None if they are whole.
  """

  spec: clipped_sum.ClippedSum
  loss: example_loss.ExampleLoss
  region: regions.Region
  traced: tracing.Traced
  parts: parts_lib.Parts
  routes: Sequence[routes.Route]
  layout: shards.Layout | None = None

  def run(self, is_padding_example: jax.Array):
    """Returns the sum and, per example, losses, norms and aux.

    Args:
      is_padding_example: Booleans [batch_size].
    """
    losses, aux, leaf_norms, squares = self._norms()
    relative = self.parts.relative_norms(leaf_norms, is_padding_example.shape)
    relative = [
        jnp.sqrt(jnp.square(r) + square.astype(r.dtype))
        for r, square in zip(relative, squares, strict=True)
    ]
    is_counted = ~is_padding_example
    for r in relative if self.spec.nan_safe else ():
      is_counted &= jnp.isfinite(r)
    totals = self._totals(relative, is_counted)
    aux = self.traced.aux_treedef.unflatten(aux)
    norms = self.parts.norms(relative)
    return self.loss.unflatten(totals), losses, norms, aux

  @property
  def _part_of(self):
    return [self.parts.part_of(i) for i in range(len(self.loss.leaves))]

  def _units(self):
    """Units of norms, per part."""
    return [self.parts.unit(members) for members in self.parts.members]

  def _norms(self):
    """The first pass: losses, aux, norms by leaf, and squares by part."""
    split, units = self.region.split, self._units()
    layout = self.layout
    shared = self._entered(probes.Probes([], [], [], layout))

    def one_example(rows):
      rows = [*rows, jnp.zeros((), jnp.float32)]

      def run(zeros, scalars):
        env = {**shared, **dict(zip(split.row_vars, rows, strict=True))}
        probe = probes.Probes(scalars, units, self.parts.dtypes, layout)
        probe.run(self.region, env, self._part_of, _adding(split, zeros))
        data = [[env[var] for var in site.data] for site in split.sites]
        loss, *aux = (tracing.read(env, v) for v in split.outputs)
        return loss, (aux, data)

      scalars = [jnp.zeros((), dtype) for dtype in self.parts.dtypes]
      value, vjp_fn, (aux, data) = jax.vjp(
          run, split.zeros(), scalars, has_aux=True
      )
      return value, aux, data, *vjp_fn(jnp.ones_like(value))

    per_row = jax.vmap(one_example, spmd_axis_name=self.spec.spmd_axis_name)
    losses, aux, data, cotangents, squares = partitioner.checked(per_row)(
        self.loss.rows
    )
    pairs = zip(squares, units, self.parts.clip_norms, strict=True)
    squares = [s * (unit / clip_norm) ** 2 for s, unit, clip_norm in pairs]
    return losses, aux, self._leaf_norms(shared, data, cotangents), squares

  def _leaf_norms(self, shared, data, cotangents):
    """Norms that the sites outside of loops give, by parameter."""
    split, found = self.region.split, {}
    for route in self.routes:
      own = [split.pieces[i] for i in route.component.piece_indices]
      sites = route.component.site_indices
      leaves = {piece.leaf: self.loss.leaves[piece.leaf] for piece in own}
      record = Recorded(
          split=split,
          component=route.component,
          path=route.path,
          shared=shared,
          pieces=[shared[piece.var] for piece in own],
          data=[data[i] for i in sites],
          cotangents=[cotangents[i] for i in sites],
          unscaled=None,
          dtype=self.parts.dtypes[self.parts.part_of(own[0].leaf)],
          unit=self.parts.unit(leaves),
      )
      is_closed = route.plan == "ghost" and route.standardise is None
      plan = "ghost" if is_closed else "redo"
      measured = plans.PLANS[plan](record).norms()
      for piece, norms in zip(own, measured.norms, strict=True):
        found.setdefault(piece.leaf, []).append((norms, record.unit))
    return found

  def _totals(self, relative, is_counted):
    """The second pass: the gradient of the sum of factor times loss."""
    rows = self.loss.rows
    if len(is_counted):
      first = jnp.argmax(is_counted)
      source = jnp.where(is_counted, jnp.arange(len(is_counted)), first)
      rows = [row[source] for row in rows]
    split, is_used = self.region.split, jnp.any(is_counted)

    def losses_fn(leaves):
      run = probes.Probes([], [], [], self.layout, is_used)
      shared = self._entered(run, leaves)

      def one_example(rows):
        rows = [*rows, jnp.zeros((), jnp.float32)]
        env = {**shared, **dict(zip(split.row_vars, rows, strict=True))}
        run.run(self.region, env, self._part_of, lambda eqn, env: None)
        return tracing.read(env, split.outputs[0])

      return jax.vmap(one_example, spmd_axis_name=self.spec.spmd_axis_name)(
          rows
      )

    losses, vjp_fn = jax.vjp(losses_fn, self.loss.leaves)
    totals = [jnp.zeros_like(leaf) for leaf in self.loss.leaves]
    for members, r, clip_norm in zip(
        self.parts.members, relative, self.parts.clip_norms, strict=True
    ):
      factor = per_example.row_factor(self.spec, r, clip_norm)
      factor = jnp.where(is_counted, factor, 0).astype(losses.dtype)
      (grads,) = vjp_fn(factor)
      for leaf in members:
        # Without an example that counts, there is no data to run on. What is
        # split has the other devices' sums in it, and has left this one out.
        is_split = (
            self.layout is not None and self.layout.axes[leaf] is not None
        )
        total = per_example.scaled_total(self.spec, grads[leaf], clip_norm)
        totals[leaf] = total if is_split else jnp.where(is_used, total, 0)
    return totals

  def _entered(self, run, leaves=None):
    """Values of shared variables; what only calls take stays split."""
    leaves = self.loss.leaves if leaves is None else leaves
    if self.layout is not None:
      leaves = self.layout.wrap(leaves)
    return shards.entered(self.region, leaves, run.gather)


def _adding(split, zeros):
  """A function that adds zeros to what sites give."""
  zero_of = {
      var: zero
      for site, own in zip(split.sites, zeros, strict=True)
      for var, zero in zip(site.outputs, own, strict=True)
  }

  def on_site(eqn, env):
    for var in eqn.outvars:
      if var in zero_of:
        env[var] = env[var] + zero_of[var]

  return on_site
