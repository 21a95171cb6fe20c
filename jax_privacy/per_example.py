"""The plain clipping method: vmap of value_and_grad, clip, sum.

It builds every example's whole gradient, so it needs batch x parameters of
memory. It is the oracle that any faster method must agree with.

The invariant: what one example adds to the sum depends on that example alone
and has L2 norm at most the clip norm.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy import per_example
  >>> (clipped,), (norm,) = per_example.clip_parts(
  ...     [{"a": jnp.array([3.0, 4.0])}], [1.0])
  >>> print(norm, clipped["a"].round(3))
  5.0 [0.6 0.8]
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp

from jax_privacy import (
    _validate,
    clipped_sum,
    clipping_functions,
    explanation,
    grid,
    magnitude,
    partitioner,
    precision,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class VmapSum(clipped_sum.ClippedSum):
  """A sum by `jax.vmap` of each example's gradient; see `ClippedSum`.

  Attributes:
    pre_clipping_transform: Applied to a gradient before clipping, or None.
    grid_scale: Steps in the clip norm of a sum in int32 steps, which
      `divide_by` must fit; None for a sum of floats. See `grid.py`.
  """

  pre_clipping_transform: Callable[[Any], Any] | None
  grid_scale: int | None = None

  def __call__(self, args, is_padding_example):
    """Returns the sum and, per example, losses, norms and aux."""
    mapped = (*self.batched, self.prng_argnum)
    axes = [0 if i in mapped else None for i in range(len(args))]
    per_example = jax.vmap(
        self._one_example,
        in_axes=(axes, 0),
        spmd_axis_name=self.spmd_axis_name,
    )
    per_example = partitioner.checked(per_example)
    clipped, *rest = per_example(list(args), is_padding_example)
    # In its own dtype, which `sum` would lengthen where it is int32.
    total = jax.tree.map(lambda g: jnp.sum(g, axis=0, dtype=g.dtype), clipped)
    return total, *rest

  def explain(self, args, num_examples):
    """Returns a row for each parameter: every example's gradient is made.

    Args:
      args: Arguments of a call.
      num_examples: Number of examples that are clipped at a time.
    """
    rows = [
        explanation.Row(
            parameter=name,
            shape=leaf.shape,
            rule="vjp of the loss",
            plan="vmap",
            flops=None,
            num_bytes=float(
                leaf.size * precision.at_least_float32(leaf.dtype).itemsize
            ),
            reason=self._needs_each(),
        )
        for name, leaf in self.parameters(args)
    ]
    return explanation.Explanation("vmap", num_examples, tuple(rows))

  def _needs_each(self):
    """Why every example's gradient is made."""
    if self.pre_clipping_transform is not None:
      return "a pre_clipping_transform needs every example's gradient"
    if self.grid_scale is not None:
      return "a grid_scale needs every example's gradient"
    return 'method="vmap" makes every example\'s gradient'

  def with_batch_dim(self, args: Sequence[Any]) -> list[Any]:
    """Returns one example's arguments with the leading axis that `fun` gets.

    Args:
      args: Arguments, of one row.
    """
    args = list(args)
    if self.keep_batch_dim:
      for i in self.batched:
        args[i] = jax.tree.map(lambda x: jnp.expand_dims(x, 0), args[i])
    return args

  def _one_example(self, args, is_padding_example):
    args = self.with_batch_dim(args)
    value_and_grad_fn = jax.value_and_grad(self.fun, self.argnums, has_aux=True)
    (loss, aux), grads = value_and_grad_fn(*args)
    if self.keep_batch_dim:
      aux = jax.tree.map(clipped_sum.drop_unit_batch_axis, aux)
    clipped, norms = self._clip(grads, is_padding_example)
    return clipped, loss, norms, aux

  def _clip(self, grads, is_padding_example):
    if self.dtype is not None:
      grads = jax.tree.map(lambda g: g.astype(self.dtype), grads)
    transform = self.pre_clipping_transform
    to_clip = grads if transform is None else transform(grads)
    clip_norms, treedef = jax.tree.flatten(self.clip_norms)
    parts = clipped_sum.split_at_prefix(treedef, to_clip)
    if self.grid_scale is not None:
      sizes = [sum(x.size for x in jax.tree.leaves(part)) for part in parts]
      clip_norms = grid.tighten(clip_norms, sizes, grid_scale=self.grid_scale)
    clipped, norms = clip_parts(
        parts,
        clip_norms,
        divide_by=self.divide_by,
        nan_safe=self.nan_safe,
        return_zero=is_padding_example,
        clipping=self.clipping,
    )
    if self.grid_scale is not None:
      clipped = jax.tree.map(grid.to_steps, clipped)
    if transform is not None:  # Report the gradient's own norm: one number.
      return treedef.unflatten(clipped), magnitude.relative_norm(
          jax.tree.leaves(grads)
      )
    return treedef.unflatten(clipped), treedef.unflatten(norms)


def clip_parts(
    parts: Sequence[chex.ArrayTree],
    clip_norms: Sequence[chex.Numeric],
    *,
    divide_by: chex.Numeric = 1.0,
    nan_safe: bool = True,
    return_zero: bool | jax.Array = False,
    clipping: clipping_functions.ClippingFunction | None = None,
) -> tuple[list[chex.ArrayTree], list[jax.Array]]:
  """Scales each part of one example's gradient down to its own clip norm.

  Args:
    parts: Pytrees of real floating-point arrays.
    clip_norms: One number per part.
    divide_by: The clipped parts are divided by this.
    nan_safe: Return zeros for ALL parts if any norm is not finite.
    return_zero: Return zeros for all parts; may be traced.
    clipping: Weight of a part, by its norm; None for standard clipping.

  Returns:
    The clipped parts, each leaf float32 at least, and their norms before
    clipping.

  Guarantee: Part i of the result has L2 norm at most clip_norms[i] /
    divide_by. A traced clip norm out of its range, [1e-30, 1e30], gives zeros.
  """
  relative = [
      magnitude.relative_norm(jax.tree.leaves(p), c)
      for p, c in zip(parts, clip_norms, strict=True)
  ]
  valid = [
      (c >= _validate.MIN_CLIP_NORM) & (c <= _validate.MAX_CLIP_NORM)
      for c in clip_norms
  ]
  if nan_safe:
    valid += [jnp.isfinite(r) for r in relative]
  is_counted = functools.reduce(
      jnp.logical_and, valid, ~jnp.asarray(return_zero)
  )

  def scale(leaf, factor):
    leaf = leaf.astype(precision.at_least_float32(leaf.dtype))
    # Not a product with 0: 0 x NaN is NaN.
    return jnp.where(is_counted, leaf * factor.astype(leaf.dtype), 0)

  clipped, norms = [], []
  for part, r, c in zip(parts, relative, clip_norms, strict=True):
    if clipping is None:
      factor = clip_factor(r)
    else:
      largest = jnp.asarray(clipping.largest(jnp.asarray(c, r.dtype)), r.dtype)
      factor = clipping_functions.row_factor(clipping, r, c) * largest
    factor = factor / jnp.asarray(divide_by, r.dtype)
    clipped.append(jax.tree.map(functools.partial(scale, factor=factor), part))
    norms.append(r * jnp.asarray(c, r.dtype))
  return clipped, norms


def clip_to_limit(
    pytree: chex.ArrayTree,
    *,
    normalise: bool,
    is_kept: bool,
    nan_safe: bool,
    return_zero: bool | jax.Array,
) -> tuple[chex.ArrayTree, jax.Array]:
  """Returns a pytree as clipped to 0 or infinity, and its norm.

  Args:
    pytree: Real floating-point arrays.
    normalise: Whether to divide by the norm; a norm of 0 stays 0.
    is_kept: Whether to change nothing. Else, zeros are returned.
    nan_safe: Whether to return zeros if the norm is not finite.
    return_zero: Whether to return zeros whatever the input; may be traced.
  """
  pytree = jax.tree.map(jnp.asarray, pytree)
  norm = magnitude.relative_norm(jax.tree.leaves(pytree))
  is_counted = ~jnp.asarray(return_zero) & (normalise or is_kept)
  if nan_safe:
    is_counted &= jnp.isfinite(norm)
  # To a norm in [1, 2), exactly, whose inverse is no extreme number.
  mantissa, exponent = jnp.frexp(norm)
  factor = clip_factor(2 * mantissa)

  def scale(leaf):
    leaf = leaf.astype(precision.at_least_float32(leaf.dtype))
    if normalise:
      leaf = jnp.ldexp(leaf, 1 - exponent) * factor.astype(leaf.dtype)
    return jnp.where(is_counted, leaf, 0)

  return in_dtypes_of(pytree, jax.tree.map(scale, pytree)), norm


def in_dtypes_of(
    pytree: chex.ArrayTree, longer: chex.ArrayTree
) -> chex.ArrayTree:
  """Returns leaves in the dtypes of `pytree`, rounded towards zero.

  Args:
    pytree: Arrays of the dtypes to return.
    longer: Arrays of the same structure, float32 at least.
  """
  return jax.tree.map(
      lambda like, leaf: precision.towards_zero(leaf, jnp.result_type(like)),
      pytree,
      longer,
  )


def row_factor(
    spec: clipped_sum.ClippedSum, relative: jax.Array, clip_norm: Any
) -> jax.Array:
  """Returns what rows are multiplied by, before they are summed.

  Args:
    spec: Options of clipping.
    relative: Norms over clip norms, any shape.
    clip_norm: Clip norm of these parameters.
  """
  if spec.clipping is None:
    return clip_factor(relative) / spec.divide_by
  factor = clipping_functions.row_factor(spec.clipping, relative, clip_norm)
  return factor / max(spec.divide_by, 1.0)


def scaled_total(
    spec: clipped_sum.ClippedSum, total: jax.Array, clip_norm: Any
) -> jax.Array:
  """Returns the sum of rows that `row_factor` scaled, times what it left out.

  Args:
    spec: Options of clipping.
    total: Sum of the scaled rows.
    clip_norm: Clip norm of these parameters.
  """
  if spec.clipping is None:
    return total
  gain = spec.clipping.largest(clip_norm) / min(spec.divide_by, 1.0)
  return total * jnp.asarray(gain, total.dtype)


def clip_factor(relative: jax.Array) -> jax.Array:
  """Returns min(1, 1 / relative), rounded towards safety.

  Args:
    relative: Norm over clip norm, any shape.

  Returns:
    What to scale by; 0 where it would be subnormal. It is 4 units in the last
    place short of 1 / relative, more than the rounding of the norm and of the
    product: XLA sums squares in blocks, so that norms of 1e8 equal entries were
    measured right to 1e-7.
  """
  slack = 4 * float(jnp.finfo(relative.dtype).eps)
  return jnp.minimum(1.0, (1.0 - slack) / relative)
