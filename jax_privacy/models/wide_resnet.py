"""WRN-d-k: the wide residual network that De et al. train with DP-SGD.

Invariant: inside a block the order is ReLU, GroupNorm, convolution (not norm
then ReLU), and there is no normalisation before the stem or after the stem's
convolution. Every convolution is weight-standardised.

>>> from flax import nnx
>>> import jax, jax.numpy as jnp
>>> def forward(images):
...   return WideResNet(rngs=nnx.Rngs(0), depth=16, width=4)(images)
>>> jax.eval_shape(forward, jnp.zeros((2, 32, 32, 3))).shape
(2, 10)
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from jax_privacy.models import checks, layers

_STEM_CHANNELS = 16
_STAGE_CHANNELS = (16, 32, 64)
_STAGE_STRIDES = (1, 2, 2)
_MAX_DEPTH = 1000


class _NormConv(nnx.Module):
  """ReLU, GroupNorm, weight-standardised convolution."""

  def __init__(
      self,
      in_features: int,
      out_features: int,
      *,
      kernel_size: int,
      strides: int,
      num_groups: int,
      rngs: nnx.Rngs,
  ):
    self.norm = layers.GroupNorm(in_features, num_groups=num_groups)
    self.conv = layers.WSConv(
        in_features,
        out_features,
        kernel_size=(kernel_size, kernel_size),
        strides=strides,
        rngs=rngs,
    )

  def __call__(self, x: jax.Array) -> jax.Array:
    return self.conv(self.norm(jax.nn.relu(x)))


class _Block(nnx.Module):
  """Two 3x3 units and a shortcut: a 1x1 unit if `project`, or the identity."""

  def __init__(
      self,
      in_features: int,
      out_features: int,
      *,
      strides: int,
      project: bool,
      num_groups: int,
      rngs: nnx.Rngs,
  ):
    def unit(features, size, stride):
      return _NormConv(
          features,
          out_features,
          kernel_size=size,
          strides=stride,
          num_groups=num_groups,
          rngs=rngs,
      )

    self.shortcut = unit(in_features, 1, strides) if project else None
    self.unit_0 = unit(in_features, 3, strides)
    self.unit_1 = unit(out_features, 3, 1)

  def __call__(self, x: jax.Array) -> jax.Array:
    shortcut = x if self.shortcut is None else self.shortcut(x)
    return shortcut + self.unit_1(self.unit_0(x))


class WideResNet(nnx.Module):
  """A wide residual network with (depth - 4) / 6 blocks in each of 3 stages.

  Stem: 3x3 convolution to 16 channels. Stages of 16k, 32k and 64k channels
  and strides 1, 2, 2. Head: ReLU, GroupNorm, mean over space, linear. No
  dropout. WRN-16-4 with 10 classes has 2,753,818 parameters, WRN-40-4
  8,961,306, and WRN-28-10 with 100 classes 36,558,068.

  Args:
    rngs: where the random keys of the parameters come from.
    depth: d, 6n + 4 for n blocks a stage.
    width: k, what the stages' channels are multiplied by.
    num_classes: logits an image.
    image_shape: (height, width, channels).
    num_groups: groups of every GroupNorm; divides 16.

  Raises:
    ValueError: if the depth is not 6n + 4 for an n of 1 or more, an option is
      not a positive integer, or `num_groups` does not divide 16.

  Source: De et al. 2022, "Unlocking high-accuracy differentially private
  image classification through scale" (arXiv 2204.13650), and its code.
  """

  def __init__(
      self,
      *,
      rngs: nnx.Rngs,
      depth: int = 16,
      width: int = 4,
      num_classes: int = 10,
      image_shape: Sequence[int] = (32, 32, 3),
      num_groups: int = 16,
  ):
    depth = checks.positive_int("depth", depth)
    width = checks.positive_int("width", width)
    num_classes = checks.positive_int("num_classes", num_classes)
    shape = checks.positive_ints("image_shape", image_shape, length=3)
    if not 10 <= depth <= _MAX_DEPTH or depth % 6 != 4:
      raise ValueError(
          f"depth must be 6n + 4 with n >= 1 and at most {_MAX_DEPTH}, got"
          f" {depth}."
      )
    self.image_shape = shape
    self.stem = layers.WSConv(
        shape[2], _STEM_CHANNELS, kernel_size=(3, 3), rngs=rngs
    )
    blocks = []
    features = _STEM_CHANNELS
    for channels, strides in zip(_STAGE_CHANNELS, _STAGE_STRIDES, strict=True):
      for i in range((depth - 4) // 6):
        block = _Block(
            features,
            channels * width,
            strides=strides if i == 0 else 1,
            project=i == 0,
            num_groups=num_groups,
            rngs=rngs,
        )
        blocks.append(block)
        features = channels * width
    self.blocks = nnx.List(blocks)
    self.norm = layers.GroupNorm(features, num_groups=num_groups)
    self.linear = nnx.Linear(features, num_classes, rngs=rngs)

  def __call__(self, images: jax.Array) -> jax.Array:
    """Returns logits [n, num_classes] of float images [n, h, w, c]."""
    checks.image_batch(images, image_shape=self.image_shape)
    x = self.stem(images)
    for block in self.blocks:
      x = block(x)
    x = self.norm(jax.nn.relu(x))
    return self.linear(jnp.mean(x, axis=(1, 2)))
