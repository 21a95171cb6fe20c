"""Draws images whose mean features are those that were released.

Invariant: what is trained sees the released sums alone, so that all of it is
post-processing.

>>> embedding = mean_embedding.Embedding.draw(
...     4, num_classes=2, num_features=8, length_scale=1.0)
>>> means = embedding.means(np.ones(18))
>>> labels = np.array([0, 1, 1])
>>> draw(embedding, means, labels, seed=0, num_steps=2).shape
(3, 4)
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.synthetic import mean_embedding

_CODE, _HIDDEN = 16, (200, 200)
_ROWS = 1000


def draw(
    embedding: mean_embedding.Embedding,
    means: np.ndarray,
    labels: np.ndarray,
    *,
    seed: int,
    num_steps: int = 2000,
    batch_size: int = 50,
    learning_rate: float = 1e-3,
) -> np.ndarray:
  """Returns images of these classes, floats in [-1, 1], [n, num_pixels].

  A network of noise and class is trained by Adam: the squared distances of its
  images' mean features to the released ones, summed over classes.

  Args:
    embedding: Embedding that was released.
    means: Mean features of each class, [num_classes, num_features].
    labels: Class of each image, [n].
    seed: Seed of the network and of what is drawn.
    num_steps: Number of steps of Adam.
    batch_size: Number of images of each class in a step.
    learning_rate: Learning rate of Adam.

  Source: Harder, Adamczewski and Park 2021 (arXiv 2002.11603).
  """
  key, start, images = jax.random.split(jax.random.key(seed), 3)
  params = _init(start, embedding)
  target = jnp.asarray(means, jnp.float32)
  frequencies = jnp.asarray(embedding.frequencies, jnp.float32)
  optimizer = optax.adam(learning_rate)

  def loss_fn(params, key):
    classes = jnp.repeat(jnp.arange(embedding.num_classes), batch_size)
    drawn = _images(params, key, classes)
    angles = drawn @ frequencies.T
    both = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=1)
    both = both.reshape(embedding.num_classes, batch_size, -1)
    found = jnp.mean(both, axis=1) / jnp.sqrt(float(len(frequencies)))
    return jnp.sum((found - target) ** 2)

  def step_fn(state, number):
    params, opt_state = state
    grads = jax.grad(loss_fn)(params, jax.random.fold_in(key, number))
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return (optax.apply_updates(params, updates), opt_state), None

  numbers = jnp.arange(num_steps, dtype=jnp.uint32)
  with jax.numpy_dtype_promotion("standard"):  # Adam raises to whole numbers.
    state = params, optimizer.init(params)
    params = jax.jit(lambda s: jax.lax.scan(step_fn, s, numbers)[0][0])(state)
  drawn = []
  for first in range(0, len(labels), _ROWS):
    some = jnp.asarray(labels[first : first + _ROWS], jnp.int32)
    some_key = jax.random.fold_in(images, first)
    drawn.append(np.asarray(_images(params, some_key, some)))
  return np.concatenate(drawn)


def _init(key, embedding):
  """Returns weights and biases of each layer."""
  sizes = (
      _CODE + embedding.num_classes,
      *_HIDDEN,
      embedding.frequencies.shape[1],
  )
  keys = jax.random.split(key, len(sizes) - 1)
  make = jax.nn.initializers.lecun_normal()
  return [
      {"w": make(k, (i, o)), "b": jnp.zeros(o)}
      for k, i, o in zip(keys, sizes, sizes[1:], strict=False)
  ]


def _images(params, key, labels):
  """Draws an image of each class, in [-1, 1]."""
  num_classes = params[0]["w"].shape[0] - _CODE
  code = jax.random.normal(key, (len(labels), _CODE))
  x = jnp.concatenate([code, jax.nn.one_hot(labels, num_classes)], axis=1)
  for i, layer in enumerate(params):
    x = x @ layer["w"] + layer["b"][None]
    x = jnp.tanh(x) if i == len(params) - 1 else jax.nn.relu(x)
  return x
