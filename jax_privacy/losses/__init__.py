"""Losses of one example, over the logits of all of its views.

Each loss takes logits [num_views, num_classes] and the example's label, and
returns a scalar.

The invariant: a loss sees one example and no other, so clipping its gradient
bounds the example's share, whatever terms it has. A term that compares an
example's views costs no sensitivity.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy import losses
  >>> loss_fn = losses.over_views("softmax", invariance_weight=0.5)
  >>> loss = loss_fn(jnp.zeros((2, 4)), jnp.int32(3))  # The views agree.
  >>> print(f"{loss:.4f}")  # log(4)
  1.3863
"""

from typing import Any as _Any

from jax_privacy.losses import registry as _registry
from jax_privacy.losses.loss import Loss as Loss
from jax_privacy.losses.loss import LossFn as LossFn
from jax_privacy.losses.registry import get as get
from jax_privacy.losses.registry import names as names
from jax_privacy.losses.sigmoid import (
    sigmoid_cross_entropy as sigmoid_cross_entropy,
)
from jax_privacy.losses.sigmoid import sigmoid_divergence as sigmoid_divergence
from jax_privacy.losses.softmax import (
    softmax_cross_entropy as softmax_cross_entropy,
)
from jax_privacy.losses.softmax import softmax_divergence as softmax_divergence
from jax_privacy.losses.views import over_views as over_views

__all__ = (
    "Loss",
    "NAMES",
    "get",
    "names",
    "over_views",
    "sigmoid_cross_entropy",
    "sigmoid_divergence",
    "softmax_cross_entropy",
    "softmax_divergence",
)


def __getattr__(name: str) -> _Any:
  if name == "NAMES":  # Of the table as it is now.
    return _registry.names()
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
  return list(__all__)
