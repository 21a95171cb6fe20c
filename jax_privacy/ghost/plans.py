"""The three ways to get a component's norms and its clipped sum.

A plan is called twice: `norms` gives, per parameter and example, the norm of
the gradient; `clipped_sums`, given what each example is scaled
by, the sum. Between the two it remembers what it made. `costs.py` chooses.

The invariant: the gradients that are summed are those whose norms were taken,
up to rounding, and an example that is not kept adds nothing, whatever its
numbers are: it is left out by a selection, since 0 x NaN is NaN.

Example:
  >>> from jax_privacy.ghost import plans
  >>> sorted(plans.PLANS)
  ['ghost', 'keep', 'redo']
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jax_privacy import magnitude, partitioner, precision
from jax_privacy.ghost import (
    graph,
    norms,
    paths,
    rules,
    sums,
    tracing,
    transforms,
)

_einsum = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recorded:
  """What one forward and backward pass leaves of a component.

  Attributes:
    split: The loss.
    component: The component.
    path: How its parameters become weights, if norms survive it.
    shared: Values of all shared variables.
    leaves: Values of the component's parameters.
    data: Per site, the operands that depend on the example, batched.
    cotangents: Per site, those of its outputs, batched.
    unscaled: The one site's output over `factor`, batched, if it was run as
      `paths.rescaled`; else None.
    dtype: Of sums.
    unit: Of norms; see `magnitude.unit_near`.
    loops: Whether gradients are made one after the other: True, False, or None
      for what suits the platform that runs.
  """

  split: graph.Split
  component: graph.Component
  path: paths.Path | None
  shared: tracing.Env
  leaves: list[Any]
  data: list[Any]
  cotangents: list[Any]
  unscaled: Any
  dtype: Any
  unit: float = 1.0
  loops: bool | None = None

  @property
  def sites(self) -> list[graph.Site]:
    """The component's sites."""
    return [self.split.sites[i] for i in self.component.sites]

  def weights(self, site: graph.Site) -> list[Any]:
    """Returns the values of a site's weights."""
    return [self.shared[var] for var in site.weights]

  @functools.cached_property
  def is_heavy(self) -> bool:
    """Whether making a gradient is a product of matrices."""
    forms = [rules.find(site) for site in self.sites]
    return any(form and form.positions > 1 for form in forms)

  def standardise_operands(self) -> list[Any]:
    """Returns the kernel, gain and epsilon of weight standardisation."""
    atoms = self.path.standardise.invars
    return [tracing.read(self.shared, atom) for atom in atoms]

  def pull(self) -> Callable[[dict[Any, jax.Array]], list[Any]]:
    """Returns the map from weights' cotangents to parameters' gradients."""
    weights = self.component.weights
    if self.path is not None and self.path.standardise is None:
      pull = functools.partial(
          paths.pull_isometric, self.split, self.component, self.shared
      )
      return lambda grads: [pull([grads[var] for var in weights])]
    transform = self.split.transform(self.component, self.shared)
    _, pull = jax.vjp(transform, *self.leaves)
    return lambda grads: list(
        pull([grads[var].astype(var.aval.dtype) for var in weights])
    )

  def map_examples(self, fun: Callable[..., Any], *args: Any) -> Any:
    """Maps `fun` over the leading axis of `args`.

    On a CPU one example after the other, if there is much to multiply: its
    gradient then stays in cache while it is squared. Elsewhere all at once, in
    batched matrix products.
    """
    at_once = partitioner.checked(jax.vmap(fun))
    loop = functools.partial(_one_by_one, fun)
    if not self.is_heavy and not self.loops:
      return at_once(*args)
    return _on_platform(self.loops, loop, at_once, args)


class _Plan:
  """What plans have in common.

  Attributes:
    leaves: Positions of the component's parameters.
    unit: Of norms.
    takes_turns: Whether sums that come later should wait; see `sums.after`.
  """

  takes_turns = False

  def __init__(self, recorded: Recorded):
    self._recorded = recorded
    self.leaves = recorded.component.leaves
    self.unit = recorded.unit


class Keep(_Plan):
  """Makes every example's gradient and keeps it."""

  def norms(self) -> list[jax.Array]:
    """Returns, per parameter, [batch_size] norms over the unit."""
    recorded = self._recorded
    gradient_fn = example_gradient(recorded)

    def one(data, cotangents):
      grads = gradient_fn(data, cotangents)
      sizes = [magnitude.relative_norm([g], recorded.unit) for g in grads]
      if not recorded.is_heavy:
        return sizes, grads
      # While they are in cache: what is not finite would be summed below.
      pairs = zip(grads, sizes, strict=True)
      return sizes, [jnp.where(jnp.isfinite(n), g, 0) for g, n in pairs]

    sizes, self._grads = recorded.map_examples(
        one, recorded.data, recorded.cotangents
    )
    return sizes

  def clipped_sums(self, factor: jax.Array, keep: jax.Array) -> list[jax.Array]:
    """Returns, per parameter, the sum of gradients times `factor`.

    Args:
      factor: [batch_size].
      keep: Bool [batch_size]; the others count zero.
    """
    dtype = self._recorded.dtype
    grads = [g.astype(dtype) for g in self._grads]
    factor = factor.astype(dtype)
    if self._recorded.is_heavy:
      # In this order: in the other, XLA transposes the gradients first.
      scale = jnp.where(keep, factor, 0)
      return [_einsum("b,b...->...", scale, grad) for grad in grads]
    return [jnp.sum(sums.scaled(g, factor, keep), axis=0) for g in grads]


class Redo(_Plan):
  """Makes every example's gradient for its norm, and not again if it can."""

  def norms(self) -> list[jax.Array]:
    """Returns, per parameter, [batch_size] norms over the unit."""
    recorded = self._recorded
    gradient_fn = example_gradient(recorded)

    def one(data, cotangents):
      grads = gradient_fn(data, cotangents)
      sizes = [magnitude.relative_norm([g], recorded.unit) for g in grads]
      if recorded.path is None:
        return sizes
      # The sum will not be of these gradients, but of the batched ones.
      slack = _rounding(recorded, data, cotangents)
      forms = [rules.find(site) for site in recorded.sites]
      margin = max(
          norms.margin(form, recorded.dtype, has_gram=False) for form in forms
      )
      return [(n + slack.astype(n.dtype)) * margin for n in sizes]

    return recorded.map_examples(one, recorded.data, recorded.cotangents)

  def clipped_sums(self, factor: jax.Array, keep: jax.Array) -> list[jax.Array]:
    """As `Keep.clipped_sums`."""
    if self._recorded.path is not None:
      return batched_sums(self._recorded, factor, keep)
    return self._accumulated(factor, keep)

  def _accumulated(self, factor, keep):
    """Makes the gradients again: rounded as they were for their norms."""
    recorded = self._recorded
    gradient_fn = example_gradient(recorded)

    def add(so_far, row):
      data, cotangents, scale, is_kept = row
      grads = gradient_fn(data, cotangents)
      terms = [g.astype(recorded.dtype) * scale for g in grads]
      terms = [jnp.where(is_kept, term, 0) for term in terms]
      return [s + t for s, t in zip(so_far, terms, strict=True)], None

    zeros = [jnp.zeros(leaf.shape, recorded.dtype) for leaf in recorded.leaves]
    factor = factor.astype(recorded.dtype)
    rows = (recorded.data, recorded.cotangents, factor, keep)
    return jax.lax.scan(add, zeros, rows)[0]


class Ghost(_Plan):
  """Takes norms from Gram matrices; makes no example's gradient."""

  @property
  def takes_turns(self) -> bool:
    """Whether there is one position: there is little to overlap then."""
    return not self._recorded.is_heavy

  def norms(self) -> list[jax.Array]:
    """Returns, per parameter, [batch_size] norms over the unit."""
    recorded, (site,) = self._recorded, self._recorded.sites
    ((x,),), ((z,),) = recorded.data, recorded.cotangents
    if recorded.path.standardise is not None:
      return self._standardised(site, x, z)
    one = functools.partial(norms.norm, rules.find(site), unit=recorded.unit)
    return [jax.vmap(one)(x, z)]

  def _standardised(self, site, x, z):
    recorded, form = self._recorded, rules.find(site)
    kernel, gain, epsilon = recorded.standardise_operands()
    divisor = transforms.divisor(gain)
    scale = transforms.amplitude(kernel, gain, epsilon)
    fan_in = math.prod(kernel.shape[:-1])

    def one(x, z, unscaled):
      z = form.cotangents(z)
      (cotangents,), exponent = norms.in_units(recorded.unit, z)
      dtype, of_x = cotangents.dtype, norms.gram(form, x)
      centred = norms.contracted(
          form,
          of_x,
          cotangents * scale.astype(dtype).reshape(form.groups, 1, -1),
          units=transforms.UNITS,
          left_out=form.input_sums(x) / math.sqrt(fan_in),
      )
      # Over the divisor the output is what it would be with all gains 1.
      along = jnp.sum(cotangents * form.cotangents(unscaled), axis=1).ravel()
      of_z = jnp.sum(jnp.square(cotangents), axis=-1)
      squares = transforms.standardised(
          centred,
          along / divisor.astype(dtype),
          jnp.vdot(norms.diagonal(of_x), of_z),
          kernel,
          gain,
          epsilon,
      )
      return [norms.root(form, square, exponent) for square in squares]

    sizes = jax.vmap(one)(x, z, recorded.unscaled)
    return [sizes[role] for role in recorded.path.roles]

  def clipped_sums(self, factor: jax.Array, keep: jax.Array) -> list[jax.Array]:
    """As `Keep.clipped_sums`."""
    return batched_sums(self._recorded, factor, keep)


PLANS = {"ghost": Ghost, "keep": Keep, "redo": Redo}


def example_gradient(recorded: Recorded) -> Callable[[Any, Any], list[Any]]:
  """Returns the map from one example's (data, cotangents) to its gradient.

  The gradient is of the component's parameters, in their dtypes or those of the
  computation, but not longer than the sum's: what is infinite there must have
  an infinite norm. Data and cotangents are given per site.
  """
  bits = jnp.finfo(recorded.dtype).bits
  pull = recorded.pull()

  def gradient(data, cotangents):
    totals = {}
    for site, xs, zs in zip(recorded.sites, data, cotangents, strict=True):
      form = rules.find(site)
      if form is not None:
        grads = [form.gradient(xs[0], zs[0])]
      else:
        weights = recorded.weights(site)
        grads = rules.generic_gradient(site, recorded.shared, weights, xs, zs)
      for var, grad in zip(site.weights, grads, strict=True):
        totals[var] = totals[var] + grad if var in totals else grad
    return [
        g.astype(recorded.dtype) if jnp.finfo(g.dtype).bits > bits else g
        for g in pull(totals)
    ]

  return gradient


def batched_sums(
    recorded: Recorded, factor: jax.Array, keep: jax.Array
) -> list[jax.Array]:
  """Returns, per parameter, the sum of gradients times `factor`.

  By each site's ordinary batched weight gradient, of scaled cotangents.
  """
  totals = {}
  for site, (x,), (z,) in zip(
      recorded.sites, recorded.data, recorded.cotangents, strict=True
  ):
    total = _weight_sum(recorded, site, x, z, factor, keep)
    (var,) = site.weights
    totals[var] = totals[var] + total if var in totals else total
  return [g.astype(recorded.dtype) for g in recorded.pull()(totals)]


def _weight_sum(recorded, site, x, z, factor, keep):
  """One site's part of `batched_sums`."""
  form = rules.find(site)
  # No operand is cut: a product may be finite where its factors are not.
  is_inexact = jnp.issubdtype(x.dtype, jnp.inexact)
  dtypes = [z.dtype, x.dtype] if is_inexact else [z.dtype]
  dtype = precision.at_least_float32(recorded.dtype, *dtypes)
  z = sums.scaled(z.astype(dtype), factor.astype(dtype), keep)
  if is_inexact:
    x = sums.scaled(x.astype(dtype), jnp.ones_like(factor, dtype), keep)
  if form.rows is not None:
    rows, cotangents = jax.vmap(form.rows)(x), jax.vmap(form.cotangents)(z)
    return form.restore(sums.outer(rows, cotangents))
  if form.merge is not None:
    z = jax.vmap(form.merge)(x, z)
  site = rules.in_dtype(site, dtype)
  (weight,) = recorded.weights(site)

  def batch(weight):
    apply = functools.partial(site.apply, recorded.shared, [weight])
    return jax.vmap(lambda x: apply([x])[0])(x)

  return jax.vjp(batch, weight.astype(dtype))[1](z)[0]


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


def _rounding(recorded, data, cotangents):
  """Bound of what rounding moves one example's gradient by; see `norms`."""
  scale = 1.0
  if recorded.path.standardise is not None:
    scale = transforms.amplitude(*recorded.standardise_operands())
  slack = 0.0
  for site, (x,), (z,) in zip(recorded.sites, data, cotangents, strict=True):
    form = rules.find(site)
    if recorded.path.standardise is not None:
      scale = scale.reshape(form.groups, 1, form.outputs)
    (x, z), exponent = norms.in_units(recorded.unit, x, form.cotangents(z))
    slack += norms.times_power(norms.rounding(form, x, z, scale), exponent)
  return slack
