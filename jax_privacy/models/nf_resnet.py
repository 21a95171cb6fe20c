"""NF-ResNet-d: residual networks of ImageNet's size without normalisation.

Invariant: nothing is normalised, so no example reaches another and there are no
statistics to keep. What keeps the signal's size is the scale of weights and
activations, and for each block a constant beta that undoes the growth which the
shortcuts before it are expected to have caused.

>>> from flax import nnx
>>> import jax, jax.numpy as jnp
>>> def forward(images):
...   model = NFResNet(rngs=nnx.Rngs(0), image_shape=(64, 64, 3))
...   return model(images)
>>> jax.eval_shape(forward, jnp.zeros((2, 64, 64, 3))).shape
(2, 1000)
>>> [round(1 / beta**2, 2) for beta in betas((3, 4), alpha=0.2)]
[1.0, 1.04, 1.08, 1.12, 1.04, 1.08, 1.12]
"""

import types
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from jax_privacy.models import activations, checks, layers, masks, residual

# Depth -> blocks a stage. 26 is not in the paper: for small machines.
_NUM_BLOCKS: types.MappingProxyType[int, tuple[int, ...]] = (
    types.MappingProxyType(
        {
            26: (2, 2, 2, 2),
            50: (3, 4, 6, 3),
            101: (3, 4, 23, 3),
            152: (3, 8, 36, 3),
            200: (3, 24, 36, 3),
            288: (24, 24, 24, 24),
        }
    )
)
# Channels, as multiples of `width`.
_STEM_CHANNELS = 16
_STAGE_CHANNELS = (64, 128, 256, 512)
_STAGE_STRIDES = (1, 2, 2, 2)
# Output channels of a block over those between its 1x1 convolutions.
_BOTTLENECK = 4
# Channels over hidden features of squeeze-excite.
_SQUEEZE = 4
_HEAD_NORMAL = jax.nn.initializers.normal(0.01)


def betas(num_blocks: Sequence[int], *, alpha: float) -> tuple[float, ...]:
  """Returns what each block's activated input is multiplied by.

  Beta is 1 over the deviation that the block's input is expected to have. A
  block adds alpha^2 to the variance; the first of a stage, whose shortcut
  convolves the activated input, starts it again from 1.

  Args:
    num_blocks: Number of blocks of each stage.
    alpha: Factor of the residual branches.

  Returns:
    A number per block, in order.

  Source: Brock et al. 2021 (arXiv 2101.08692), section 3.
  """
  scales, variance = [], 1.0
  for count in num_blocks:
    for i in range(count):
      scales.append(variance**-0.5)
      variance = (1.0 if i == 0 else variance) + alpha**2
  return tuple(scales)


class _Block(nnx.Module):
  """1x1, 3x3 and 1x1 convolutions, each after an activation, and a shortcut.

  The shortcut is the identity, or with `project` a 1x1 convolution.
  """

  def __init__(
      self,
      in_features: int,
      out_features: int,
      *,
      strides: int,
      project: bool,
      activation: str,
      beta: float,
      alpha: float,
      skip_gain: float,
      squeeze_excite: bool,
      rngs: nnx.Rngs,
  ):
    def conv(d_in, d_out, size, stride=1):
      return layers.WSConv(
          d_in, d_out, kernel_size=(size, size), strides=stride, rngs=rngs
      )

    self.activation = activation
    self.beta = beta
    self.alpha = alpha
    inner = out_features // _BOTTLENECK
    self.conv_0 = conv(in_features, inner, 1)
    self.conv_1 = conv(inner, inner, 3, strides)
    self.conv_2 = conv(inner, out_features, 1)
    self.shortcut = (
        conv(in_features, out_features, 1, strides) if project else None
    )
    self.gate = (
        layers.SqueezeExcite(
            out_features, hidden_features=out_features // _SQUEEZE, rngs=rngs
        )
        if squeeze_excite
        else None
    )
    self.skip_gain = nnx.Param(jnp.asarray(skip_gain, jnp.float32))

  def __call__(self, x: jax.Array, keep: jax.Array | None) -> jax.Array:
    """`keep`, bool [n], says whose residual branch is not dropped."""
    y = activations.scaled(self.activation, x, factor=self.beta)
    shortcut = x if self.shortcut is None else self.shortcut(y)
    y = self.conv_1(activations.scaled(self.activation, self.conv_0(y)))
    y = self.conv_2(activations.scaled(self.activation, y))
    if self.gate is not None:
      y = self.gate(y)
    y = masks.apply_kept(y, keep)
    scale = jnp.reshape(self.skip_gain[...] * self.alpha, (1, 1, 1, 1))
    return shortcut + y * scale


class NFResNet(residual.ResidualNetwork):
  """A normaliser-free bottleneck ResNet of depth 26, 50, 101, 152, 200 or 288.

  Stem: 7x7 convolution with stride 2, 3x3 max-pool with stride 2. Four stages
  of 64, 128, 256 and 512 times `width` channels, strides 1, 2, 2, 2. Head:
  activation, mean over space, linear. Every convolution is weight-standardised
  and has a gain and a bias, so that, but for one skip gain a block, the numbers
  of parameters are those of the ResNets with BatchNorm: 25,557,048 for
  NF-ResNet-50 with 1000 classes.

  Args:
    rngs: Source of the parameters' random keys.
    depth: Number that chooses the blocks of each stage; 26 is not in the paper.
    num_classes: Number of classes: logits an image.
    image_shape: Height, width and channels.
    width: Factor of the channels, 4 in the paper.
    activation: One of `activations.names()`, scaled.
    alpha: Factor of the residual branches.
    skip_gain: Start of the scalar that each residual branch is multiplied by.
      1 for DP-SGD from scratch, as De et al. do; 0 makes every block start as
      its shortcut (SkipInit), as the paper's code does without privacy.
    squeeze_excite: Whether to gate the channels of each residual branch (ratio
      1/4).
    stochastic_depth_rate: Probability, times i / n, that block i of n, from 0,
      drops its residual branch; branches that are kept are not scaled up.
      Only for calls with keys.
    dropout_rate: Probability that a feature of the linear layer's input is
      dropped. Only for calls with keys.

  Raises:
    ValueError: If an option breaks its rule.

  Source: Brock et al. 2021, "Characterizing signal propagation to close the
  performance gap in unnormalized ResNets" (arXiv 2101.08692), and its code;
  trained with DP-SGD by De et al. 2022 (arXiv 2204.13650).
  """

  def __init__(
      self,
      *,
      rngs: nnx.Rngs,
      depth: int = 50,
      num_classes: int = 1000,
      image_shape: Sequence[int] = (224, 224, 3),
      width: int = 4,
      activation: str = "relu",
      alpha: float = 0.2,
      skip_gain: float = 1.0,
      squeeze_excite: bool = False,
      stochastic_depth_rate: float = 0.0,
      dropout_rate: float = 0.0,
  ):
    num_blocks = _check_depth(depth)
    width = checks.positive_int("width", width)
    num_classes = checks.positive_int("num_classes", num_classes)
    shape = checks.positive_ints("image_shape", image_shape, length=3)
    alpha = checks.positive("alpha", alpha)
    skip_gain = checks.finite("skip_gain", skip_gain)
    checks.flag("squeeze_excite", squeeze_excite)
    rate = checks.rate("stochastic_depth_rate", stochastic_depth_rate)
    self.dropout_rate = checks.rate("dropout_rate", dropout_rate)
    self.image_shape = shape
    self.activation = activations.check(activation)
    self.drop_rates = masks.drop_rates(rate, num_blocks=sum(num_blocks))
    features = _STEM_CHANNELS * width
    self.stem = layers.WSConv(
        shape[2], features, kernel_size=(7, 7), strides=2, rngs=rngs
    )
    self.blocks = nnx.List()
    scales = iter(betas(num_blocks, alpha=alpha))
    stages = zip(num_blocks, _STAGE_CHANNELS, _STAGE_STRIDES, strict=True)
    for count, channels, strides in stages:
      for i in range(count):
        block = _Block(
            features,
            channels * width,
            strides=strides if i == 0 else 1,
            project=i == 0,
            activation=activation,
            beta=next(scales),
            alpha=alpha,
            skip_gain=skip_gain,
            squeeze_excite=squeeze_excite,
            rngs=rngs,
        )
        self.blocks.append(block)
        features = channels * width
    self.linear = nnx.Linear(
        features, num_classes, kernel_init=_HEAD_NORMAL, rngs=rngs
    )

  def _stem_features(self, images: jax.Array) -> jax.Array:
    """Returns what the first block sees of images."""
    x = self.stem(images)
    return nnx.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")

  def _head_features(self, x: jax.Array) -> jax.Array:
    """Returns what is averaged over space, from the last block's output."""
    return activations.scaled(self.activation, x)


def _check_depth(depth) -> tuple[int, ...]:
  if checks.positive_int("depth", depth) not in _NUM_BLOCKS:
    valid = ", ".join(map(str, _NUM_BLOCKS))
    raise ValueError(f"depth must be one of {valid}, got {depth}.")
  return _NUM_BLOCKS[depth]
