"""What both methods of clipping are given: one loss and how it is clipped.

`per_example.VmapSum` is the plain method, `ghost.GhostSum` the fast one. Both
are a `ClippedSum`, so neither can miss an option of the other.

The invariant: a `ClippedSum` is frozen, and a function of the batch alone.

Example:
  >>> from jax_privacy import clipped_sum, ghost, per_example
  >>> both = (per_example.VmapSum, ghost.GhostSum)
  >>> all(issubclass(method, clipped_sum.ClippedSum) for method in both)
  True
"""

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp

from jax_privacy import clipping_functions, explanation, loss_call


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClippedSum(loss_call.LossCall, abc.ABC):
  """`(args, is_padding_example) -> (sum, losses, norms, aux)` over a batch.

  Its `fun(*args)` returns `(loss, aux)` for one example; `prng_argnum` is the
  position of one key per example.

  Attributes:
    clip_norms: A number, or a pytree prefix of the gradient.
    divide_by: Divisor of each example's clipped gradient.
    nan_safe: Whether a non-finite gradient counts zero.
    dtype: Dtype of the sum; None for the gradient's own, float32 at least.
    spmd_axis_name: Name for `jax.vmap`.
    clipping: Weight of a gradient, by its norm; None for standard clipping.
  """

  clip_norms: Any
  divide_by: float
  nan_safe: bool
  dtype: Any
  spmd_axis_name: str | None
  clipping: clipping_functions.ClippingFunction | None = None

  @abc.abstractmethod
  def __call__(
      self, args: Sequence[Any], is_padding_example: jax.Array
  ) -> tuple[Any, Any, Any, Any]:
    """Returns the sum and, per example, losses, norms and aux."""

  @abc.abstractmethod
  def explain(
      self, args: Sequence[Any], num_examples: int
  ) -> explanation.Explanation:
    """Returns how a batch would be clipped, from the shapes of `args`.

    Args:
      args: Arguments of a call.
      num_examples: Number of examples that are clipped at a time.
    """

  def split_over(
      self, mesh: jax.sharding.Mesh, args: Sequence[Any]
  ) -> "ClippedSum | None":
    """Returns the same sum, of parameters that stay split over a mesh.

    Within `jax.shard_map`, it is given this device's parts, as `sharding.spec`
    says, and gives parts of the sum over the mesh's axis `fsdp`.

    Args:
      mesh: Mesh with an axis `fsdp`.
      args: Arguments of a call, whole; their values are not read.

    Returns:
      The sum, or None if it needs whole parameters.
    """
    del mesh, args
    return None

  def parameters(self, args: Sequence[Any]) -> list[tuple[str, jax.Array]]:
    """Returns what to differentiate: dotted paths and arrays.

    Args:
      args: Arguments of a call.
    """
    found = []
    for i in self.param_argnums:
      root = "" if isinstance(self.argnums, int) else f"args[{i}]"
      for path, leaf in jax.tree_util.tree_leaves_with_path(args[i]):
        found.append((_dotted(root, path), jnp.asarray(leaf)))
    return found


def split_at_prefix(
    treedef: Any, tree: chex.ArrayTree, *, name: str = "l2_clip_norm"
) -> list[chex.ArrayTree]:
  """Returns the subtrees of `tree` at the leaves of a prefix `treedef`.

  Args:
    treedef: The structure of `l2_clip_norm`.
    tree: A gradient.
    name: Name of the prefix, for an error.

  Raises:
    ValueError: If `treedef` is no prefix of `tree`.
  """
  try:
    return treedef.flatten_up_to(tree)
  except ValueError as error:
    raise ValueError(
        f"{name} must be a pytree prefix of the gradient, got"
        f" {treedef} for {jax.tree.structure(tree)}."
    ) from error


def drop_unit_batch_axis(x: jax.Array) -> jax.Array:
  """Returns `x` without its leading axis, if that has size 1.

  Args:
    x: Any array.
  """
  return jnp.squeeze(x, 0) if jnp.shape(x)[:1] == (1,) else x


def _dotted(root, path):
  """A leaf's path; an NNX variable's own attribute tells nothing."""
  if path and getattr(path[-1], "name", None) == "value":
    path = path[:-1]
  inner = jax.tree_util.keystr(path, simple=True, separator=".")
  return ".".join(part for part in (root, inner) if part) or "params"
