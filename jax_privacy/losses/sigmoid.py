"""The loss "sigmoid": cross-entropies, for several labels an example.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy import losses
  >>> labels = jnp.array([1, -1])  # The second does not count.
  >>> print(losses.sigmoid_cross_entropy(jnp.zeros((1, 2)), labels))
  0.6931472
"""

import chex
import jax
import jax.numpy as jnp
import optax

from jax_privacy.losses import covariance
from jax_privacy.losses.loss import Loss


def sigmoid_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Returns the mean, over views and labels that count, of cross-entropies.

  Args:
    logits: Numbers [num_views, num_labels].
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


def sigmoid_divergence(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Returns the same for several labels: its mean over those that count.

  Each label is one Bernoulli variable; for two of them, KL both ways adds up to
  (p - q) (logit p - logit q).

  Args:
    logits: Numbers [num_views, num_labels], at least two views.
    labels: Integers [num_labels]; read only for which are not -1.

  Returns:
    A scalar, 0 (to rounding) where all views predict the same, and 0 where no
    label counts.
  """
  chex.assert_equal_shape_suffix([logits, labels], 1)
  each = covariance.over_views(jax.nn.sigmoid(logits), logits)
  return _mean_over_counted(each, labels)


def _mean_over_counted(values: jax.Array, labels: jax.Array) -> jax.Array:
  """Mean of values [num_labels] whose label is not -1; 0 if there are none."""
  counts = labels >= 0
  num_counted = jnp.sum(counts.astype(values.dtype))
  total = jnp.sum(jnp.where(counts, values, jnp.zeros_like(values)))
  return total / jnp.maximum(num_counted, 1.0)


SIGMOID = Loss(
    name="sigmoid",
    mean_fn=sigmoid_cross_entropy,
    divergence_fn=sigmoid_divergence,
    has_several_labels=True,
)
