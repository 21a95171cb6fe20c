"""ADM's U-Net: a large denoiser of images, for public pre-training.

Invariant: an image's output depends on its own entries alone; the only norm is
GroupNorm. The last layer of each branch is 0 at first, and so is the output.
`denoiser.py` says what it is called with.

>>> from flax import nnx
>>> from jax_privacy.models import denoiser
>>> model = ADM(rngs=nnx.Rngs(0), image_shape=(8, 8, 1), width=8,
...             multipliers=(1, 2), num_blocks=1, attention_sizes=(4,))
>>> model(denoiser.placeholder(2, image_shape=(8, 8, 1))).shape
(2, 8, 8, 1)
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from jax_privacy.models import checks, denoiser, layers, sequence_layers, unet

_ZEROS = jax.nn.initializers.zeros
_MAX_GROUPS = 32
_HEAD_SIZE = 64
_LONGEST = 10_000.0


def _norm(num_features: int) -> layers.GroupNorm:
  """32 groups; fewer where channels are."""
  num_groups = min(num_features // unet.GROUP_SIZE, _MAX_GROUPS)
  return layers.GroupNorm(num_features, num_groups=num_groups)


class ScaledBlock(nnx.Module):
  """Two convolutions, which the embedding scales and shifts, and a shortcut.

  Args:
    in_features: Channels of the input.
    out_features: Channels of the output.
    embedding_size: Features of the embedding.
    resize: Name: "same", "half" or "double" the height and width.
    rngs: Source of the parameters' random keys.
  """

  def __init__(
      self,
      in_features: int,
      out_features: int,
      *,
      embedding_size: int,
      resize: str = "same",
      rngs: nnx.Rngs,
  ):
    self.resize = checks.one_of("resize", resize, valid=tuple(unet.RESIZE))
    self.norm_0 = _norm(in_features)
    self.conv_0 = unet.convolution(in_features, out_features, rngs=rngs)
    self.scale = nnx.Linear(embedding_size, out_features, rngs=rngs)
    self.shift = nnx.Linear(embedding_size, out_features, rngs=rngs)
    self.norm_1 = _norm(out_features)
    self.conv_1 = unet.convolution(
        out_features, out_features, is_zero=True, rngs=rngs
    )
    self.shortcut = (
        None
        if in_features == out_features
        else unet.convolution(in_features, out_features, size=1, rngs=rngs)
    )

  def __call__(self, x: jax.Array, embedding: jax.Array) -> jax.Array:
    """Returns features [n, h', w', out_features].

    Args:
      x: Floats [n, h, w, in_features].
      embedding: Activated embeddings, [n, embedding_size].
    """
    resize = unet.RESIZE[self.resize]
    hidden = self.conv_0(resize(jax.nn.silu(self.norm_0(x))))
    scale, shift = (
        jnp.expand_dims(f(embedding), (1, 2)) for f in (self.scale, self.shift)
    )
    hidden = self.norm_1(hidden) * (1.0 + scale) + shift
    hidden = self.conv_1(jax.nn.silu(hidden))
    x = resize(x)
    return hidden + (x if self.shortcut is None else self.shortcut(x))


class HeadedAttention(nnx.Module):
  """Attention of each pixel to all pixels of its image, by heads.

  Args:
    width: Number of channels.
    head_size: Number of channels of a head; divides the width.
    rngs: Source of the parameters' random keys.
  """

  def __init__(self, width: int, *, head_size: int, rngs: nnx.Rngs):
    self.head_size = head_size
    self.norm = _norm(width)
    self.query = nnx.Linear(width, width, rngs=rngs)
    self.key = nnx.Linear(width, width, rngs=rngs)
    self.value = nnx.Linear(width, width, rngs=rngs)
    self.out = nnx.Linear(width, width, kernel_init=_ZEROS, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns features of the shape of `x`, [n, h, w, width]."""
    n, h, w, width = x.shape
    pixels = self.norm(x).reshape(n, h * w, width)
    query, key, value = (
        f(pixels).reshape(n, h * w, -1, self.head_size)
        for f in (self.query, self.key, self.value)
    )
    dtype = sequence_layers.statistics_dtype(x.dtype)
    scores = jnp.einsum(
        "niac,njac->naij", query, key, preferred_element_type=dtype
    )
    weights = jax.nn.softmax(scores * self.head_size**-0.5, axis=-1)
    mixed = jnp.einsum("naij,njac->niac", weights.astype(value.dtype), value)
    return x + self.out(mixed.reshape(n, h * w, width)).reshape(x.shape)


class ADM(unet.Levels):
  """The U-Net of "Diffusion Models Beat GANs", without dropout.

  Args:
    rngs: Source of the parameters' random keys.
    num_classes: Number of classes.
    image_shape: Height, width and channels; both sides can be halved once for
      each level but the first.
    width: Channels of the first convolution, a multiple of 4.
    multipliers: Channels of each level, in units of `width`.
    num_blocks: Number of residual blocks of a level on the way down.
    attention_sizes: Heights of the levels that have attention after each block.
    head_size: Channels of a head of attention; a level with fewer channels, or
      with a number that it does not divide, has one head.

  Raises:
    ValueError: If an option breaks its rule.

  Source: Dhariwal and Nichol 2021 (arXiv 2105.05233). Its network on ImageNet
  at 64 x 64 pixels (width 192, multipliers 1 to 4, three blocks, attention at
  32, 16 and 8) has 296 million parameters, of which three channels of output
  are for variances, which are left out here.
  """

  def __init__(
      self,
      *,
      rngs: nnx.Rngs,
      num_classes: int = 10,
      image_shape: Sequence[int] = (32, 32, 3),
      width: int = 128,
      multipliers: Sequence[int] = (1, 2, 2, 2),
      num_blocks: int = 3,
      attention_sizes: Sequence[int] = (16, 8),
      head_size: int = _HEAD_SIZE,
  ):
    self.head_size = checks.positive_int("head_size", head_size)
    super().__init__(
        rngs=rngs,
        num_classes=num_classes,
        image_shape=image_shape,
        width=width,
        multipliers=multipliers,
        num_blocks=num_blocks,
        attention_sizes=attention_sizes,
        label_size=4,
        attends_last=False,
        norm_fn=_norm,
    )

  def _step(self, inputs, outputs, *, resize="same", attends=False, rngs):
    block = ScaledBlock(
        inputs, outputs, embedding_size=4 * self.width, resize=resize, rngs=rngs
    )
    if not attends:
      return unet.Step(block, None)
    size = outputs if outputs % self.head_size else self.head_size
    return unet.Step(block, HeadedAttention(outputs, head_size=size, rngs=rngs))

  def _embedding(self, noise, labels, dtype) -> jax.Array:
    half = self.width // 2
    rates = _LONGEST ** (-jnp.arange(half) / half)
    features = denoiser.waves(noise, rates).astype(dtype)
    hidden = self.embed_1(jax.nn.silu(self.embed_0(features)))
    return jax.nn.silu(hidden + self.label(labels))
