"""A source, a model, a loss, a view and a metric of one's own, for images."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jax_privacy import data


def load_halves(*, split, num_examples=None):
  rng = np.random.default_rng({"train": 0, "test": 1}[split])
  images, labels = rng.integers(156, size=(400, 8, 8)), np.arange(400) % 2
  images[0::2, :4] += 100  # The upper half is the brighter one.
  images[1::2, 4:] += 100
  names = ("above", "below")
  return data.ArraySource(
      images.astype("u1"), labels, label_names=names, num_examples=num_examples
  )


class TwoLayers(nnx.Module):

  def __init__(self, *, rngs, num_classes, image_shape, width=16):
    self.hidden = nnx.Linear(np.prod(image_shape), width, rngs=rngs)
    self.head = nnx.Linear(width, num_classes, rngs=rngs)

  def __call__(self, images):
    flat = images.reshape(len(images), -1)
    return self.head(nnx.relu(self.hidden(flat)))


def poly_loss(logits, label):  # Logits [num_views, num_classes].
  labels = jnp.full(len(logits), label)
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  return jnp.mean(losses - jnp.exp(-losses))


def brighten(key, image, most):
  return image + jax.random.uniform(key, maxval=most)


def confidence(batch, outputs):
  probs = np.asarray(jax.nn.softmax(outputs))
  return probs[np.arange(len(probs)), batch["label"]]
