"""Draws images with a run's denoiser: noise is taken away step by step.

With D(y, s) the denoised image, dy / ds = (y - D) / s leads from noise of the
largest level to an image.

Invariant: an image is a function of the model, the sampler, the seed, its
number and its class, whatever the size of batches. It is post-processing of
released parameters, which it costs no privacy.

>>> print([round(float(s), 3) for s in levels(3, largest=4.0, least=0.5)])
[4.0, 1.527, 0.5, 0.0]
>>> class_counts(8, num_classes=3).tolist()
[3, 3, 2]
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.tasks import parts
from jax_privacy import _validate

SAMPLERS = ("ddim", "ddim_stochastic", "heun")
_RHO = 7.0
_MAX_STEPS, _MAX_IMAGES = 10_000, 10_000_000


class Sampler(NamedTuple):
  """How noise is taken away.

  Attributes:
    name: Name: "ddim", Euler's method; "ddim_stochastic", which adds noise in
      every step; "heun", of second order.
    num_steps: Number of noise levels above 0.
    largest: Level that it begins with.
    least: Last level above 0.
    guidance: Weight w of (1 + w) D(class) - w D(no class); 0 for D(class).
  """

  name: str = "ddim"
  num_steps: int = 50
  largest: float = 80.0
  least: float = 0.002
  guidance: float = 0.0

  def check(self) -> None:
    """Refuses a field that breaks its rule.

    Raises:
      ValueError: If there is one; the text names it.
    """
    if self.name not in SAMPLERS:
      _validate.fail("sampler", f"one of {', '.join(SAMPLERS)}", self.name)
    if _validate.integer("num_steps", self.num_steps, at_least=2) > _MAX_STEPS:
      _validate.fail("num_steps", f"at most {_MAX_STEPS}", self.num_steps)
    if not 0.0 < self.least < self.largest <= 1e4:
      rule = "in (0, 1e4], least less than largest"
      _validate.fail("noise levels", rule, (self.least, self.largest))
    if not 0.0 <= self.guidance <= 100.0:
      _validate.fail("guidance", "in [0, 100]", self.guidance)


def levels(num_steps: int, *, largest: float, least: float) -> np.ndarray:
  """Returns falling noise levels, float64 [num_steps + 1]; the last is 0.

  Args:
    num_steps: Number of levels above 0, at least 2.
    largest: First level.
    least: Last level above 0.

  Source: Karras et al. 2022 (arXiv 2206.00364), eq. 5, with rho = 7.
  """
  ends = [x ** (1.0 / _RHO) for x in (largest, least)]
  return np.append(np.linspace(*ends, num_steps) ** _RHO, 0.0)


def class_counts(num_images: int, *, num_classes: int) -> np.ndarray:
  """Returns numbers of images that are equal, or differ by one, [num_classes].

  The private data's own frequencies are private: this looks at none.

  Args:
    num_images: Number of images.
    num_classes: Number of classes.
  """
  each, more = divmod(num_images, num_classes)
  return np.full(num_classes, each) + (np.arange(num_classes) < more)


def generate(
    generator: parts.ImageGenerator,
    params: Any,
    labels: Sequence[int] | np.ndarray,
    *,
    sampler: Sampler,
    seed: int,
    batch_size: int = 256,
) -> np.ndarray:
  """Returns images of these classes, uint8 [n, height, width, channels].

  Args:
    generator: Generator of the task.
    params: Parameters of the model.
    labels: Class of each image, [n].
    sampler: Sampler to use.
    seed: Seed of what is drawn.
    batch_size: Number of images at a time.

  Raises:
    ValueError: If an argument breaks its rule.
  """
  sampler.check()
  batch_size = _validate.integer("batch_size", batch_size, at_least=1)
  if not 0 <= seed < 2**32:
    _validate.fail("seed", "in [0, 2**32)", seed)
  labels = np.asarray(labels, np.int32)
  if not 0 < len(labels) <= _MAX_IMAGES:
    _validate.fail("num_images", f"in [1, {_MAX_IMAGES}]", len(labels))
  batch_fn = jax.jit(_make_batch_fn(generator, sampler))
  size, key, images = min(batch_size, len(labels)), jax.random.key(seed), []
  for start in range(0, len(labels), size):
    # The last batch is filled up: one shape is compiled.
    rows = np.minimum(np.arange(start, start + size), len(labels) - 1)
    drawn = batch_fn(params, labels[rows], key, rows.astype(np.uint32))
    kept = min(size, len(labels) - start)
    images.append(generator.pixels_fn(np.asarray(drawn)[:kept]))
  return np.concatenate(images)


def _make_batch_fn(generator: parts.ImageGenerator, sampler: Sampler):
  """Returns `batch_fn(params, labels, key, numbers)`, images as floats."""
  grid = levels(sampler.num_steps, largest=sampler.largest, least=sampler.least)
  # Steps to levels above 0; the last step, to 0, gives D itself.
  pairs = jnp.asarray(np.stack([grid[:-2], grid[1:-1]], axis=1), jnp.float32)
  none = len(generator.names)

  def batch_fn(params, labels, key, numbers):
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(numbers)

    def draw(step):
      return jax.vmap(
          lambda k: jax.random.normal(
              jax.random.fold_in(k, step), generator.shape, jnp.float32
          )
      )(keys)

    def denoise(y, level):
      sigma = jnp.full(labels.shape, level, y.dtype)
      found = generator.denoise_fn(params, y, sigma, labels)
      if sampler.guidance:
        free = generator.denoise_fn(
            params, y, sigma, jnp.full_like(labels, none)
        )
        found = (1.0 + sampler.guidance) * found - sampler.guidance * free
      return found

    def step_fn(y, x):
      number, (level, lower) = x
      slope = (y - denoise(y, level)) / level
      fall = lower - level
      if sampler.name == "ddim_stochastic":
        noise = jnp.sqrt(-2.0 * fall * level) * draw(number + 1)
        return y + 2.0 * fall * slope + noise, None
      guess = y + fall * slope
      if sampler.name == "ddim":
        return guess, None
      other = (guess - denoise(guess, lower)) / lower
      return y + fall * 0.5 * (slope + other), None

    y = draw(0) * pairs[0, 0]
    steps = jnp.arange(len(pairs), dtype=jnp.uint32)
    y, _ = jax.lax.scan(step_fn, y, (steps, pairs))
    return denoise(y, jnp.float32(grid[-2]))

  return batch_fn
