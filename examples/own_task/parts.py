"""A source, a model, a loss, a view and a metric of one's own, for images."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jax_privacy import data


def load_halves(*, split, num_examples=None, size=8):
  rng = np.random.default_rng({"train": 0, "test": 1}[split])
  images = rng.integers(156, size=(400, size, size))
  labels = rng.integers(2, size=400)
  images[labels == 0, : size // 2] += 100  # The upper half is the brighter one.
  images[labels == 1, size // 2 :] += 100
  return data.ArraySource(
      images.astype(np.uint8),
      labels,
      label_names=("above", "below"),
      num_examples=num_examples,
  )


class TwoLayers(nnx.Module):

  def __init__(self, *, rngs, num_classes, image_shape, width=16):
    self.hidden = nnx.Linear(math.prod(image_shape), width, rngs=rngs)
    self.head = nnx.Linear(width, num_classes, rngs=rngs)

  def __call__(self, images):
    flat = images.reshape(images.shape[0], -1)
    return self.head(nnx.relu(self.hidden(flat)))


def poly_loss(logits, label):
  labels = jnp.broadcast_to(label, logits.shape[:1])  # One for each view.
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  return jnp.mean(losses - jnp.exp(-losses))


def brighten(key, image, most):
  return image + jax.random.uniform(key, maxval=most)


def confidence(batch, outputs):
  probs = np.asarray(jax.nn.softmax(outputs))
  return np.take_along_axis(probs, batch["label"][:, None], axis=1)[:, 0]
