"""A residual MLP that denoises small images, and what all denoisers share.

A denoiser is called with {"image": float [n, height, width, channels], "noise":
float [n], "label": int [n]}: noisy images at a scale of about 1, a number that
says the noise level, and a class in [0, num_classes], of which num_classes says
"no class". It gives floats of the images' shape. How these are scaled, and what
an output means, is the caller's: see the task `diffusion`.

Invariant: an image's output depends on its own entries alone. The only norm is
GroupNorm, which sees one image.

>>> from flax import nnx
>>> model = MLPDenoiser(rngs=nnx.Rngs(0), width=16, num_blocks=1)
>>> model(placeholder(3, image_shape=(8, 8, 1))).shape
(3, 8, 8, 1)
"""

import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from jax_privacy.models import checks, layers, sequence_layers

_ZEROS = jax.nn.initializers.zeros
_NORMAL = jax.nn.initializers.normal(1.0)
# Wavelengths of the noise's features, in units of `noise`: 4 to 1/16.
_LOWEST, _OCTAVES = 0.5 * math.pi, 6.0


def placeholder(
    num_images: int, *, image_shape: Sequence[int]
) -> dict[str, jax.Array]:
  """Returns inputs that are all 0, for their shapes.

  Args:
    num_images: Number of images, n.
    image_shape: Height, width and channels.
  """
  return {
      "image": jnp.zeros((num_images, *image_shape), jnp.float32),
      "noise": jnp.zeros(num_images, jnp.float32),
      "label": jnp.zeros(num_images, jnp.int32),
  }


def check_inputs(
    inputs: Mapping[str, jax.Array], *, image_shape: tuple[int, ...]
) -> None:
  """Refuses what is no batch for a denoiser.

  Args:
    inputs: Argument of the model's call.
    image_shape: Height, width and channels that the model was built for.

  Raises:
    ValueError: If a shape or a dtype is not as the module says.
  """
  checks.image_batch(inputs["image"], image_shape=image_shape)
  size = inputs["image"].shape[:1]
  for name, kind in (("noise", jnp.floating), ("label", jnp.integer)):
    array = inputs[name]
    if array.shape != size or not jnp.issubdtype(array.dtype, kind):
      raise ValueError(
          f"{name} must be {kind.__name__} of shape {list(size)}, got"
          f" {array.dtype} {list(array.shape)}."
      )


class LabelEmbedding(nnx.Module):
  """A vector for each class, and one for "no class", the last.

  Args:
    num_classes: Number of classes.
    width: Number of features.
    rngs: Source of the table's random key.
  """

  def __init__(self, num_classes: int, width: int, *, rngs: nnx.Rngs):
    self.embedding = nnx.Param(
        _NORMAL(rngs.params(), (num_classes + 1, width), jnp.float32)
    )

  def __call__(self, labels: jax.Array) -> jax.Array:
    """Returns the vectors [n, width] of labels [n]."""
    return jnp.take(self.embedding[...], labels, axis=0)


def waves(noise: jax.Array, rates: jax.Array) -> jax.Array:
  """Returns sines, then cosines, [n, 2 * num_rates], in float32 at least.

  Args:
    noise: Floats [n].
    rates: Radians a unit of noise, [num_rates].
  """
  dtype = sequence_layers.statistics_dtype(noise.dtype)
  angles = noise.astype(dtype)[:, None] * rates.astype(dtype)[None]
  return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


class _Block(nnx.Module):
  """x + down(silu(up(norm(x)) + shift(embedding)))."""

  def __init__(self, width, hidden_size, *, init_scale, rngs):
    make = sequence_layers.linear
    self.norm = layers.GroupNorm(width, num_groups=1)
    self.up = make(width, hidden_size, use_bias=True, rngs=rngs)
    self.shift = make(width, hidden_size, rngs=rngs)
    self.down = make(
        hidden_size, width, use_bias=True, init_scale=init_scale, rngs=rngs
    )

  def __call__(self, x: jax.Array, embedding: jax.Array) -> jax.Array:
    hidden = self.up(self.norm(x)) + self.shift(embedding)
    return x + self.down(jax.nn.silu(hidden))


class MLPDenoiser(nnx.Module):
  """A residual MLP over all pixels: for small images on small machines.

  Each block adds a map of the noise level's and the class's embedding to its
  hidden features. The noise level is embedded by sines and cosines of fixed
  rates. The last layer is 0 at first, and so is the output. With p pixels times
  channels, w = width, h = hidden_size, b = num_blocks, f = num_waves and c
  classes it has (p + 1) w + (c + 1) w + (2 f + 1) w + (w + 1) w
  + b (2 w + (2 w + 1) h + (h + 1) w) + 2 w + (w + 1) p parameters.

  Args:
    rngs: Source of the parameters' random keys.
    num_classes: Number of classes.
    image_shape: Height, width and channels.
    width: Features between blocks.
    hidden_size: Features within a block; None for `width`.
    num_blocks: Number of blocks.
    num_waves: Number of rates at which the noise level is embedded.

  Raises:
    ValueError: If an option is not a positive integer.
  """

  def __init__(
      self,
      *,
      rngs: nnx.Rngs,
      num_classes: int = 10,
      image_shape: Sequence[int] = (8, 8, 1),
      width: int = 128,
      hidden_size: int | None = None,
      num_blocks: int = 3,
      num_waves: int = 16,
  ):
    num_classes = checks.positive_int("num_classes", num_classes)
    shape = checks.positive_ints("image_shape", image_shape, length=3)
    width = checks.positive_int("width", width)
    hidden_size = width if hidden_size is None else hidden_size
    hidden_size = checks.positive_int("hidden_size", hidden_size)
    num_blocks = checks.positive_int("num_blocks", num_blocks)
    self.num_waves = checks.positive_int("num_waves", num_waves)
    self.image_shape, size = shape, math.prod(shape)
    make = sequence_layers.linear
    self.stem = make(size, width, use_bias=True, rngs=rngs)
    self.label = LabelEmbedding(num_classes, width, rngs=rngs)
    self.noise_0 = make(2 * num_waves, width, use_bias=True, rngs=rngs)
    self.noise_1 = make(width, width, use_bias=True, rngs=rngs)
    self.blocks = nnx.List(
        _Block(width, hidden_size, init_scale=1.0 / num_blocks, rngs=rngs)
        for _ in range(num_blocks)
    )
    self.norm = layers.GroupNorm(width, num_groups=1)
    self.out = nnx.Linear(width, size, kernel_init=_ZEROS, rngs=rngs)

  def __call__(self, inputs: Mapping[str, jax.Array]) -> jax.Array:
    """Returns floats [n, h, w, c]; see the module for the inputs."""
    check_inputs(inputs, image_shape=self.image_shape)
    images, dtype = inputs["image"], self.stem.kernel.dtype
    steps = jnp.arange(self.num_waves) / self.num_waves
    features = waves(inputs["noise"], _LOWEST * 2.0 ** (_OCTAVES * steps))
    embedding = self.noise_0(features.astype(dtype))
    embedding = jax.nn.silu(embedding + self.label(inputs["label"]))
    embedding = jax.nn.silu(self.noise_1(embedding))
    x = self.stem(images.reshape(len(images), -1).astype(dtype))
    for block in self.blocks:
      x = block(x, embedding)
    return self.out(jax.nn.silu(self.norm(x))).reshape(images.shape)
