"""NFNet-F0 to F7, and the wider F0+ to F7+: no normalisation, much accuracy.

Invariant: as in `nf_resnet.py`, nothing is normalised, so no example reaches
another; scaled activations, standardised weights and each block's beta keep the
signal's size instead. Parameters do not depend on the size of the images: train
and evaluate at two sizes with two models and the same parameters.

>>> from flax import nnx
>>> import jax, jax.numpy as jnp
>>> size = VARIANTS["F0"].train_size
>>> size, VARIANTS["F0"].test_size
(192, 256)
>>> def forward(images):
...   return NFNet(rngs=nnx.Rngs(0), variant="F0")(images)
>>> jax.eval_shape(forward, jnp.zeros((2, size, size, 3))).shape
(2, 1000)
"""

import functools
import types
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jax_privacy.models import (
    activations,
    checks,
    layers,
    masks,
    nf_resnet,
    residual,
)

_STEM_CHANNELS = (16, 32, 64)  # The fourth has half the first stage's.
_STEM_STRIDES = (2, 1, 1, 2)
_STAGE_STRIDES = (1, 2, 2, 2)
# Channels over hidden features of squeeze-excite.
_SQUEEZE = 2
# Channels of the last convolution over the last stage's.
_HEAD = 2
_HEAD_NORMAL = jax.nn.initializers.normal(0.01)

# Of training without privacy, in the authors' code.
STOCHASTIC_DEPTH_RATE = 0.25


class Variant(NamedTuple):
  """What sets the members of the family apart.

  Attributes:
    channels: Output channels of the four stages.
    num_blocks: Number of blocks of the four stages.
    train_size: Pixels a side, in training.
    test_size: Pixels a side, in evaluation.
    dropout_rate: Dropout rate of training without privacy.
  """

  channels: tuple[int, ...]
  num_blocks: tuple[int, ...]
  train_size: int
  test_size: int
  dropout_rate: float


def _variants() -> dict[str, Variant]:
  # Sizes and rates of F7 are those of the authors' code: the paper ends at F6.
  per_level = (
      (192, 256, 0.2),
      (224, 320, 0.3),
      (256, 352, 0.4),
      (320, 416, 0.4),
      (384, 512, 0.5),
      (416, 544, 0.5),
      (448, 576, 0.5),
      (480, 608, 0.5),
  )
  widths = {"": (256, 512, 1536, 1536), "+": (384, 768, 2048, 2048)}
  return {
      f"F{level}{suffix}": Variant(
          channels, tuple(n * (level + 1) for n in (1, 2, 6, 3)), *row
      )
      for suffix, channels in widths.items()
      for level, row in enumerate(per_level)
  }


VARIANTS: Mapping[str, Variant] = types.MappingProxyType(_variants())


def _average_pool(x: jax.Array) -> jax.Array:
  """Means over 2x2 windows with stride 2; a window cut by the edge is smaller.

  An odd side's last row is repeated, which leaves such a window's mean alone.
  """
  n, height, width, features = x.shape
  height, width = -(-height // 2), -(-width // 2)
  odd = ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0))
  x = jnp.pad(x, odd, mode="edge")
  windows = x.reshape(n, height, 2, width, 2, features)
  return jnp.mean(windows, axis=(2, 4))


class _Block(nnx.Module):
  """1x1, two grouped 3x3, and 1x1 convolutions, and a shortcut.

  The shortcut is the identity or, where the stride or the number of channels
  changes, an average pool (if strided) and a 1x1 convolution.
  """

  def __init__(
      self,
      in_features: int,
      out_features: int,
      *,
      inner_features: int,
      group_width: int,
      strides: int,
      activation: str,
      beta: float,
      alpha: float,
      skip_gain: float,
      squeeze_excite: bool,
      rngs: nnx.Rngs,
  ):
    num_groups = inner_features // group_width

    def pointwise(d_in, d_out):
      return layers.WSConv(d_in, d_out, kernel_size=(1, 1), rngs=rngs)

    def grouped(stride):
      return layers.WSConv(
          inner_features,
          inner_features,
          kernel_size=(3, 3),
          strides=stride,
          num_groups=num_groups,
          rngs=rngs,
      )

    self.strides = strides
    self.activation = activation
    self.beta = beta
    self.alpha = alpha
    self.conv_0 = pointwise(in_features, inner_features)
    self.conv_1 = grouped(strides)
    self.conv_2 = grouped(1)
    self.conv_3 = pointwise(inner_features, out_features)
    project = strides > 1 or in_features != out_features
    self.shortcut = pointwise(in_features, out_features) if project else None
    hidden = max(1, out_features // _SQUEEZE)
    self.gate = (
        layers.SqueezeExcite(out_features, hidden_features=hidden, rngs=rngs)
        if squeeze_excite
        else None
    )
    self.skip_gain = nnx.Param(jnp.asarray(skip_gain, jnp.float32))

  def __call__(self, x: jax.Array, keep: jax.Array | None) -> jax.Array:
    """`keep`, bool [n], says whose residual branch is not dropped."""
    y = activations.scaled(self.activation, x, factor=self.beta)
    shortcut = x
    if self.shortcut is not None:
      shortcut = self.shortcut(_average_pool(y) if self.strides > 1 else y)
    y = self.conv_0(y)
    for conv in (self.conv_1, self.conv_2, self.conv_3):
      y = conv(activations.scaled(self.activation, y))
    if self.gate is not None:
      y = self.gate(y)
    y = masks.apply_kept(y, keep)
    scale = jnp.reshape(self.skip_gain[...] * self.alpha, (1, 1, 1, 1))
    return shortcut + y * scale


class NFNet(residual.ResidualNetwork):
  """A normaliser-free network of the F family, F0 to F7 or F0+ to F7+.

  Stem: four 3x3 convolutions to 16, 32, 64 and half the first stage's
  channels, the first and the last strided, activations between. Four stages
  with strides 1, 2, 2, 2. Head: 1x1 convolution to twice the channels,
  activation, mean over space, dropout, linear. Every convolution is
  weight-standardised and has a gain and a bias. With 1000 classes F0 has
  71,489,284 parameters, and each level above it 61,144,972 more.

  Stochastic depth and dropout are off unless asked for, and `skip_gain` is 1:
  what suits DP-SGD. Without privacy the authors use `STOCHASTIC_DEPTH_RATE`,
  the variant's `dropout_rate`, and a `skip_gain` of 0.

  Args:
    rngs: Source of the parameters' random keys.
    variant: A key of `VARIANTS`.
    num_classes: Number of classes: logits an image.
    image_shape: Height, width and channels; None for the variant's training
      size and 3 channels.
    channels: Channels of the four stages; None for the variant's.
    num_blocks: Number of blocks of the four stages; None for the variant's.
    group_width: Channels of a group of the 3x3 convolutions.
    bottleneck: A block's inner channels over its outer ones; rounded down to
      whole groups.
    big_width: Whether the outer channels are the channels of the block's
      output; of its input if False.
    activation: One of `activations.names()`, scaled.
    alpha: Factor of the residual branches.
    skip_gain: Start of the scalar that each residual branch is multiplied by.
      1 for DP-SGD from scratch, as De et al. do; 0 makes every block start as
      its shortcut (SkipInit).
    squeeze_excite: Whether to gate the channels of each residual branch (ratio
      1/2).
    stochastic_depth_rate: Probability, times i / n, that block i of n, from 0,
      drops its residual branch; branches that are kept are not scaled up.
      Only for calls with keys.
    dropout_rate: Probability that a feature of the linear layer's input is
      dropped. Only for calls with keys.

  Raises:
    ValueError: If an option breaks its rule.

  Source: Brock et al. 2021, "High-performance large-scale image recognition
  without normalization" (arXiv 2102.06171), and its code; fine-tuned with
  DP-SGD by De et al. 2022 (arXiv 2204.13650).
  """

  def __init__(
      self,
      *,
      rngs: nnx.Rngs,
      variant: str = "F0",
      num_classes: int = 1000,
      image_shape: Sequence[int] | None = None,
      channels: Sequence[int] | None = None,
      num_blocks: Sequence[int] | None = None,
      group_width: int = 128,
      bottleneck: float = 0.5,
      big_width: bool = True,
      activation: str = "gelu",
      alpha: float = 0.2,
      skip_gain: float = 1.0,
      squeeze_excite: bool = True,
      stochastic_depth_rate: float = 0.0,
      dropout_rate: float = 0.0,
  ):
    preset = VARIANTS[checks.one_of("variant", variant, valid=tuple(VARIANTS))]
    num_classes = checks.positive_int("num_classes", num_classes)
    if image_shape is None:
      image_shape = (preset.train_size, preset.train_size, 3)
    shape = checks.positive_ints("image_shape", image_shape, length=3)
    channels = preset.channels if channels is None else channels
    channels = checks.positive_ints("channels", channels, length=4)
    num_blocks = preset.num_blocks if num_blocks is None else num_blocks
    num_blocks = checks.positive_ints("num_blocks", num_blocks, length=4)
    group_width = checks.positive_int("group_width", group_width)
    bottleneck = checks.positive("bottleneck", bottleneck)
    checks.flag("big_width", big_width)
    alpha = checks.positive("alpha", alpha)
    rate = checks.rate("stochastic_depth_rate", stochastic_depth_rate)
    self.dropout_rate = checks.rate("dropout_rate", dropout_rate)
    self.drop_rates = masks.drop_rates(rate, num_blocks=sum(num_blocks))
    self.image_shape = shape
    self.activation = activations.check(activation)
    make_block = functools.partial(
        _Block,
        group_width=group_width,
        activation=activation,
        alpha=alpha,
        skip_gain=checks.finite("skip_gain", skip_gain),
        squeeze_excite=checks.flag("squeeze_excite", squeeze_excite),
        rngs=rngs,
    )
    features = max(1, channels[0] // 2)
    self.stem = _stem(shape[2], features, rngs=rngs)
    self.blocks = nnx.List()
    scales = iter(nf_resnet.betas(num_blocks, alpha=alpha))
    stages = zip(num_blocks, channels, _STAGE_STRIDES, strict=True)
    for count, width, strides in stages:
      for i in range(count):
        inner = int((width if big_width else features) * bottleneck)
        block = make_block(
            features,
            width,
            inner_features=_whole_groups(inner, group_width),
            strides=strides if i == 0 else 1,
            beta=next(scales),
        )
        self.blocks.append(block)
        features = width
    self.final = layers.WSConv(
        features, _HEAD * features, kernel_size=(1, 1), rngs=rngs
    )
    self.linear = nnx.Linear(
        _HEAD * features, num_classes, kernel_init=_HEAD_NORMAL, rngs=rngs
    )

  def _stem_features(self, images: jax.Array) -> jax.Array:
    """Returns what the first block sees of images."""
    x = self.stem[0](images)
    for conv in list(self.stem)[1:]:
      x = conv(activations.scaled(self.activation, x))
    return x

  def _head_features(self, x: jax.Array) -> jax.Array:
    """Returns what is averaged over space, from the last block's output."""
    return activations.scaled(self.activation, self.final(x))


def _stem(in_features: int, out_features: int, *, rngs: nnx.Rngs) -> nnx.List:
  convs = nnx.List()
  widths = (*_STEM_CHANNELS, out_features)
  for width, strides in zip(widths, _STEM_STRIDES, strict=True):
    convs.append(
        layers.WSConv(
            in_features, width, kernel_size=(3, 3), strides=strides, rngs=rngs
        )
    )
    in_features = width
  return convs


def _whole_groups(inner_features: int, group_width: int) -> int:
  if inner_features < group_width:
    raise ValueError(
        "group_width must be at most a block's inner channels,"
        f" {inner_features}, got {group_width}."
    )
  return inner_features // group_width * group_width
