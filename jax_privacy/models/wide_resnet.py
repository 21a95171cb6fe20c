"""WRN-d-k: the wide residual network that De et al. train with DP-SGD.

Invariant: inside a block the order is ReLU, GroupNorm, convolution (not norm
then ReLU), and there is no normalisation before the stem or after the stem's
convolution. By default every convolution is weight-standardised.

>>> from flax import nnx
>>> import jax, jax.numpy as jnp
>>> def forward(images):
...   return WideResNet(rngs=nnx.Rngs(0), depth=16, width=4)(images)
>>> jax.eval_shape(forward, jnp.zeros((2, 32, 32, 3))).shape
(2, 10)
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jax_privacy.models import activations, checks, layers, masks, residual

_STEM_CHANNELS = 16
_STAGE_CHANNELS = (16, 32, 64)
_STAGE_STRIDES = (1, 2, 2)
# Channels over hidden features of squeeze-excite.
_SQUEEZE = 4
_MAX_DEPTH = 1000


def _identity(x: jax.Array) -> jax.Array:
  return x


class _Layers(NamedTuple):
  """What a network's norms, convolutions and activations are.

  Attributes:
    norm: Channels to a layer.
    conv: (channels in, channels out, pixels a side, strides) to a layer.
    activate: A function of arrays.
  """

  norm: Callable[[int], Callable[[jax.Array], jax.Array]]
  conv: Callable[[int, int, int, int], nnx.Module]
  activate: Callable[[jax.Array], jax.Array]


def _layers(
    *, norm, conv, num_groups, activation, scale_activation, rngs
) -> _Layers:
  checks.one_of("norm", norm, valid=("group", "none"))
  checks.one_of("conv", conv, valid=("plain", "standardised"))
  conv_class = layers.WSConv if conv == "standardised" else nnx.Conv

  def make_norm(features):
    if norm == "none":
      return _identity
    return layers.GroupNorm(features, num_groups=num_groups)

  def make_conv(d_in, d_out, size, strides):
    return conv_class(
        d_in, d_out, kernel_size=(size, size), strides=strides, rngs=rngs
    )

  scaling = activations.scaled if scale_activation else activations.plain
  return _Layers(
      norm=make_norm,
      conv=make_conv,
      activate=functools.partial(scaling, activations.check(activation)),
  )


class _NormConv(nnx.Module):
  """Activation, norm, convolution: ReLU, GroupNorm, WSConv by default."""

  def __init__(
      self, kit: _Layers, d_in: int, d_out: int, *, size: int, strides: int
  ):
    self.activate = kit.activate
    self.norm = kit.norm(d_in)
    self.conv = kit.conv(d_in, d_out, size, strides)

  def __call__(self, x: jax.Array) -> jax.Array:
    return self.conv(self.norm(self.activate(x)))


class _Block(nnx.Module):
  """Two 3x3 units and a shortcut: a 1x1 unit if `project`, or the identity."""

  def __init__(
      self,
      kit: _Layers,
      in_features: int,
      out_features: int,
      *,
      strides: int,
      project: bool,
      skip_gain: float | None,
      squeeze_excite: bool,
      rngs: nnx.Rngs,
  ):
    def unit(features, size, stride):
      return _NormConv(kit, features, out_features, size=size, strides=stride)

    self.shortcut = unit(in_features, 1, strides) if project else None
    self.unit_0 = unit(in_features, 3, strides)
    self.unit_1 = unit(out_features, 3, 1)
    hidden = max(1, out_features // _SQUEEZE)
    self.gate = (
        layers.SqueezeExcite(out_features, hidden_features=hidden, rngs=rngs)
        if squeeze_excite
        else None
    )
    self.skip_gain = (
        None
        if skip_gain is None
        else nnx.Param(jnp.asarray(skip_gain, jnp.float32))
    )

  def __call__(self, x: jax.Array, keep: jax.Array | None) -> jax.Array:
    """`keep`, bool [n], says whose residual branch is not dropped."""
    shortcut = x if self.shortcut is None else self.shortcut(x)
    y = self.unit_1(self.unit_0(x))
    if self.gate is not None:
      y = self.gate(y)
    y = masks.apply_kept(y, keep)
    if self.skip_gain is not None:
      y = y * jnp.reshape(self.skip_gain[...], (1, 1, 1, 1))
    return shortcut + y


class WideResNet(residual.ResidualNetwork):
  """A wide residual network with (depth - 4) / 6 blocks in each of 3 stages.

  Stem: 3x3 convolution to 16 channels. Stages of 16k, 32k and 64k channels
  and strides 1, 2, 2. Head: ReLU, GroupNorm, mean over space, linear. With the
  defaults it is the paper's network for DP-SGD, and WRN-16-4 with 10 classes
  has 2,753,818 parameters, WRN-40-4 8,961,306, and WRN-28-10 with 100 classes
  36,558,068.

  Args:
    rngs: Source of the parameters' random keys.
    depth: Number of layers, 6n + 4 for n blocks a stage.
    width: Factor of the stages' channels, k.
    num_classes: Number of classes: logits an image.
    image_shape: Height, width and channels.
    num_groups: Groups of every GroupNorm; divides 16.
    norm: Name: "group", or "none" for no normalisation.
    conv: Name: "standardised" (WSConv), or "plain" (with a bias).
    activation: One of `activations.names()`.
    scale_activation: Whether to multiply activations by the gain that keeps the
      variance, for networks without normalisation.
    skip_gain: Start of a scalar that each residual branch is multiplied by: 0
      is SkipInit; None for no such scalar, as in the paper's results.
    squeeze_excite: Whether to gate the channels of each residual branch (ratio
      1/4). Not in the paper.
    stochastic_depth_rate: Probability, times i / n, that block i of n, from 0,
      drops its residual branch; branches that are kept are not scaled up.
      Only for calls with keys. Not in the paper.
    dropout_rate: Probability that a feature of the linear layer's input is
      dropped. Only for calls with keys.

  Raises:
    ValueError: If the depth is not 6n + 4 for an n of 1 or more, an option
      breaks its rule, or `num_groups` does not divide 16.

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
      norm: str = "group",
      conv: str = "standardised",
      activation: str = "relu",
      scale_activation: bool = False,
      skip_gain: float | None = None,
      squeeze_excite: bool = False,
      stochastic_depth_rate: float = 0.0,
      dropout_rate: float = 0.0,
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
    if skip_gain is not None:
      skip_gain = checks.finite("skip_gain", skip_gain)
    checks.flag("squeeze_excite", squeeze_excite)
    rate = checks.rate("stochastic_depth_rate", stochastic_depth_rate)
    self.dropout_rate = checks.rate("dropout_rate", dropout_rate)
    self.image_shape = shape
    kit = _layers(
        norm=norm,
        conv=conv,
        num_groups=num_groups,
        activation=activation,
        scale_activation=checks.flag("scale_activation", scale_activation),
        rngs=rngs,
    )
    self.activate = kit.activate
    self.stem: Any = kit.conv(shape[2], _STEM_CHANNELS, 3, 1)
    self.blocks = nnx.List()
    features = _STEM_CHANNELS
    for channels, strides in zip(_STAGE_CHANNELS, _STAGE_STRIDES, strict=True):
      for i in range((depth - 4) // 6):
        block = _Block(
            kit,
            features,
            channels * width,
            strides=strides if i == 0 else 1,
            project=i == 0,
            skip_gain=skip_gain,
            squeeze_excite=squeeze_excite,
            rngs=rngs,
        )
        self.blocks.append(block)
        features = channels * width
    self.drop_rates = masks.drop_rates(rate, num_blocks=len(self.blocks))
    self.norm = kit.norm(features)
    self.linear = nnx.Linear(features, num_classes, rngs=rngs)

  def _stem_features(self, images: jax.Array) -> jax.Array:
    """Returns what the first block sees of images."""
    # A plain convolution would promote; these compute in the parameters' dtype.
    return self.stem(images.astype(self.stem.kernel.dtype))

  def _head_features(self, x: jax.Array) -> jax.Array:
    """Returns what is averaged over space, from the last block's output."""
    return self.norm(self.activate(x))
