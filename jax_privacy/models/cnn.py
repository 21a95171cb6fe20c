"""Two small convolutional networks for small images.

Invariant: no normalisation across examples, no state. `TanhCNN` is the network
of a published comparison and has no option but its shapes; `SmallCNN` is the
one to tune.

>>> from flax import nnx
>>> import jax.numpy as jnp
>>> model = SmallCNN(rngs=nnx.Rngs(0), image_shape=(8, 8, 1))
>>> model(jnp.zeros((2, 8, 8, 1))).shape
(2, 10)
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from jax_privacy.models import checks, layers

# Height and width below which TanhCNN's last pooling window has no input.
_TANH_CNN_LEAST_SIDE = 16


def _flatten(x: jax.Array) -> jax.Array:
  """[n, height, width, channels] to [n, height * width * channels]."""
  # Not -1, which an empty batch leaves undetermined.
  return x.reshape(x.shape[0], math.prod(x.shape[1:]))


class TanhCNN(nnx.Module):
  """Two convolutions and two linear layers with tanh between them.

  Conv 16 8x8 stride 2 pad 2, tanh, max-pool 2x2 stride 1, conv 32 4x4 stride
  2, tanh, max-pool 2x2 stride 1, linear 32, tanh, linear. 26,010 parameters
  on 28x28x1 images with 10 classes.

  Args:
    rngs: Source of the parameters' random keys.
    num_classes: Number of classes: logits an image.
    image_shape: Height, width and channels; 16 pixels a side at least.

  Raises:
    ValueError: If an option is not positive, or the images are too small.

  Source: Papernot et al. 2020, "Tempered sigmoid activations" (arXiv
  2007.14191), as used by Tramer and Boneh 2020 (arXiv 2011.11660).
  """

  def __init__(
      self,
      *,
      rngs: nnx.Rngs,
      num_classes: int = 10,
      image_shape: Sequence[int] = (28, 28, 1),
  ):
    num_classes = checks.positive_int("num_classes", num_classes)
    shape = checks.positive_ints("image_shape", image_shape, length=3)
    if min(shape[:2]) < _TANH_CNN_LEAST_SIDE:
      raise ValueError(
          f"image_shape must be {_TANH_CNN_LEAST_SIDE} pixels a side at least,"
          f" got {shape}."
      )
    self.image_shape = shape
    self.conv_0 = nnx.Conv(
        shape[2], 16, (8, 8), strides=2, padding=((2, 2), (2, 2)), rngs=rngs
    )
    self.conv_1 = nnx.Conv(
        16, 32, (4, 4), strides=2, padding="VALID", rngs=rngs
    )
    flat = jax.eval_shape(
        self._features, jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    )
    self.linear_0 = nnx.Linear(flat.shape[1], 32, rngs=rngs)
    self.linear_1 = nnx.Linear(32, num_classes, rngs=rngs)

  def __call__(self, images: jax.Array) -> jax.Array:
    """Returns logits [n, num_classes] of float images [n, h, w, c]."""
    checks.image_batch(images, image_shape=self.image_shape)
    x = self._features(images.astype(self.conv_0.kernel.dtype))
    x = jnp.tanh(self.linear_0(x))
    return self.linear_1(x)

  def _features(self, x: jax.Array) -> jax.Array:
    for conv in (self.conv_0, self.conv_1):
      x = jnp.tanh(conv(x))
      x = nnx.max_pool(x, (2, 2), strides=(1, 1))
    return _flatten(x)


class SmallCNN(nnx.Module):
  """Two 3x3 convolutions, the second strided, and one linear layer.

  Args:
    rngs: Source of the parameters' random keys.
    num_classes: Number of classes: logits an image.
    image_shape: Height, width and channels.
    channels: Output channels of the two convolutions.
    num_groups: Groups of the GroupNorm that follows each convolution; divides
      both numbers of channels.

  Raises:
    ValueError: If an option is not positive, or `num_groups` does not divide
      the channels.
  """

  def __init__(
      self,
      *,
      rngs: nnx.Rngs,
      num_classes: int = 10,
      image_shape: Sequence[int] = (8, 8, 1),
      channels: Sequence[int] = (16, 32),
      num_groups: int = 4,
  ):
    num_classes = checks.positive_int("num_classes", num_classes)
    shape = checks.positive_ints("image_shape", image_shape, length=3)
    widths = checks.positive_ints("channels", channels, length=2)
    self.image_shape = shape
    self.conv_0 = nnx.Conv(shape[2], widths[0], (3, 3), rngs=rngs)
    self.norm_0 = layers.GroupNorm(widths[0], num_groups=num_groups)
    self.conv_1 = nnx.Conv(widths[0], widths[1], (3, 3), strides=2, rngs=rngs)
    self.norm_1 = layers.GroupNorm(widths[1], num_groups=num_groups)
    flat = -(-shape[0] // 2) * -(-shape[1] // 2) * widths[1]
    self.linear = nnx.Linear(flat, num_classes, rngs=rngs)

  def __call__(self, images: jax.Array) -> jax.Array:
    """Returns logits [n, num_classes] of float images [n, h, w, c]."""
    checks.image_batch(images, image_shape=self.image_shape)
    x = images.astype(self.conv_0.kernel.dtype)
    x = jax.nn.relu(self.norm_0(self.conv_0(x)))
    x = jax.nn.relu(self.norm_1(self.conv_1(x)))
    return self.linear(_flatten(x))
