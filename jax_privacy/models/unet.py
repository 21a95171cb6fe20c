"""The U-Net of DDPM++, as DPDM trains it: a denoiser of images.

Invariant: an image's output depends on its own entries alone; the only norm is
GroupNorm. Sums of two branches are divided by sqrt(2), so that their variance
stays; the last convolution of each branch is 0 at first, and so is the output.
`denoiser.py` says what it is called with.

>>> from flax import nnx
>>> from jax_privacy.models import denoiser
>>> model = UNet(rngs=nnx.Rngs(0), image_shape=(8, 8, 1), width=8,
...              multipliers=(1, 2), attention_sizes=())
>>> model(denoiser.placeholder(2, image_shape=(8, 8, 1))).shape
(2, 8, 8, 1)
"""

import abc
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jax_privacy.models import checks, denoiser, layers, sequence_layers

_ZEROS = jax.nn.initializers.zeros
_LECUN_NORMAL = jax.nn.initializers.lecun_normal()
_HALF = math.sqrt(0.5)
_EPSILON = 1e-6
GROUP_SIZE = 4
"""Channels of a group, at least; there are 32 groups at most."""

_MAX_GROUPS = 32
_LONGEST = 10_000.0


def _norm(num_features: int) -> layers.GroupNorm:
  num_groups = min(num_features // GROUP_SIZE, _MAX_GROUPS)
  return layers.GroupNorm(num_features, num_groups=num_groups, epsilon=_EPSILON)


def convolution(
    in_features: int,
    out_features: int,
    *,
    size: int = 3,
    is_zero: bool = False,
    rngs: nnx.Rngs,
) -> nnx.Conv:
  """Returns a convolution that leaves height and width.

  Args:
    in_features: Channels of the input.
    out_features: Channels of the output.
    size: Pixels a side that an output sees.
    is_zero: Whether it is 0 at first.
    rngs: Source of the parameters' random keys.
  """
  return nnx.Conv(
      in_features,
      out_features,
      (size, size),
      kernel_init=_ZEROS if is_zero else _LECUN_NORMAL,
      rngs=rngs,
  )


def _halved(x: jax.Array) -> jax.Array:
  """Means of 2 x 2 pixels."""
  n, h, w, c = x.shape
  return jnp.mean(x.reshape(n, h // 2, 2, w // 2, 2, c), axis=(2, 4))


def _doubled(x: jax.Array) -> jax.Array:
  """Each pixel four times."""
  return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


RESIZE = {"same": lambda x: x, "half": _halved, "double": _doubled}


class ResidualBlock(nnx.Module):
  """Two convolutions, which the embedding shifts, and a shortcut (BigGAN's).

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
    self.resize = checks.one_of("resize", resize, valid=tuple(RESIZE))
    self.norm_0 = _norm(in_features)
    self.conv_0 = convolution(in_features, out_features, rngs=rngs)
    self.shift = nnx.Linear(embedding_size, out_features, rngs=rngs)
    self.norm_1 = _norm(out_features)
    self.conv_1 = convolution(
        out_features, out_features, is_zero=True, rngs=rngs
    )
    is_plain = in_features == out_features and resize == "same"
    self.shortcut = (
        None
        if is_plain
        else convolution(in_features, out_features, size=1, rngs=rngs)
    )

  def __call__(self, x: jax.Array, embedding: jax.Array) -> jax.Array:
    """Returns features [n, h', w', out_features].

    Args:
      x: Floats [n, h, w, in_features].
      embedding: Activated embeddings, [n, embedding_size].
    """
    resize = RESIZE[self.resize]
    hidden = self.conv_0(resize(jax.nn.silu(self.norm_0(x))))
    hidden += jnp.expand_dims(self.shift(embedding), (1, 2))
    hidden = self.conv_1(jax.nn.silu(self.norm_1(hidden)))
    x = resize(x)
    if self.shortcut is not None:
      x = self.shortcut(x)
    return (x + hidden) * _HALF


class PixelAttention(nnx.Module):
  """Attention of one head of each pixel to all pixels of its image.

  Args:
    width: Number of channels.
    rngs: Source of the parameters' random keys.
  """

  def __init__(self, width: int, *, rngs: nnx.Rngs):
    self.norm = _norm(width)
    self.query = nnx.Linear(width, width, rngs=rngs)
    self.key = nnx.Linear(width, width, rngs=rngs)
    self.value = nnx.Linear(width, width, rngs=rngs)
    self.out = nnx.Linear(width, width, kernel_init=_ZEROS, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns features of the shape of `x`, [n, h, w, width]."""
    n, h, w, width = x.shape
    pixels = self.norm(x).reshape(n, h * w, width)
    query, key, value = (f(pixels) for f in (self.query, self.key, self.value))
    dtype = sequence_layers.statistics_dtype(x.dtype)
    scores = jnp.einsum(
        "nic,njc->nij", query, key, preferred_element_type=dtype
    )
    weights = jax.nn.softmax(scores * width**-0.5, axis=-1)
    mixed = jnp.einsum("nij,njc->nic", weights.astype(value.dtype), value)
    return (x + self.out(mixed).reshape(x.shape)) * _HALF


class Step(nnx.Module):
  """A residual block, and attention after it or None.

  Args:
    block: Module of features and embeddings, with `resize`.
    attention: Module of features; None for none.
  """

  def __init__(self, block: Any, attention: nnx.Module | None):
    self.block = block
    self.attention = attention

  def __call__(self, x: jax.Array, embedding: jax.Array) -> jax.Array:
    """Returns features.

    Args:
      x: Floats [n, h, w, channels].
      embedding: Activated embeddings, [n, embedding_size].
    """
    x = self.block(x, embedding)
    return x if self.attention is None else self.attention(x)


class Levels(nnx.Module):
  """A way down and a way up, each of steps at several sizes of the image.

  Levels halve height and width. Each has `num_blocks` residual blocks on the
  way down and one more on the way up, and between levels there is one that
  resizes. All that is on the way down is seen again on the way up. Two blocks
  and attention are in the middle. A subclass says what a step is, and what it
  sees of noise level and class: `_step`, `_embedding`.

  Args:
    rngs: Source of the parameters' random keys.
    num_classes: Number of classes.
    image_shape: Height, width and channels; both sides can be halved once for
      each level but the first.
    width: Channels of the first convolution, a multiple of 4.
    multipliers: Channels of each level, in units of `width`.
    num_blocks: Number of residual blocks of a level on the way down.
    attention_sizes: Heights of the levels that have attention.
    label_size: Features of a class, in units of `width`.
    attends_last: Whether a level on the way up has attention after its last
      block alone.
    norm_fn: Function from a number of channels to the last norm.

  Raises:
    ValueError: If an option breaks its rule.
  """

  def __init__(
      self,
      *,
      rngs: nnx.Rngs,
      num_classes: int,
      image_shape: Sequence[int],
      width: int,
      multipliers: Sequence[int],
      num_blocks: int,
      attention_sizes: Sequence[int],
      label_size: int,
      attends_last: bool,
      norm_fn: Callable[[int], nnx.Module],
  ):
    num_classes = checks.positive_int("num_classes", num_classes)
    shape = checks.positive_ints("image_shape", image_shape, length=3)
    width = checks.positive_int("width", width)
    factors = tuple(multipliers)
    factors = checks.positive_ints(
        "multipliers", factors, length=max(len(factors), 1)
    )
    num_blocks = checks.positive_int("num_blocks", num_blocks)
    attention = _check_sizes(shape, width, factors, tuple(attention_sizes))
    self.image_shape, self.width = shape, width
    self.label = denoiser.LabelEmbedding(
        num_classes, label_size * width, rngs=rngs
    )
    self.embed_0 = nnx.Linear(width, 4 * width, rngs=rngs)
    self.embed_1 = nnx.Linear(4 * width, 4 * width, rngs=rngs)
    self.conv_in = convolution(shape[2], width, rngs=rngs)
    step = functools.partial(self._step, rngs=rngs)
    channels, seen = width, [width]
    down = []
    for level, factor in enumerate(factors):
      for _ in range(num_blocks):
        down.append(step(channels, width * factor, attends=attention[level]))
        channels = width * factor
        seen.append(channels)
      if level < len(factors) - 1:
        down.append(step(channels, channels, resize="half"))
        seen.append(channels)
    self.down = nnx.List(down)
    self.middle = nnx.List(
        [step(channels, channels, attends=True), step(channels, channels)]
    )
    up = []
    for level in reversed(range(len(factors))):
      outputs = width * factors[level]
      for i in range(num_blocks + 1):
        attends = attention[level] and (i == num_blocks or not attends_last)
        up.append(step(channels + seen.pop(), outputs, attends=attends))
        channels = outputs
      if level > 0:
        up.append(step(channels, channels, resize="double"))
    self.up = nnx.List(up)
    self.norm = norm_fn(channels)
    self.conv_out = convolution(channels, shape[2], is_zero=True, rngs=rngs)

  @abc.abstractmethod
  def _step(
      self,
      inputs: int,
      outputs: int,
      *,
      resize: str = "same",
      attends: bool = False,
      rngs: nnx.Rngs,
  ) -> Step:
    """Returns a step from `inputs` to `outputs` channels."""

  @abc.abstractmethod
  def _embedding(self, noise, labels, dtype) -> jax.Array:
    """Returns what every block sees of noise level and class, activated."""

  def __call__(self, inputs: Mapping[str, jax.Array]) -> jax.Array:
    """Returns floats [n, h, w, c]; see `denoiser.py` for the inputs."""
    denoiser.check_inputs(inputs, image_shape=self.image_shape)
    dtype = self.conv_in.kernel.dtype
    embedding = self._embedding(inputs["noise"], inputs["label"], dtype)
    x = self.conv_in(inputs["image"].astype(dtype))
    seen = [x]
    for step in self.down:
      x = step(x, embedding)
      seen.append(x)
    for step in self.middle:
      x = step(x, embedding)
    for step in self.up:
      if step.block.resize == "same":
        x = jnp.concatenate([x, seen.pop()], axis=-1)
      x = step(x, embedding)
    return self.conv_out(jax.nn.silu(self.norm(x)))


class UNet(Levels):
  """DDPM++ without its progressive branches and filters.

  Args:
    rngs: Source of the parameters' random keys.
    num_classes: Number of classes.
    image_shape: Height, width and channels; both sides can be halved once for
      each level but the first.
    width: Channels of the first convolution, a multiple of 4.
    multipliers: Channels of each level, in units of `width`.
    num_blocks: Number of residual blocks of a level on the way down.
    attention_sizes: Heights of the levels that have attention: on the way down
      after each block, on the way up after the last.

  Raises:
    ValueError: If an option breaks its rule.

  Source: Song et al. 2021 (arXiv 2011.13456), DDPM++; Dockhorn et al. 2023
  (arXiv 2210.09929), whose network on MNIST has 1,753,345 parameters.
  """

  def __init__(
      self,
      *,
      rngs: nnx.Rngs,
      num_classes: int = 10,
      image_shape: Sequence[int] = (28, 28, 1),
      width: int = 32,
      multipliers: Sequence[int] = (1, 2, 2),
      num_blocks: int = 2,
      attention_sizes: Sequence[int] = (7,),
  ):
    super().__init__(
        rngs=rngs,
        num_classes=num_classes,
        image_shape=image_shape,
        width=width,
        multipliers=multipliers,
        num_blocks=num_blocks,
        attention_sizes=attention_sizes,
        label_size=1,
        attends_last=True,
        norm_fn=_norm,
    )

  def _step(self, inputs, outputs, *, resize="same", attends=False, rngs):
    block = ResidualBlock(
        inputs, outputs, embedding_size=4 * self.width, resize=resize, rngs=rngs
    )
    return Step(block, PixelAttention(outputs, rngs=rngs) if attends else None)

  def _embedding(self, noise, labels, dtype) -> jax.Array:
    half = self.width // 2
    rates = _LONGEST ** (-jnp.arange(half) / (half - 1))
    features = denoiser.waves(noise, rates).astype(dtype)
    hidden = jax.nn.silu(self.embed_0(features + self.label(labels)))
    return jax.nn.silu(self.embed_1(hidden))


def _check_sizes(
    shape: tuple[int, ...],
    width: int,
    factors: tuple[int, ...],
    attention_sizes: tuple[int, ...],
) -> list[bool]:
  """Returns which levels have attention, or refuses the sizes.

  Args:
    shape: Height, width and channels of images.
    width: Channels of the first convolution.
    factors: Channels of each level, in units of `width`.
    attention_sizes: Heights of the levels that have attention.

  Raises:
    ValueError: If a size breaks its rule.
  """
  if width % GROUP_SIZE:
    raise ValueError(f"width must be a multiple of {GROUP_SIZE}, got {width}.")
  halvings = 2 ** (len(factors) - 1)
  if shape[0] % halvings or shape[1] % halvings:
    raise ValueError(
        f"image_shape must have sides that are multiples of {halvings} for"
        f" {len(factors)} multipliers, got {shape}."
    )
  heights = [shape[0] // 2**level for level in range(len(factors))]
  if unknown := [size for size in attention_sizes if size not in heights]:
    raise ValueError(
        f"attention_sizes must be among the levels' heights, {heights}, got"
        f" {unknown[0]!r}."
    )
  return [height in attention_sizes for height in heights]
