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

import math
from collections.abc import Container, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.tasks import parts
from jax_privacy import _validate

SAMPLERS = ("ddim", "ddim_stochastic", "heun")
_RHO = 7.0
MAX_IMAGES = 10_000_000
_MAX_STEPS = 10_000


class Sampler(NamedTuple):
  """How noise is taken away.

  Attributes:
    name: Name: "ddim", Euler's method; "ddim_stochastic", which adds noise in
      every step; "heun", of second order, with churn or without.
    num_steps: Number of noise levels above 0.
    largest: Level that it begins with.
    least: Last level above 0.
    guidance: Weight w of (1 + w) D(class) - w D(no class); 0 for D(class).
    churn: Noise that "heun" adds before its steps, S_churn; a level s of the
      range below is raised to s (1 + min(churn / num_steps, sqrt(2) - 1)).
    churn_least: Least level with churn, S_min.
    churn_largest: Largest level with churn, S_max.
    churn_noise: Factor of the noise that is added, S_noise.
  """

  name: str = "ddim"
  num_steps: int = 50
  largest: float = 80.0
  least: float = 0.002
  guidance: float = 0.0
  churn: float = 0.0
  churn_least: float = 0.05
  churn_largest: float = 50.0
  churn_noise: float = 1.0

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
    if not 0.0 <= self.churn <= _MAX_STEPS:
      _validate.fail("churn", f"in [0, {_MAX_STEPS}]", self.churn)
    if self.churn and self.name != "heun":
      rule = "0 for a sampler other than heun"
      _validate.fail("churn", rule, self.churn)
    if not 0.0 <= self.churn_least <= self.churn_largest <= 1e4:
      rule = "in [0, 1e4], churn_least at most churn_largest"
      _validate.fail("churn's levels", rule, self[6:8])
    if not 0.5 <= self.churn_noise <= 2.0:
      _validate.fail("churn_noise", "in [0.5, 2]", self.churn_noise)

  def raised(self, grid: np.ndarray) -> np.ndarray:
    """Returns the levels after churn, [n].

    Args:
      grid: Levels above 0, [n].
    """
    has = (grid >= self.churn_least) & (grid <= self.churn_largest)
    gain = min(self.churn / self.num_steps, math.sqrt(2.0) - 1.0)
    return grid * (1.0 + gain * has)


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


def check_total(num_images: int) -> None:
  """Refuses a number of images.

  Args:
    num_images: Number of images.

  Raises:
    ValueError: If it is none, or too large.
  """
  if not 0 < num_images <= MAX_IMAGES:
    _validate.fail("num_images", f"in [1, {MAX_IMAGES}]", num_images)


def class_counts(num_images: int, *, num_classes: int) -> np.ndarray:
  """Returns numbers of images that are equal, or differ by one, [num_classes].

  The private data's own frequencies are private: this looks at none.

  Args:
    num_images: Number of images.
    num_classes: Number of classes.

  Raises:
    ValueError: If the number breaks its rule.
  """
  check_total(num_images)
  each, more = divmod(num_images, num_classes)
  return np.full(num_classes, each) + (np.arange(num_classes) < more)


def given_counts(given: Sequence[str], *, names: Sequence[str]) -> np.ndarray:
  """Returns numbers of images out of texts, [num_classes].

  Args:
    given: Texts "name=count", a class each; others have no image.
    names: Names of the classes.

  Raises:
    ValueError: If one is not that, or a class is there twice.
  """
  counts: dict[str, int] = {}
  for text in given:
    name, sep, count = text.rpartition("=")
    is_count = count.isdecimal() and len(count) <= len(str(MAX_IMAGES))
    if not sep or name not in names or name in counts or not is_count:
      rule = f"name=count, each of {', '.join(names)} at most once"
      _validate.fail("counts", rule, text)
    counts[name] = int(count)
  check_total(sum(counts.values()))
  return np.array([counts.get(name, 0) for name in names])


def generate(
    generator: parts.ImageGenerator,
    params: Any,
    labels: Sequence[int] | np.ndarray,
    *,
    sampler: Sampler,
    seed: int,
    batch_size: int = 256,
    skip: Container[int] = (),
) -> Iterator[tuple[int, np.ndarray]]:
  """Yields images of these classes, a batch at a time.

  Args:
    generator: Generator of the task.
    params: Parameters of the model.
    labels: Class of each image, [n].
    sampler: Sampler to use.
    seed: Seed of what is drawn.
    batch_size: Number of images at a time.
    skip: Numbers of first images, of batches that are not needed.

  Yields:
    The number of a batch's first image, and its images, uint8 [batch_size or
    fewer, height, width, channels].

  Raises:
    ValueError: If an argument breaks its rule.
  """
  sampler.check()
  batch_size = _validate.integer("batch_size", batch_size, at_least=1)
  if not 0 <= seed < 2**32:
    _validate.fail("seed", "in [0, 2**32)", seed)
  labels = np.asarray(labels, np.int32)
  check_total(len(labels))
  batch_fn = jax.jit(_make_batch_fn(generator, sampler))
  size, key = min(batch_size, len(labels)), jax.random.key(seed)
  for start in range(0, len(labels), size):
    if start in skip:
      continue
    # The last batch is filled up: one shape is compiled.
    rows = np.minimum(np.arange(start, start + size), len(labels) - 1)
    drawn = batch_fn(params, labels[rows], key, rows.astype(np.uint32))
    kept = min(size, len(labels) - start)
    yield start, generator.pixels_fn(np.asarray(drawn)[:kept])


def _make_batch_fn(generator: parts.ImageGenerator, sampler: Sampler):
  """Returns `batch_fn(params, labels, key, numbers)`, images as floats.

  Source: Karras et al. 2022 (arXiv 2206.00364), algorithm 2, for "heun".
  """
  grid = levels(sampler.num_steps, largest=sampler.largest, least=sampler.least)
  raised = sampler.raised(grid[:-1])
  # Added noise takes a level to its raised one: of that variance.
  added = sampler.churn_noise * np.sqrt(raised**2 - grid[:-1] ** 2)
  # Steps to levels above 0; the last step, to 0, gives D itself.
  rows = np.stack([raised[:-1], grid[1:-1], added[:-1]], axis=1)
  rows = jnp.asarray(rows, jnp.float32)
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
      number, (level, lower, more) = x
      if sampler.churn:
        y += more * draw(number + 1)
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

    y = draw(0) * jnp.float32(grid[0])
    steps = jnp.arange(len(rows), dtype=jnp.uint32)
    y, _ = jax.lax.scan(step_fn, y, (steps, rows))
    if sampler.churn:
      y += jnp.float32(added[-1]) * draw(len(rows) + 1)
    return denoise(y, jnp.float32(raised[-1]))

  return batch_fn
