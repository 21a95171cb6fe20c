"""Makes a loss of an example's views from a name, or from a function.

The invariant: logits are float32 at least, and the loss is a scalar.

Example:
  >>> import jax.numpy as jnp
  >>> loss_fn = over_views(lambda logits, label: jnp.mean(logits[:, label]))
  >>> print(loss_fn(jnp.ones((2, 4)), jnp.int32(3)))
  1.0
"""

import math
from typing import Any

import chex

from jax_privacy import _validate, precision
from jax_privacy.losses import registry
from jax_privacy.losses.loss import Loss, LossFn


def over_views(
    name: str | LossFn,
    *,
    label_smoothing: float = 0.0,
    invariance_weight: float = 0.0,
) -> LossFn:
  """Returns the loss of an example, given the logits of its views.

  Args:
    name: Name of a loss: "softmax", for one class an example: cross-entropy;
      "sigmoid", for several labels an example: `sigmoid_cross_entropy`; any
      other of `names()`. Or a function of the caller's own, called as what this
      returns is.
    label_smoothing: Share, in [0, 1), of the label's weight that is spread
      over all classes, as `optax.smooth_labels`; 0 for all but "softmax".
    invariance_weight: Weight of `softmax_divergence` or `sigmoid_divergence`;
      0 or more; 0 for a function. Where it is not 0, there must be at least two
      views.

  Returns:
    `loss_fn(logits, label)`: logits float [num_views, num_classes]; label an
    integer of shape [] in [0, num_classes) for "softmax", integers
    [num_classes] of 1, 0 and -1 for "sigmoid". It gives the mean over views,
    plus the weighted divergence, in float32 at least.

  Raises:
    ValueError: If an argument breaks its rule.

  Guarantee: A function of one example, for `views.augmult`; the sensitivity
    of `clipped_grad` on it is that on any other loss.
  """
  if callable(name):
    loss, described = Loss(name="own", mean_fn=name), "a function"
  else:
    loss, described = registry.get(name), repr(name)
  label_smoothing = _at_least_zero("label_smoothing", label_smoothing)
  if label_smoothing >= 1:
    _validate.fail("label_smoothing", "in [0, 1)", label_smoothing)
  weight = _at_least_zero("invariance_weight", invariance_weight)
  if label_smoothing and not loss.takes_smoothing:
    _validate.fail("label_smoothing", f"0 for {described}", label_smoothing)
  divergence_fn = loss.divergence_fn
  if weight and divergence_fn is None:
    _validate.fail("invariance_weight", f"0 for {described}", weight)
  options = {"label_smoothing": label_smoothing} if label_smoothing else {}

  def loss_fn(logits, label):
    chex.assert_rank(logits, 2)
    logits = logits.astype(precision.at_least_float32(logits.dtype))
    mean = loss.mean_fn(logits, label, **options)
    chex.assert_shape(mean, ())
    if not weight or divergence_fn is None:
      return mean
    return mean + weight * divergence_fn(logits, label)

  return loss_fn


def _at_least_zero(name: str, value: Any) -> float:
  number = _validate.as_float(value)
  if not 0 <= number < math.inf:
    _validate.fail(name, "a finite number of at least 0", value)
  return number
