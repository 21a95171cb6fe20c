"""How clipped gradients are scaled, and the bound that this gives their sum.

The invariant: `divide_by` and `l2_norm_bound` belong together. One example's
part of the sum has L2 norm at most the norm of its clip norms over `divide_by`,
which is `l2_norm_bound`.

Example:
  >>> from jax_privacy import scaling
  >>> scaling.Scaling.of({"a": 3.0, "b": 4.0}, normalize_by=10.0).l2_norm_bound
  0.5
  >>> rescaled = scaling.Scaling.of(5.0, rescale_to_unit_norm=True)
  >>> rescaled.divide_by, rescaled.l2_norm_bound
  (5.0, 1.0)
"""

import dataclasses
import math
from typing import Any

import chex
import jax

from jax_privacy import _validate


@dataclasses.dataclass(frozen=True)
class Scaling:
  """Clip norms, and what the sum of clipped gradients is divided by.

  Attributes:
    clip_norms: A number, or a pytree of them.
    divide_by: Divisor of each example's clipped gradient.
    l2_norm_bound: Largest L2 norm of one example's part of the sum: in steps,
      with a grid.
    grid_scale: Steps of the grid in the clip norm (the root of the sum of
      squares of several); None for a sum of floats.
    grid_step: Size of a step, which turns a sum in steps into one of floats;
      None without a grid.
  """

  clip_norms: Any
  divide_by: float
  l2_norm_bound: float
  grid_scale: int | None = None
  grid_step: float | None = None

  @classmethod
  def of(
      cls,
      l2_clip_norm: float | chex.ArrayTree,
      *,
      rescale_to_unit_norm: bool = False,
      normalize_by: float = 1.0,
      grid_scale: int | None = None,
  ) -> "Scaling":
    """Returns the scaling that `clipped_grad` is asked for; see there.

    Args:
      l2_clip_norm: Clip norm, or a pytree of them.
      rescale_to_unit_norm: Whether to divide by the clip norm.
      normalize_by: Divisor of the sum: the expected batch size.
      grid_scale: Steps of a grid in the clip norm; None for a sum of floats.

    Raises:
      ValueError: If an argument breaks its rule.
    """
    clip_norms = jax.tree.map(
        lambda c: _validate.clip_norm("l2_clip_norm", c), l2_clip_norm
    )
    leaves = jax.tree.leaves(clip_norms)
    if not leaves:
      rule = "a number or a pytree of them"
      _validate.fail("l2_clip_norm", rule, l2_clip_norm)
    normalize_by = _validate.positive("normalize_by", normalize_by)
    if grid_scale is not None:
      _validate.integer("grid_scale", grid_scale, at_least=1)
    total_norm = math.hypot(*leaves)
    norm_bound = 1.0 if rescale_to_unit_norm else total_norm
    divide_by = normalize_by * total_norm / norm_bound
    _check_range(leaves, divide_by, normalize_by)
    if grid_scale is None:
      return cls(clip_norms, divide_by, norm_bound / normalize_by)
    return cls(
        clip_norms,
        divide_by=total_norm / grid_scale,
        l2_norm_bound=float(grid_scale),
        grid_scale=grid_scale,
        grid_step=norm_bound / normalize_by / grid_scale,
    )


def _check_range(clip_norms, divide_by, normalize_by):
  """Refuses what would take clipped gradients out of float32's range."""
  scales = (divide_by, *(c / divide_by for c in clip_norms))
  if min(scales) < 1e-30 or max(scales) > 1e30:
    rule = "such that it, and the sensitivity, are between 1e-30 and 1e30"
    _validate.fail("normalize_by", rule, normalize_by)
