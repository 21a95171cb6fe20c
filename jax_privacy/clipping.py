"""Sums of clipped per-example gradients: `clipped_grad`, the public face.

The invariant of this file: whatever the data hold (NaN, infinities, huge or
tiny gradients, padding, nothing at all), adding or removing one example moves
the returned sum by at most `.sensitivity("add_or_remove_one")` in L2 norm, up
to the rounding of the float32 sum itself. Everything private flows through that
sum. Per-example values, norms and aux are returned only on request, and are not
protected.

`clipped_grad` checks its arguments, picks a method (`per_example.py` is the
plain one, `ghost/` the fast one), and runs it over microbatches if asked.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy import clipping
  >>> loss = lambda param, x: 0.5 * jnp.mean((x - param) ** 2)
  >>> grad_fn = clipping.clipped_grad(loss, l2_clip_norm=2.0)
  >>> print(grad_fn(3.0, jnp.array([0.0, 7.0, 2.0])))  # 2 - 2 + 1
  1.0
  >>> grad_fn.sensitivity("replace_one")
  4.0
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from jax_privacy import (
    _validate,
    arguments,
    batch_sum,
    clipping_functions,
    clipping_options,
    ghost,
    per_example,
    row_keys,
    scaling,
    sharding,
    traced_norm,
)
from jax_privacy import clipped_sum as clipped_sum_lib
from jax_privacy.clipped_outputs import clipped_fun as clipped_fun
from jax_privacy.sensitivity import BoundedSensitivityCallable

_METHODS = ("auto", "ghost", "vmap")


class Aux(NamedTuple):
  """Per-example outputs; fields that were not asked for are None.

  These are private: releasing any of them spends privacy that no accountant
  here counts. Rows of padding are 0 in all of them: False for Booleans, the key
  of zeros for PRNG keys.

  Attributes:
    values: Losses before clipping, [batch_size].
    grad_norms: Gradient norms before clipping, float32 at least, [batch_size];
      with a pytree of clip norms, a pytree of that structure.
    aux: The function's auxiliary output, each leaf with a leading batch axis.
  """

  values: Any = None
  grad_norms: Any = None
  aux: Any = None


def clip_pytree(
    pytree: chex.ArrayTree,
    clip_norm: Any,
    rescale_to_unit_norm: bool = False,
    nan_safe: bool = True,
    return_zero: bool | jax.Array = False,
) -> tuple[Any, Any]:
  """Scales a pytree down so that its L2 norm is at most `clip_norm`.

  Args:
    pytree: Real floating-point arrays of any shapes.
    clip_norm: Largest norm allowed: a number between 1e-30 and 1e30, or a
      traced scalar, for which a value that breaks this rule gives zeros. Or a
      pytree prefix of such, with one per part, each clipped by itself. Or the
      number 0 or infinity: see below.
    rescale_to_unit_norm: Whether to divide the result by `clip_norm` (by the
      root of the sum of squares of several): its norm is then at most 1.
    nan_safe: Whether to return zeros, in all parts, where a norm is not finite.
      If False, NaN spreads.
    return_zero: Whether to return zeros whatever the input; may be traced.

  Returns:
    The clipped pytree, and the norm before clipping: a float32 scalar (float64
    for float64 input), or a pytree of them like `clip_norm`. Leaves have the
    dtypes of the input. Shorter ones than float32 are rounded towards zero, so
    that rounding cannot lift the norm above the bound.

  Raises:
    ValueError: If `clip_norm` is a number that breaks its rule, or is no pytree
      prefix.
    TypeError: If a leaf is not real and floating point.

  Guarantee: The result's norm is at most `clip_norm` (1 if rescaled). A norm
    of 0 and an empty pytree are returned as they are; NaN, infinity and a norm
    too large for its dtype give zeros if `nan_safe`. A `clip_norm` of 0 gives
    zeros (if rescaled: the pytree over its norm); infinity changes nothing (if
    rescaled: zeros).
  """
  if not isinstance(clip_norm, jax.core.Tracer) and _is_limit(clip_norm):
    return per_example.clip_to_limit(
        pytree,
        normalise=rescale_to_unit_norm and float(clip_norm) == 0,
        is_kept=not rescale_to_unit_norm and float(clip_norm) != 0,
        nan_safe=nan_safe,
        return_zero=return_zero,
    )
  clip_norms, treedef = jax.tree.flatten(clip_norm)
  clip_norms = [
      c
      if isinstance(c, jax.core.Tracer)
      else _validate.clip_norm("clip_norm", c)
      for c in clip_norms
  ]
  if not clip_norms:
    _validate.fail("clip_norm", "a number or a pytree of them", clip_norm)
  divide_by: Any = 1.0
  if rescale_to_unit_norm:
    is_single = len(clip_norms) == 1
    divide_by = clip_norms[0] if is_single else _root(clip_norms)
  clipped, norms = per_example.clip_parts(
      clipped_sum_lib.split_at_prefix(treedef, pytree, name="clip_norm"),
      clip_norms,
      divide_by=divide_by,
      nan_safe=nan_safe,
      return_zero=return_zero,
  )
  return (
      per_example.in_dtypes_of(pytree, treedef.unflatten(clipped)),
      treedef.unflatten(norms),
  )


def _is_limit(clip_norm: Any) -> bool:
  return _validate.as_float(clip_norm) in (0.0, math.inf)


def _root(numbers: Sequence[Any]) -> Any:
  """Root of the sum of squares; traced if one of the numbers is."""
  if any(isinstance(x, jax.core.Tracer) for x in numbers):
    largest = functools.reduce(jnp.maximum, numbers)
    return largest * jnp.sqrt(sum(jnp.square(x / largest) for x in numbers))
  return math.hypot(*numbers)


@traced_norm.allowed
def clipped_grad(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    l2_clip_norm: Any,
    rescale_to_unit_norm: bool = False,
    normalize_by: float = 1.0,
    batch_argnums: int | Sequence[int] = 1,
    keep_batch_dim: bool = True,
    return_values: bool = False,
    return_grad_norms: bool = False,
    pre_clipping_transform: Callable[[Any], Any] | None = None,
    microbatch_size: int | None = None,
    nan_safe: bool = True,
    dtype: jax.typing.DTypeLike | None = None,
    prng_argnum: int | None = None,
    spmd_axis_name: str | None = None,
    method: str = "auto",
    passes: int | None = None,
    grid_scale: int | None = None,
    mesh: jax.sharding.Mesh | None = None,
    keys_by_example: bool = False,
    clipping: str | clipping_functions.ClippingFunction = "standard",
) -> BoundedSensitivityCallable:
  """Transforms a loss into the sum of its clipped per-example gradients.

  Called as in jax-privacy 2.x. What differs, always towards safety: a clip
  norm must be positive and finite; an example whose gradient is not finite
  counts zero as a whole; the sum is float32 at least.

  Args:
    fun: Scalar loss `fun(*args)`, or `(loss, aux)` with `has_aux`.
    argnums: Position(s) of the argument(s) to differentiate; never batched.
    has_aux: Whether `fun` returns `(loss, aux)`.
    l2_clip_norm: Largest L2 norm that an example may keep: a number between
      1e-30 and 1e30, or a pytree prefix of the gradient with one per part, each
      part being clipped by itself. A norm 1e19 times as large may count zero.
      A scalar may be traced, such as a norm that adapts; the sensitivity is
      then traced too, and a norm out of this range gives zeros.
    rescale_to_unit_norm: Whether to divide the sum by the clip norm (by the
      root of the sum of squares of several), so that the sensitivity is 1
      whatever the clip norm, and the learning rate need not follow it. Source:
      De et al. 2022 (arXiv 2204.13650), section 3.
    normalize_by: Divisor of the sum; give the *expected* batch size, a public
      number. It and the sensitivity must be between 1e-30 and 1e30.
    batch_argnums: Position(s) of the argument(s) whose leaves have a leading
      batch axis.
    keep_batch_dim: Whether `fun` gets examples with a leading axis of 1. An
      axis of 1 that aux still has is then dropped.
    return_values: Whether to return the losses before clipping too.
    return_grad_norms: Whether to return the norms before clipping (and before
      `pre_clipping_transform`) too.
    pre_clipping_transform: Function of each example's gradient, applied before
      clipping; may change its structure. It must not look at other examples.
    microbatch_size: Number of examples processed at a time, in order. Changes
      memory and time, not the result; trailing microbatches of padding only are
      skipped. On a CPU, XLA runs convolutions inside a loop some 20 times
      slower than outside: there, sum over calls instead.
    nan_safe: Whether examples with a non-finite gradient count zero. If False,
      they poison the sum and there is NO guarantee where they occur.
    dtype: Type of the sum: float32, float64, or None for the gradient's own,
      float32 at least.
    prng_argnum: Position of the argument that holds a PRNG key, from which each
      example gets a key by its place in the batch; or see `keys_by_example`.
    spmd_axis_name: Name of the batch axis for `jax.vmap`.
    method: Name: "ghost", "vmap", or "auto": ghost, or vmap where there is a
      `pre_clipping_transform` or a `grid_scale`. All give the same numbers;
      ghost makes no example's gradient where it can do without
      (docs/ghost_clipping.md).
    passes: Number of passes over the data that "ghost" makes. In 1 pass, what
      norms were taken from is kept for the sum: loops and `jax.checkpoint` save
      no memory. In 2, the second pass is an ordinary gradient of weighted
      losses. Memory is then about what training without privacy takes, at the
      price of one more forward and backward pass. None takes 2 where parameters
      enter `jax.checkpoint` and each has its own place there, else 1;
      `.explain` says why. See `ghost/two_passes.py`.
    grid_scale: Number of grid steps per clip norm (per the root of the sum of
      squares of several). Each clipped gradient is rounded to the grid, and the
      sum is int32. Examples are clipped earlier, by as much as rounding can
      add: by a part of about sqrt(d) / (2 grid_scale), for d parameters. The
      sum, `normalize_by` included, is the result times `.grid_step`, and
      `.sensitivity()` is in steps, exactly. For
      `secure_gaussian_privatizer(grid_step=...)`; see `grid.py`.
    mesh: Devices over which the batch is split, along all axes of the mesh:
      each clips its own examples, and sums are added up. `microbatch_size`
      counts the examples of all devices together. In two passes, parameters
      that the mesh splits are gathered layer by layer. See `sharding.py`.
      Without a mesh, sharded batches are split by XLA, which may gather them on
      each device; where it would give wrong numbers, ValueError is raised
      (`partitioner.py`).
    keys_by_example: Whether the argument at `prng_argnum` holds one key per
      row, such as `jax_privacy.example_keys` makes: they follow their examples.
      One key for the whole batch is then refused.
    clipping: Name, or `ClippingFunction`: by what a gradient is multiplied, as
      a function of its norm. "standard" cuts norms above the clip norm,
      "automatic" (AUTO-S) and "psac" scale every gradient to nearly that norm.
      The sensitivity is the same; see `clipping_functions.py`.

  Returns:
    A callable `(*args, is_padding_example=None, **named)` giving the sum, or
    `(sum, Aux)` if `has_aux`, `return_values` or `return_grad_norms`. Examples
    marked by `is_padding_example`, bool [batch_size], count zero. Arguments by
    name are of the batch: `fun` gets the row of an example, without its leading
    axis, as in jax-privacy.

  Raises:
    ValueError: If an argument breaks its rule; the text names it. From the
      callable, if a leaf of the batch does (`arguments.py`), or the grid is too
      coarse for the number of parameters, or so fine that the batch's sum might
      not fit in int32.
      From the callable, if `passes` is 2 and a parameter is shared within, or
      with, a loop or `jax.checkpoint`.
    TypeError: From the callable, if a parameter is not real and floating point.

  Guarantee: Adding, removing or zeroing one example moves the sum by at most
    `.sensitivity("add_or_remove_one")` = norm bound / normalize_by, replacing
    one by twice that, in L2 norm. Non-finite gradients and padding count zero;
    an empty batch gives zeros. With a `grid_scale` the bound is `grid_scale`
    steps, for an exact sum.

    Keys are held fixed in that. With a `prng_argnum` and one key for the batch,
    it holds for batches whose other examples stay at their positions: an
    example is replaced, or zeroed or marked as padding in place. It does not
    hold where others move up, so `.sensitivity("add_or_remove_one")` is
    refused. With `keys_by_example`, it holds for all three relations if an
    example's key depends on no other example, as `example_keys` has it; not for
    keys that the caller splits by position.
  """
  arguments.check_function("fun", fun)
  fun = arguments.explained(fun)
  argnums_tuple = clipping_options.positions("argnums", argnums)
  batch_argnums = clipping_options.positions("batch_argnums", batch_argnums)
  clipping_options.check_roles(argnums_tuple, batch_argnums, prng_argnum)
  row_keys.check(prng_argnum, keys_by_example)
  scaled = scaling.Scaling.of(
      l2_clip_norm,
      rescale_to_unit_norm=rescale_to_unit_norm,
      normalize_by=normalize_by,
      grid_scale=grid_scale,
  )
  microbatch_size = sharding.local_microbatch_size(microbatch_size, mesh)
  is_single = isinstance(argnums, (int, np.integer))
  clipping_options.check(mesh, spmd_axis_name, dtype)
  _check_grid(grid_scale, nan_safe)
  options = dict(
      fun=fun if has_aux else lambda *args, **kw: (fun(*args, **kw), None),
      argnums=argnums_tuple[0] if is_single else argnums_tuple,
      batch_argnums=batch_argnums,
      prng_argnum=prng_argnum,
      clip_norms=scaled.clip_norms,
      divide_by=scaled.divide_by,
      keep_batch_dim=keep_batch_dim,
      nan_safe=nan_safe,
      dtype=dtype,
      spmd_axis_name=spmd_axis_name,
      clipping=clipping_functions.get(clipping),
  )
  chosen = _choose_method(method, pre_clipping_transform, grid_scale)
  _check_passes(passes, chosen)
  if chosen == "ghost":
    clipped_sum = ghost.GhostSum(passes=passes, **options)
  else:
    clipped_sum = per_example.VmapSum(
        pre_clipping_transform=pre_clipping_transform,
        grid_scale=grid_scale,
        **options,
    )
  batch_fn = batch_sum.BatchSum(
      clipped_sum, microbatch_size, mesh, keys_by_example, grid_scale
  )
  has_outputs = has_aux or return_values or return_grad_norms

  def clipped_grad_fn(*args, is_padding_example=None, **named):
    run, args = (batch_fn.named(args, named)) if named else (batch_fn, args)
    total, values, norms, aux = run(args, is_padding_example)
    if not has_outputs:
      return total
    return total, Aux(
        values=values if return_values else None,
        grad_norms=norms if return_grad_norms else None,
        aux=aux if has_aux else None,
    )

  return BoundedSensitivityCallable(
      fun=clipped_grad_fn,
      l2_norm_bound=scaled.l2_norm_bound,
      has_aux=has_outputs,
      grid_step=scaled.grid_step,
      keys_by_position=prng_argnum is not None and not keys_by_example,
      explain_fn=batch_fn.explain,
  )


def _check_grid(grid_scale, nan_safe):
  """Refuses options that do not go together."""
  if grid_scale is not None and not nan_safe:
    rule = "True with a grid_scale (there is no whole number for NaN)"
    _validate.fail("nan_safe", rule, nan_safe)


def _check_passes(passes, method):
  """Refuses a number of passes that the method does not make."""
  if passes not in (None, 1, 2):
    _validate.fail("passes", "1, 2 or None", passes)
  if passes == 2 and method == "vmap":
    rule = '1 or None where each example\'s gradient is made (method "vmap")'
    _validate.fail("passes", rule, passes)


def _choose_method(method, pre_clipping_transform, grid_scale):
  """Returns "ghost" or "vmap"."""
  if method not in _METHODS:
    _validate.fail("method", f"one of {_METHODS}", method)
  options = {
      "pre_clipping_transform": pre_clipping_transform,
      "grid_scale": grid_scale,
  }
  needs_each = [name for name, value in options.items() if value is not None]
  if method == "vmap" or not needs_each:
    return "vmap" if method == "vmap" else "ghost"
  if method == "ghost":
    raise ValueError(
        f'method must be "vmap" or "auto" with a {needs_each[0]}, which needs'
        " each example's gradient, got 'ghost'."
    )
  _say_that_auto_is_vmap(needs_each[0])
  return "vmap"


@functools.cache  # Once in a process.
def _say_that_auto_is_vmap(name):
  logging.info(
      'clipped_grad: method="auto" is "vmap" here: a %s needs each example\'s'
      " gradient.",
      name,
  )
