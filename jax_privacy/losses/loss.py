"""What a loss is: one file has all that differs between losses.

The invariant: a loss sees one example and no other.

Example:
  >>> from jax_privacy import losses
  >>> losses.get("sigmoid").has_several_labels
  True
"""

import dataclasses
from collections.abc import Callable

import jax

LossFn = Callable[[jax.Array, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loss:
  """The loss of one example, given the logits of its views.

  Attributes:
    name: Name for `over_views` and a config's `loss.name`.
    mean_fn: The mean over views, a scalar: `mean_fn(logits, label)`, with
      logits [num_views, num_classes], float32 at least.
    divergence_fn: Scalar that says how much the views' predictions differ,
      called alike; None for a loss that does not compare views.
    takes_smoothing: Whether `mean_fn` takes `label_smoothing`, in [0, 1).
    has_several_labels: Whether a label is integers [num_classes] of 1, 0 and
      -1, and not one class.
  """

  name: str
  mean_fn: Callable[..., jax.Array]
  divergence_fn: LossFn | None = None
  takes_smoothing: bool = False
  has_several_labels: bool = False
