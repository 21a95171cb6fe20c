"""The three ways to get a component's norms and its clipped sum.

A plan is called twice: `norms` gives, per parameter and example, the norm of
the gradient, and what to keep for the sum; `clipped_sums`, given that and what
each example is scaled by, the sum. `costs.py` chooses.

The invariant: the gradients that are summed are those whose norms were taken,
up to rounding, and an example that is not counted adds nothing, whatever its
numbers are: it is left out by a selection, since 0 x NaN is NaN.

Example:
  >>> from jax_privacy.ghost import plans
  >>> sorted(plans.PLANS)
  ['ghost', 'keep', 'redo']
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_privacy import magnitude, precision
from jax_privacy.ghost import masks, norms, rules, standardised, sums
from jax_privacy.ghost.recorded import Recorded

_einsum = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


class Measured(NamedTuple):
  """What a plan makes before clip factors are known.

  Attributes:
    norms: Norms over the plan's unit, per parameter, [batch_size].
    kept: Arrays to give back to the plan for its sum.
  """

  norms: list[jax.Array]
  kept: list[jax.Array] = []


class _Plan:
  """What plans have in common. A plan is frozen once it is made.

  Attributes:
    piece_indices: Numbers of the component's pieces of parameters.
    unit: Of norms.
    takes_turns: Whether sums that come later should wait; see `sums.after`.
  """

  takes_turns = False

  def __init__(self, recorded: Recorded):
    self._recorded = recorded
    self.piece_indices = recorded.component.piece_indices
    self.unit = recorded.unit


class Keep(_Plan):
  """Makes every example's gradient and keeps it."""

  def norms(self) -> Measured:
    """Returns the norms, and what the sum needs of their making."""
    recorded = self._recorded
    gradient_fn = example_gradient_fn(recorded)

    def one(data, cotangents):
      grads = gradient_fn(data, cotangents)
      sizes = [magnitude.relative_norm([g], recorded.unit) for g in grads]
      if not recorded.is_heavy:
        return sizes, grads
      # While they are in cache: what is not finite would be summed below.
      pairs = zip(grads, sizes, strict=True)
      return sizes, [jnp.where(jnp.isfinite(n), g, 0) for g, n in pairs]

    sizes, grads = recorded.map_examples(
        one, recorded.data, recorded.cotangents
    )
    return Measured(sizes, grads)

  def clipped_sums(
      self, kept: list[jax.Array], factor: jax.Array, is_counted: jax.Array
  ) -> list[jax.Array]:
    """Returns the sum of gradients times `factor`, per parameter.

    Args:
      kept: Arrays that `norms` gave to keep: here, every example's gradient.
      factor: Factors, [batch_size].
      is_counted: Booleans [batch_size]; the others count zero.
    """
    dtype = self._recorded.dtype
    grads = [g.astype(dtype) for g in kept]
    factor = factor.astype(dtype)
    if self._recorded.is_heavy:
      # In this order: in the other, XLA transposes the gradients first.
      scale = jnp.where(is_counted, factor, 0)
      return [_einsum("b,b...->...", scale, grad) for grad in grads]
    return [jnp.sum(sums.scaled(g, factor, is_counted), axis=0) for g in grads]


class Redo(_Plan):
  """Makes every example's gradient for its norm, and not again if it can."""

  def norms(self) -> Measured:
    """Returns the norms, and what the sum needs of their making."""
    recorded = self._recorded
    gradient_fn = example_gradient_fn(recorded)

    def one(data, cotangents):
      grads = gradient_fn(data, cotangents)
      sizes = [magnitude.relative_norm([g], recorded.unit) for g in grads]
      if not recorded.has_path:
        return sizes
      # The sum will not be of these gradients, but of the batched ones.
      slack = rounding(recorded, data, cotangents)
      forms = [rules.find(site) for site in recorded.sites]
      margin = max(
          norms.margin(form, recorded.dtype, has_gram=False) for form in forms
      )
      return [(n + slack.astype(n.dtype)) * margin for n in sizes]

    sizes = recorded.map_examples(one, recorded.data, recorded.cotangents)
    return Measured(sizes)

  def clipped_sums(
      self, kept: list[jax.Array], factor: jax.Array, is_counted: jax.Array
  ) -> list[jax.Array]:
    """See `Keep.clipped_sums`; nothing is kept."""
    del kept
    if self._recorded.has_path:
      return batched_sums(self._recorded, factor, is_counted)
    return self._accumulated(factor, is_counted)

  def _accumulated(self, factor, is_counted):
    """Makes the gradients again: rounded as they were for their norms."""
    recorded = self._recorded
    gradient_fn = example_gradient_fn(recorded)

    def add(so_far, row):
      data, cotangents, scale, is_counted = row
      grads = gradient_fn(data, cotangents)
      terms = [g.astype(recorded.dtype) * scale for g in grads]
      terms = [jnp.where(is_counted, term, 0) for term in terms]
      return [s + t for s, t in zip(so_far, terms, strict=True)], None

    zeros = [jnp.zeros(leaf.shape, recorded.dtype) for leaf in recorded.pieces]
    factor = factor.astype(recorded.dtype)
    rows = (recorded.data, recorded.cotangents, factor, is_counted)
    return jax.lax.scan(add, zeros, rows)[0]


class Ghost(_Plan):
  """Takes norms from Gram matrices; makes no example's gradient."""

  @property
  # pyrefly: ignore[bad-override]
  def takes_turns(self) -> bool:
    """Whether there is one position: there is little to overlap then."""
    return not self._recorded.is_heavy

  def norms(self) -> Measured:
    """Returns the norms, and what the sum needs of their making."""
    recorded, (site,) = self._recorded, self._recorded.sites
    ((x,),), ((z,),) = recorded.data, recorded.cotangents
    if recorded.path.standardise is not None:
      return Measured(self._standardised(site, x, z))
    if recorded.path.mask:
      return Measured([jax.vmap(self._masked_fn(site))(x, z)])
    one = functools.partial(norms.norm, rules.find(site), unit=recorded.unit)
    return Measured([jax.vmap(one)(x, z)])

  def _masked_fn(self, site):
    """Function from one example to the norm of its masked gradient."""
    recorded, form = self._recorded, rules.find(site)
    factor = recorded.scale()

    def norm(x, z):
      (x, z), exponent = norms.in_units(recorded.unit, x, form.cotangents(z))
      square = masks.squared_norm(form, x, z, factor.astype(z.dtype))
      return norms.root(form, square, exponent)

    if recorded.path.mask == "number":
      size = jnp.abs(factor.ravel()[0])
      return lambda x, z: size * norms.norm(form, x, z, recorded.unit)
    return norm

  def _standardised(self, site, x, z):
    recorded = self._recorded
    w, a, epsilon = recorded.standardise_operands()
    norms_fn = standardised.norms_fn(
        rules.find(site), w, a, epsilon, recorded.unit
    )
    sizes = jax.vmap(norms_fn)(x, z, recorded.unscaled)
    return [sizes[role] for role in recorded.path.roles]

  def clipped_sums(
      self, kept: list[jax.Array], factor: jax.Array, is_counted: jax.Array
  ) -> list[jax.Array]:
    """See `Keep.clipped_sums`; nothing is kept."""
    del kept
    return batched_sums(self._recorded, factor, is_counted)


PLANS = {"ghost": Ghost, "keep": Keep, "redo": Redo}


def example_gradient_fn(recorded: Recorded) -> Callable[[Any, Any], list[Any]]:
  """Returns the map from one example's (data, cotangents) to its gradient.

  The gradient is of the component's parameters, in their dtypes or those of the
  computation, but not longer than the sum's: what is infinite there must have
  an infinite norm. Data and cotangents are given per site.

  Args:
    recorded: The component's record.
  """
  bits = jnp.finfo(recorded.dtype).bits
  vjp_to_params = recorded.vjp_to_params()

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
        for g in vjp_to_params(totals)
    ]

  return gradient


def batched_sums(
    recorded: Recorded, factor: jax.Array, is_counted: jax.Array
) -> list[jax.Array]:
  """Returns the sum of gradients times `factor`, per parameter.

  By each site's ordinary batched weight gradient, of scaled cotangents.

  Args:
    recorded: The component's record.
    factor: Factors, [batch_size].
    is_counted: Booleans [batch_size]; the others count zero.
  """
  totals = {}
  for site, (x,), (z,) in zip(
      recorded.sites, recorded.data, recorded.cotangents, strict=True
  ):
    total = _weight_sum(recorded, site, x, z, factor, is_counted)
    (var,) = site.weights
    totals[var] = totals[var] + total if var in totals else total
  return [g.astype(recorded.dtype) for g in recorded.vjp_to_params()(totals)]


def _weight_sum(recorded, site, x, z, factor, is_counted):
  """One site's part of `batched_sums`."""
  form = rules.find(site)
  # No operand is cut: a product may be finite where its factors are not.
  is_inexact = jnp.issubdtype(x.dtype, jnp.inexact)
  dtypes = [z.dtype, x.dtype] if is_inexact else [z.dtype]
  dtype = precision.at_least_float32(recorded.dtype, *dtypes)
  z = sums.scaled(z.astype(dtype), factor.astype(dtype), is_counted)
  if is_inexact:
    x = sums.scaled(x.astype(dtype), jnp.ones_like(factor, dtype), is_counted)
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


def rounding(recorded: Recorded, data: Any, cotangents: Any) -> jax.Array:
  """Returns a bound of what rounding moves one example's gradient by.

  Args:
    recorded: The component's record, with a path.
    data: One example's operands, per site.
    cotangents: One example's cotangents, per site.

  Returns:
    A norm over the record's unit; see `norms.rounding`.
  """
  scale: Any = 1.0
  if recorded.path.mask:
    scale = jnp.max(jnp.abs(recorded.scale()))
  if recorded.path.standardise is not None:
    scale = standardised.amplitude(*recorded.standardise_operands())
  slack: Any = 0.0
  for site, (x,), (z,) in zip(recorded.sites, data, cotangents, strict=True):
    form = rules.find(site)
    if recorded.path.standardise is not None:
      scale = scale.reshape(form.num_groups, 1, form.num_outputs)
    (x, z), exponent = norms.in_units(recorded.unit, x, form.cotangents(z))
    slack += norms.times_power(norms.rounding(form, x, z, scale), exponent)
  return slack
