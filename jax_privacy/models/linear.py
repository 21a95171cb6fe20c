"""One linear layer, for features that need no more.

Invariant: the logits are an affine function of the input; the parameters are
one kernel and one bias.

>>> from flax import nnx
>>> import jax.numpy as jnp
>>> model = Linear(rngs=nnx.Rngs(0), image_shape=(7, 7, 81))
>>> model(jnp.zeros((2, 7, 7, 81))).shape
(2, 10)
"""

import math
from collections.abc import Sequence

import jax
from flax import nnx

from jax_privacy.models import checks

# Of the kernel: uniform within 1 / sqrt(inputs), as PyTorch's linear layers.
_UNIFORM = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class Linear(nnx.Module):
  """Logistic regression, on pixels or features.

  Args:
    rngs: Source of the kernel's random key.
    num_classes: Number of classes: logits an image.
    image_shape: Height, width and channels of images or features.

  Raises:
    ValueError: If an option is not positive.

  Source: Tramer and Boneh 2020 (arXiv 2011.11660), for scattering features.
  """

  def __init__(
      self,
      *,
      rngs: nnx.Rngs,
      num_classes: int = 10,
      image_shape: Sequence[int] = (28, 28, 1),
  ):
    num_classes = checks.positive_int("num_classes", num_classes)
    self.image_shape = checks.positive_ints(
        "image_shape", image_shape, length=3
    )
    self.linear = nnx.Linear(
        math.prod(self.image_shape),
        num_classes,
        kernel_init=_UNIFORM,
        rngs=rngs,
    )

  def __call__(self, images: jax.Array) -> jax.Array:
    """Returns logits [n, num_classes] of float images [n, h, w, c]."""
    checks.image_batch(images, image_shape=self.image_shape)
    x = images.astype(self.linear.kernel.dtype)
    # Not -1, which an empty batch leaves undetermined.
    return self.linear(x.reshape(x.shape[0], math.prod(self.image_shape)))
