"""Networks that are trained, without privacy, on drawn images.

Invariant: the parameters of the epoch that is best on held-out drawn images are
kept; no real image is seen.

>>> from flax import nnx
>>> ConvNet(rngs=nnx.Rngs(0), image_shape=(28, 28, 1)).hidden.kernel.shape
(1152, 128)
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments.synthetic import reading
from jax_privacy import models

_WIDTHS, _HIDDEN = (32, 64, 128), 128
_DROPPED = 0.5
_ROWS = 256
# Below this, three convolutions and two poolings leave nothing.
_LEAST_UNPADDED = 18


class ConvNet(nnx.Module):
  """The network of papers on private drawn images: three convolutions.

  Convolutions of 3 x 3 with 32, 64 and 128 channels, each but the last followed
  by a maximum over 2 x 2 pixels and dropout, a layer of 128 with dropout, and
  the classes. Images below 18 x 18 are padded, so that pixels are left.

  Args:
    rngs: Source of the parameters' random keys.
    num_classes: Number of classes.
    image_shape: Height, width and channels.

  Source: Dockhorn et al. 2023 (arXiv 2210.09929), after Cao et al. 2021.
  """

  def __init__(
      self,
      *,
      rngs: nnx.Rngs,
      num_classes: int = 10,
      image_shape: Sequence[int] = (28, 28, 1),
  ):
    padding = "VALID" if min(image_shape[:2]) >= _LEAST_UNPADDED else "SAME"
    channels = (image_shape[2], *_WIDTHS)
    self.convs = nnx.List(
        nnx.Conv(i, o, (3, 3), padding=padding, rngs=rngs)
        for i, o in zip(channels, channels[1:], strict=False)
    )
    left = jax.eval_shape(
        lambda: self._features(jnp.zeros((1, *image_shape)), None)
    )
    self.hidden = nnx.Linear(left.shape[1], _HIDDEN, rngs=rngs)
    self.out = nnx.Linear(_HIDDEN, num_classes, rngs=rngs)

  def _features(self, x, key):
    for i, conv in enumerate(self.convs):
      x = conv(x)
      if i < len(_WIDTHS) - 1:
        size = tuple(min(2, side) for side in x.shape[1:3])
        x = _dropped(jax.nn.relu(nnx.max_pool(x, size, size)), key, i)
      else:
        x = jax.nn.relu(x)
    return x.reshape(len(x), -1)

  def __call__(
      self, images: jax.Array, key: jax.Array | None = None
  ) -> jax.Array:
    """Returns logits [n, num_classes].

    Args:
      images: Floats [n, height, width, channels], in [-1, 1].
      key: Key of what is dropped; None to drop nothing.
    """
    hidden = jax.nn.relu(self.hidden(self._features(images, key)))
    return self.out(_dropped(hidden, key, len(_WIDTHS)))


def _dropped(x, key, number):
  if key is None:
    return x
  keep = jax.random.bernoulli(
      jax.random.fold_in(key, number), 1.0 - _DROPPED, x.shape
  )
  return jnp.where(keep, x / (1.0 - _DROPPED), 0.0)


def _functional(name, rngs, **sizes):
  """Returns `logits_fn(params, images, key)`, and the parameters."""
  if name == "cnn":
    graph, params = nnx.split(ConvNet(rngs=rngs, **sizes))

    def logits_fn(params, images, key):
      return nnx.merge(graph, params)(images, key)

    return logits_fn, params
  model = models.build("wide_resnet", rngs=rngs, depth=16, width=4, **sizes)
  apply_fn, params = models.functional(model)
  return lambda params, images, key: apply_fn(params, images), params


class Fitted(NamedTuple):
  """A classifier that was trained on drawn images.

  Attributes:
    classes_fn: `classes_fn(images)`, the classes [n] of uint8 images.
    held_out: Accuracy on the held-out drawn images.
    choice: Text that says what was chosen on these.
  """

  classes_fn: Callable[[np.ndarray], np.ndarray]
  held_out: float
  choice: str


def fit(
    name: str,
    train: reading.ImageSet,
    held_out: reading.ImageSet,
    *,
    seed: int = 0,
    num_epochs: int = 50,
    batch_size: int = 128,
    learning_rate: float = 3e-4,
) -> Fitted:
  """Trains a network by Adam, and keeps its best epoch.

  Args:
    name: Name: "cnn" or "wrn", a WRN-16-4.
    train: Drawn images to train on.
    held_out: Drawn images to choose the epoch by.
    seed: Seed of parameters, batches and dropout.
    num_epochs: Number of epochs.
    batch_size: Number of images of a batch; the last of an epoch, if smaller,
      is left out.
    learning_rate: Learning rate of Adam.

  Returns:
    The network of its best epoch.
  """
  logits_fn, params = _functional(
      name,
      nnx.Rngs(seed),
      num_classes=len(train.names),
      image_shape=train.images.shape[1:],
  )
  optimizer = optax.adam(learning_rate)
  epoch_fn = _make_epoch_fn(logits_fn, optimizer)
  data = jnp.asarray(train.images), jnp.asarray(train.labels, jnp.int32)
  size = min(batch_size, len(train.labels))
  rng, key = np.random.default_rng(seed), jax.random.key(seed)
  state, best = (params, optimizer.init(params)), (-1.0, 0, params)
  classes_fn = _make_classes_fn(logits_fn)
  for epoch in range(num_epochs):
    order = rng.permutation(len(train.labels))
    order = order[: len(order) // size * size].reshape(-1, size)
    with jax.numpy_dtype_promotion("standard"):  # As Adam needs it.
      state = epoch_fn(state, data, order, jax.random.fold_in(key, epoch))
    found = classes_fn(state[0], held_out.images)
    accuracy = float(np.mean(found == held_out.labels))
    if accuracy > best[0]:
      best = accuracy, epoch + 1, state[0]
  accuracy, epoch, params = best
  return Fitted(
      lambda images: classes_fn(params, images), accuracy, f"epoch {epoch}"
  )


def _scaled(images: jax.Array) -> jax.Array:
  return images.astype(jnp.float32) / 127.5 - 1.0


def _make_epoch_fn(logits_fn, optimizer):
  def loss_fn(params, images, labels, key):
    logits = logits_fn(params, _scaled(images), key)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return jnp.mean(losses)

  @jax.jit
  def epoch_fn(state, data, order, key):
    def step_fn(state, x):
      number, rows = x
      params, opt_state = state
      step_key = jax.random.fold_in(key, number)
      grads = jax.grad(loss_fn)(params, data[0][rows], data[1][rows], step_key)
      updates, opt_state = optimizer.update(grads, opt_state, params)
      return (optax.apply_updates(params, updates), opt_state), None

    numbers = jnp.arange(len(order), dtype=jnp.uint32)
    return jax.lax.scan(step_fn, state, (numbers, order))[0]

  return epoch_fn


def _make_classes_fn(logits_fn):
  @jax.jit
  def batch_fn(params, images):
    return jnp.argmax(logits_fn(params, _scaled(images), None), axis=-1)

  def classes_fn(params, images):
    found = []
    for start in range(0, len(images), _ROWS):
      rows = np.minimum(np.arange(start, start + _ROWS), len(images) - 1)
      found.append(np.asarray(batch_fn(params, images[rows])))
    return np.concatenate(found)[: len(images)]

  return classes_fn
