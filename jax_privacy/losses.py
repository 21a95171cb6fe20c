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

import math
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import optax

from jax_privacy import _validate, precision

NAMES = ("softmax", "sigmoid")

LossFn = Callable[[jax.Array, jax.Array], jax.Array]


def over_views(
    name: str | LossFn,
    *,
    label_smoothing: float = 0.0,
    invariance_weight: float = 0.0,
) -> LossFn:
  """Returns the loss of an example, given the logits of its views.

  Args:
    name: "softmax", for one class an example: cross-entropy. "sigmoid", for
      several labels an example: `sigmoid_cross_entropy`. Or a function of the
      caller's own, called as what this returns is.
    label_smoothing: In [0, 1): the share of the label's weight that is spread
      over all classes, as `optax.smooth_labels`; 0 for all but "softmax".
    invariance_weight: Of `softmax_divergence` or `sigmoid_divergence`; 0 or
      more; 0 for a function. Where it is not 0, there must be at least two
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
  if not callable(name) and name not in NAMES:
    _validate.fail("name", f"one of {', '.join(NAMES)}", name)
  label_smoothing = _at_least_zero("label_smoothing", label_smoothing)
  if label_smoothing >= 1:
    _validate.fail("label_smoothing", "in [0, 1)", label_smoothing)
  weight = _at_least_zero("invariance_weight", invariance_weight)
  if label_smoothing and name == "sigmoid":
    _validate.fail("label_smoothing", "0 for 'sigmoid'", label_smoothing)
  if callable(name):
    _check_zero(label_smoothing=label_smoothing, invariance_weight=weight)

  def loss_fn(logits, label):
    chex.assert_rank(logits, 2)
    logits = logits.astype(precision.at_least_float32(logits.dtype))
    if callable(name):
      loss = name(logits, label)
      chex.assert_shape(loss, ())
      return loss
    if name == "softmax":
      loss = softmax_cross_entropy(
          logits, label, label_smoothing=label_smoothing
      )
      return loss + weight * softmax_divergence(logits) if weight else loss
    loss = sigmoid_cross_entropy(logits, label)
    return loss + weight * sigmoid_divergence(logits, label) if weight else loss

  return loss_fn


def softmax_cross_entropy(
    logits: jax.Array, label: jax.Array, *, label_smoothing: float = 0.0
) -> jax.Array:
  """Returns the mean over views of the cross-entropy of one class.

  Args:
    logits: [num_views, num_classes].
    label: Integer of shape [], in [0, num_classes).
    label_smoothing: The share of the weight that is spread over all classes.
  """
  chex.assert_rank([logits, label], [2, 0])
  if not label_smoothing:
    labels = jnp.broadcast_to(label, logits.shape[:1])
    return jnp.mean(
        optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    )
  one_hot = jax.nn.one_hot(label, logits.shape[1], dtype=logits.dtype)
  target = optax.smooth_labels(one_hot, label_smoothing)
  return jnp.mean(
      optax.softmax_cross_entropy(
          logits, jnp.broadcast_to(target, logits.shape)
      )
  )


def sigmoid_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Returns the mean, over views and labels that count, of cross-entropies.

  Args:
    logits: [num_views, num_labels].
    labels: Integers [num_labels]: 1 present, 0 absent, -1 not to be counted.

  Returns:
    The mean; 0, with a gradient of 0, where no label counts.

  Source: Berrada et al. 2023 (arXiv 2308.10888): sigmoid cross-entropy,
    averaged over labels. Labels that do not count are not part of it.
  """
  chex.assert_equal_shape_suffix([logits, labels], 1)
  targets = jnp.maximum(labels, 0).astype(logits.dtype)
  each = optax.sigmoid_binary_cross_entropy(
      logits, jnp.broadcast_to(targets, logits.shape)
  )
  return _mean_over_counted(jnp.mean(each, axis=0), labels)


def softmax_divergence(logits: jax.Array) -> jax.Array:
  """Returns how much the views' predictions differ: a symmetrised KL.

  It is the mean of KL(p_j || p_k) over all ordered pairs of different views j,
  k, with p the softmax of a view's logits; so each pair's divergences both ways
  count alike. It is computed in time linear in the number of views: with two
  views it is the mean of the two divergences, and in general the sum over
  classes of the sample covariance, over views, of p and log p.

  Args:
    logits: [num_views, num_classes], at least two views.

  Returns:
    A scalar, 0 (to rounding) where all views predict the same.

  Source: After Botev et al. 2022 (2203.03304), who add a symmetrised KL between
    the views' predictions to the mean loss over views. This form (which pairs,
    and that it is their mean and not their sum) and its weight were not checked
    against their paper's text, of which only the abstract and a note of its
    authors on its symmetrised KL were at hand.
  """
  chex.assert_rank(logits, 2)
  log_probs = jax.nn.log_softmax(logits)
  return jnp.sum(_covariance(jnp.exp(log_probs), log_probs))


def sigmoid_divergence(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Returns the same for several labels: its mean over those that count.

  Each label is one Bernoulli variable; for two of them, KL both ways adds up to
  (p - q) (logit p - logit q).

  Args:
    logits: [num_views, num_labels], at least two views.
    labels: Integers [num_labels]; read only for which are not -1.

  Returns:
    A scalar, 0 (to rounding) where all views predict the same, and 0 where no
    label counts.
  """
  chex.assert_equal_shape_suffix([logits, labels], 1)
  each = _covariance(jax.nn.sigmoid(logits), logits)
  return _mean_over_counted(each, labels)


def _covariance(x: jax.Array, y: jax.Array) -> jax.Array:
  """[num_views, n] twice to [n]: sample covariances over the views.

  Times two, it is the mean of (x_j - x_k) (y_j - y_k) over pairs j != k.
  """
  num_views = x.shape[0]
  if num_views < 2:
    _validate.fail("num_views", "at least 2 to be compared", num_views)
  x = x - jnp.mean(x, axis=0, keepdims=True)
  y = y - jnp.mean(y, axis=0, keepdims=True)
  return jnp.sum(x * y, axis=0) / (num_views - 1)


def _mean_over_counted(values: jax.Array, labels: jax.Array) -> jax.Array:
  """Mean of values [num_labels] whose label is not -1; 0 if there are none."""
  counts = labels >= 0
  num_counted = jnp.sum(counts.astype(values.dtype))
  total = jnp.sum(jnp.where(counts, values, jnp.zeros_like(values)))
  return total / jnp.maximum(num_counted, 1.0)


def _check_zero(**weights: float) -> None:
  for name, value in weights.items():
    if value:
      _validate.fail(name, "0 for a function", value)


def _at_least_zero(name: str, value: float) -> float:
  number = _validate.as_float(value)
  if not 0 <= number < math.inf:
    _validate.fail(name, "a finite number of at least 0", value)
  return number
