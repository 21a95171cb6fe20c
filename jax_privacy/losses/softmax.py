"""The loss "softmax": cross-entropy, for one class an example.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy import losses
  >>> print(losses.softmax_cross_entropy(jnp.zeros((1, 4)), jnp.int32(0)))
  1.3862944
"""

import chex
import jax
import jax.numpy as jnp
import optax

from jax_privacy.losses import covariance
from jax_privacy.losses.loss import Loss


def softmax_cross_entropy(
    logits: jax.Array, label: jax.Array, *, label_smoothing: float = 0.0
) -> jax.Array:
  """Returns the mean over views of the cross-entropy of one class.

  Args:
    logits: Numbers [num_views, num_classes].
    label: Integer of shape [], in [0, num_classes).
    label_smoothing: Share of the weight that is spread over all classes.
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


def softmax_divergence(logits: jax.Array) -> jax.Array:
  """Returns how much the views' predictions differ: a symmetrised KL.

  It is the mean of KL(p_j || p_k) over all ordered pairs of different views j,
  k, with p the softmax of a view's logits; so each pair's divergences both ways
  count alike. It is computed in time linear in the number of views: with two
  views it is the mean of the two divergences, and in general the sum over
  classes of the sample covariance, over views, of p and log p.

  Args:
    logits: Numbers [num_views, num_classes], at least two views.

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
  return jnp.sum(covariance.over_views(jnp.exp(log_probs), log_probs))


SOFTMAX = Loss(
    name="softmax",
    mean_fn=softmax_cross_entropy,
    divergence_fn=lambda logits, label: softmax_divergence(logits),
    takes_smoothing=True,
)
