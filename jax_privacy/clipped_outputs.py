"""Sums of a function's clipped outputs, one example at a time.

`clipped_fun` is to any function what `clipped_grad` is to a loss: each
example's output is clipped to an L2 norm, and the outputs are summed. A noised
histogram, mean or matrix of second moments begins with it.

The invariant: one example is one row of the batch. It moves the sum by at most
`.sensitivity("add_or_remove_one")`, whatever the function does with it.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy import clipped_outputs
  >>> total = clipped_outputs.clipped_fun(
  ...     lambda x: x, keep_batch_dim=False, l2_clip_norm=5.0)
  >>> print(total(jnp.array([[6.0, 8.0], [0.0, 1.0]])).round())
  [3. 5.]
  >>> total.sensitivity("replace_one")
  10.0
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jax_privacy import (
    arguments,
    batch_sum,
    clipped_sum,
    clipping_options,
    per_example,
    row_keys,
    scaling,
    sharding,
)
from jax_privacy.sensitivity import BoundedSensitivityCallable


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputSum(per_example.VmapSum):
  """A sum of clipped outputs of `fun(*args)`; see `ClippedSum`."""

  def _one_example(self, args, is_padding_example):
    args = self.with_batch_dim(args)
    value, aux = self.fun(*args)
    if self.keep_batch_dim:
      aux = jax.tree.map(clipped_sum.drop_unit_batch_axis, aux)
    clipped, norms = self._clip(value, is_padding_example)
    return clipped, None, norms, aux


def clipped_fun(
    fun: Callable[..., Any],
    has_aux: bool = False,
    *,
    batch_argnums: int | Sequence[int] = 0,
    keep_batch_dim: bool = True,
    l2_clip_norm: Any = 1.0,
    rescale_to_unit_norm: bool = False,
    normalize_by: float = 1.0,
    return_norms: bool = False,
    microbatch_size: int | None = None,
    nan_safe: bool = True,
    dtype: jax.typing.DTypeLike | None = None,
    prng_argnum: int | None = None,
    spmd_axis_name: str | None = None,
    mesh: jax.sharding.Mesh | None = None,
    keys_by_example: bool = False,
) -> BoundedSensitivityCallable:
  """Transforms a function into the sum of its clipped outputs.

  Called as in jax-privacy 2.x. The options are those of `clipped_grad`.

  Args:
    fun: Function `fun(*args)` of one example, or `(output, aux)` with
      `has_aux`. Its output is a pytree of real floating-point arrays.
    has_aux: Whether `fun` returns `(output, aux)`.
    batch_argnums: Position(s) of the argument(s) whose leaves have a leading
      batch axis.
    keep_batch_dim: Whether `fun` gets examples with a leading axis of 1. An
      axis of 1 that aux still has is then dropped.
    l2_clip_norm: Largest L2 norm that an output may keep: a number between
      1e-30 and 1e30, or a pytree prefix of the output with one per part.
    rescale_to_unit_norm: Whether to divide the sum by the clip norm.
    normalize_by: Divisor of the sum; a public number.
    return_norms: Whether to return the norms before clipping too.
    microbatch_size: Number of examples processed at a time, in order.
    nan_safe: Whether examples with a non-finite output count zero. If False,
      there is NO guarantee where they occur.
    dtype: Type of the sum: float32, float64, or None for the output's own,
      float32 at least.
    prng_argnum: Position of the argument that holds a PRNG key.
    spmd_axis_name: Name of the batch axis for `jax.vmap`.
    mesh: Devices over which the batch is split.
    keys_by_example: Whether the argument at `prng_argnum` holds one key a row.

  Returns:
    A callable `(*args, is_padding_example=None)`. It gives the sum; `(sum,
    aux)` with `has_aux`; `(sum, norms)` with `return_norms`; `(sum, (aux,
    norms))` with both. Aux and norms have a leading batch axis, and are NOT
    protected.

  Raises:
    ValueError: If an argument breaks its rule; the text names it.
    TypeError: From the callable, if an output is not real and floating point.

  Guarantee: As `clipped_grad`'s, for outputs in the place of gradients.
  """
  arguments.check_function("fun", fun)
  batch_argnums = clipping_options.positions("batch_argnums", batch_argnums)
  clipping_options.check_roles((), batch_argnums, prng_argnum)
  clipping_options.check(mesh, spmd_axis_name, dtype)
  row_keys.check(prng_argnum, keys_by_example)
  scaled = scaling.Scaling.of(
      l2_clip_norm,
      rescale_to_unit_norm=rescale_to_unit_norm,
      normalize_by=normalize_by,
  )
  output_sum = OutputSum(
      fun=fun if has_aux else lambda *args: (fun(*args), None),
      argnums=(),
      batch_argnums=batch_argnums,
      prng_argnum=prng_argnum,
      clip_norms=scaled.clip_norms,
      divide_by=scaled.divide_by,
      keep_batch_dim=keep_batch_dim,
      nan_safe=nan_safe,
      dtype=dtype,
      spmd_axis_name=spmd_axis_name,
      pre_clipping_transform=None,
  )
  microbatch_size = sharding.local_microbatch_size(microbatch_size, mesh)
  batch_fn = batch_sum.BatchSum(
      output_sum, microbatch_size, mesh, keys_by_example, grid_scale=None
  )

  def clipped_fn(*args, is_padding_example=None):
    total, _, norms, aux = batch_fn(args, is_padding_example)
    if not (has_aux or return_norms):
      return total
    if has_aux and return_norms:
      return total, (aux, norms)
    return total, (aux if has_aux else norms)

  return BoundedSensitivityCallable(
      fun=clipped_fn,
      l2_norm_bound=scaled.l2_norm_bound,
      has_aux=has_aux or return_norms,
      keys_by_position=prng_argnum is not None and not keys_by_example,
  )
