"""The parts of a gradient that are clipped each by itself.

The invariant: every parameter is in exactly one part, and a part's norm is
the norm of all its parameters together.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy.ghost import parts
  >>> both = parts.Parts.of({"a": 1.0, "b": 2.0}, {"a": [0, 2], "b": [1]},
  ...                       lambda leaves: jnp.dtype("float32"))
  >>> both.members
  ((0, 2), (1,))
  >>> norms = {i: [(jnp.array([3.0]), 1.0)] for i in range(3)}
  >>> [round(float(r[0]), 2) for r in both.relative_norms(norms, (1,))]
  [4.24, 1.5]
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jax_privacy import clipped_sum, magnitude


@dataclasses.dataclass(frozen=True)
class Parts:
  """Parts, in the order of the leaves of `l2_clip_norm`.

  Attributes:
    treedef: The structure of the clip norms.
    clip_norms: One per part.
    members: Per part, the numbers of its leaves.
    dtypes: Per part, the dtype of its norms.
  """

  treedef: Any
  clip_norms: tuple[float, ...]
  members: tuple[tuple[int, ...], ...]
  dtypes: tuple[Any, ...]

  @classmethod
  def of(
      cls,
      clip_norms: Any,
      numbers: Any,
      dtype_fn: Callable[[Sequence[int]], Any],
  ) -> "Parts":
    """Returns the parts of a gradient.

    Args:
      clip_norms: A number, or a pytree prefix of the gradient.
      numbers: The gradient's structure, with the number of each leaf.
      dtype_fn: Function from some leaves' numbers to the dtype of their norm.

    Raises:
      ValueError: If `clip_norms` is no prefix.
    """
    norms, treedef = jax.tree.flatten(clip_norms)
    trees = clipped_sum.split_at_prefix(treedef, numbers)
    members = tuple(tuple(jax.tree.leaves(tree)) for tree in trees)
    return cls(treedef, tuple(norms), members, tuple(map(dtype_fn, members)))

  def part_of(self, leaf: int) -> int:
    """Returns which part a leaf is in.

    Args:
      leaf: Number of the leaf.
    """
    return next(i for i, part in enumerate(self.members) if leaf in part)

  def unit(self, leaves: Sequence[int]) -> float:
    """Returns a unit for norms of some leaves, near their clip norms.

    Args:
      leaves: Numbers of the leaves.
    """
    parts = {self.part_of(leaf) for leaf in leaves}
    return magnitude.unit_near(min(self.clip_norms[part] for part in parts))

  def relative_norms(
      self,
      leaf_norms: Mapping[int, Sequence[tuple[jax.Array, float]]],
      shape: tuple[int, ...],
  ) -> list[jax.Array]:
    """Returns each example's norm over the clip norm, per part.

    Args:
      leaf_norms: Pairs per leaf, one for each of its pieces: the gradient's
        norm over a unit, and the unit. A leaf that is missing has no gradient.
      shape: Shape of the norms, (batch_size,).
    """
    relative = []
    for members, clip_norm, dtype in zip(
        self.members, self.clip_norms, self.dtypes, strict=True
    ):
      found = [pair for i in members for pair in leaf_norms.get(i, ())]
      each = [n.astype(dtype) * (unit / clip_norm) for n, unit in found]
      squares = jnp.square(jnp.stack([jnp.zeros(shape, dtype), *each]))
      relative.append(jnp.sqrt(magnitude.block_sum(squares)))
    return relative

  def norms(self, relative: Sequence[jax.Array]) -> Any:
    """Returns the norms before clipping, in the structure of the clip norms.

    Args:
      relative: Norms over clip norms, per part.
    """
    pairs = zip(relative, self.clip_norms, strict=True)
    return self.treedef.unflatten([r * c for r, c in pairs])
