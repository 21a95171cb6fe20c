"""Runs a sum of clipped gradients over a whole batch, or explains it.

Checks the call's arguments, gives each example its key, and splits the batch
over devices and into microbatches.

The invariant: neither devices nor microbatches change what one example adds.

Example:
  >>> from jax_privacy import batch_sum
  >>> batch_sum.BatchSum.__call__.__doc__.split(".")[0]
  'Returns the sum and, per example, losses, norms and aux'
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jax_privacy import (
    _validate,
    arguments,
    clipped_sum,
    explanation,
    grid,
    microbatching,
    row_keys,
    sharding,
)


@dataclasses.dataclass(frozen=True)
class BatchSum:
  """A `ClippedSum`, for batches of any size.

  Attributes:
    clipped_sum: The sum over some examples.
    microbatch_size: Examples at a time on one device, or None for all.
    mesh: The devices, or None.
    keys_by_example: Whether keys are given per row; see `row_keys.py`.
    grid_scale: Steps of a grid in the clip norm; None for a sum of floats.
  """

  clipped_sum: clipped_sum.ClippedSum
  microbatch_size: int | None
  mesh: jax.sharding.Mesh | None
  keys_by_example: bool
  grid_scale: int | None

  def __call__(self, args: Sequence[Any], is_padding_example: Any):
    """Returns the sum and, per example, losses, norms and aux.

    Args:
      args: Arguments of the loss.
      is_padding_example: Booleans [batch_size], or None if no row is padding.

    Raises:
      ValueError: If an argument breaks its rule; the text names it.
      TypeError: If a parameter is not real and floating point.
    """
    args, batch_size = self._prepared(args)
    is_padding_example = arguments.padding_mask(is_padding_example, batch_size)
    run = self._whole_fn if batch_size else self._local_fn
    return run(args, is_padding_example)

  def named(
      self, args: Sequence[Any], named: Mapping[str, Any]
  ) -> tuple["BatchSum", tuple[Any, ...]]:
    """Returns the sum for arguments by name, and all arguments in order.

    Args:
      args: Arguments by position.
      named: Arguments by name, each with a leading batch axis. The function
        gets rows without it, even where others keep an axis of size 1.
    """
    plain = self.clipped_sum

    def fun(*args):
      *args, rows = args
      if plain.keep_batch_dim:
        rows = jax.tree.map(lambda x: jnp.squeeze(x, 0), rows)
      return plain.fun(*args, **rows)

    batched = (*plain.batched, len(args))
    renamed = dataclasses.replace(plain, fun=fun, batch_argnums=batched)
    return dataclasses.replace(self, clipped_sum=renamed), (*args, dict(named))

  def explain(
      self, *args: Any, is_padding_example: Any = None
  ) -> explanation.Explanation:
    """Returns how these arguments' gradients would be clipped.

    Nothing is run: any array may be a `jax.ShapeDtypeStruct`.

    Args:
      *args: Arguments of the loss.
      is_padding_example: Anything: no row's content matters.

    Raises:
      ValueError: If an argument breaks its rule; the text names it.
      TypeError: If a parameter is not real and floating point, or the loss
        cannot be traced.
    """
    del is_padding_example
    leaves, treedef = jax.tree.flatten(args)
    is_traced = [_has_shape(leaf) for leaf in leaves]

    def explained(traced):
      traced = iter(traced)
      pairs = zip(leaves, is_traced, strict=True)
      mixed = [next(traced) if is_ else leaf for leaf, is_ in pairs]
      given, batch_size = self._prepared(treedef.unflatten(mixed))
      return self.clipped_sum.explain(given, self._num_at_once(batch_size))

    # An explanation is a pytree without leaves: shapes alone are computed.
    pairs = zip(leaves, is_traced, strict=True)
    return jax.eval_shape(explained, [leaf for leaf, is_ in pairs if is_])

  @property
  def _batched(self):
    return (*self.clipped_sum.batched, self.clipped_sum.prng_argnum)

  @functools.cached_property
  def _whole_fn(self):
    mesh = self.mesh
    if mesh is None or mesh.size == 1:
      return self._local_fn
    return sharding.sum_over_devices(
        self._local_fn,
        mesh=mesh,
        batch_argnums=self._batched,
        split_fn=functools.partial(self._split, mesh),
    )

  def _local_fn(self, args, is_padding_example):
    return microbatching.sum_over_microbatches(
        self.clipped_sum,
        args,
        self._batched,
        is_padding_example,
        self.microbatch_size,
    )

  def _split(self, mesh, args) -> sharding.SplitSum | None:
    """The sum over a device's rows, of parameters that stay split."""
    clipped_sum = self.clipped_sum.split_over(mesh, args)
    if clipped_sum is None:
      return None

    def local_fn(args, is_padding_example):
      return microbatching.sum_over_microbatches(
          clipped_sum,
          args,
          self._batched,
          is_padding_example,
          self.microbatch_size,
          mesh.axis_names,
      )

    return sharding.SplitSum(local_fn, self.clipped_sum.argnums)

  def _prepared(self, args):
    """Returns checked arguments, with a key per example, and the batch size."""
    arguments.check_params(args, self.clipped_sum.argnums)
    batch_size = arguments.batch_size(args, self.clipped_sum.batched)
    if self.grid_scale is not None:
      grid.check_range(self.grid_scale, batch_size)
    # Before the batch is split: a key goes with its example, on any device.
    args = self._with_keys(args, batch_size)
    if self.mesh is not None:
      sharding.check_batch_size(self.mesh, batch_size)
    return args, batch_size

  def _num_at_once(self, batch_size):
    """How many examples one device clips at a time; at least 1."""
    num = batch_size // (1 if self.mesh is None else self.mesh.size)
    if self.microbatch_size is not None:
      num = min(num, self.microbatch_size)
    return max(num, 1)

  def _with_keys(self, args, batch_size):
    """Gives each example a key of its own."""
    argnum = self.clipped_sum.prng_argnum
    if argnum is None:
      return args
    if argnum >= len(args):
      rule = f"a position among the {len(args)} arguments given"
      _validate.fail("prng_argnum", rule, argnum)
    keys = row_keys.of_rows(
        args[argnum], batch_size, by_example=self.keys_by_example
    )
    return (*args[:argnum], keys, *args[argnum + 1 :])


def _has_shape(leaf):
  return hasattr(leaf, "shape") and hasattr(leaf, "dtype")
