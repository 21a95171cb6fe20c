"""Samplers, on a Gaussian whose denoiser and whose paths are known."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.release import image_sampling
from experiments.tasks import parts

_MEAN, _STD = 0.3, 0.5


def _generator():
  """Pixels N(0.3 + class, 0.25): D is the mean of x given y."""

  def denoise_fn(params, noisy, sigma, labels):
    mean = jnp.where(labels == 2, 0.0, _MEAN + labels.astype(jnp.float32))
    sigma, mean = (jnp.expand_dims(x, (1, 2, 3)) for x in (sigma, mean))
    total = _STD**2 + sigma**2
    return (_STD**2 * noisy + sigma**2 * mean) / total

  return parts.ImageGenerator(
      (2, 3, 1), ("a", "b"), denoise_fn, lambda x: np.asarray(x, np.float64)
  )


def _draw(name, num_steps, labels=(0, 0, 0), seed=1, **options):
  sampler = image_sampling.Sampler(name, num_steps, 10.0, 0.05)
  return image_sampling.generate(
      _generator(),
      None,
      labels,
      sampler=sampler._replace(**options),
      seed=seed,
      batch_size=2,
  )


def _starts():
  """y - mean at level 10, out of a run of one known factor: see below."""
  # Two levels: one Euler step and D. Each multiplies y - mean by a number.
  factor = 1 - (10.0 - 0.05) * 10.0 / (_STD**2 + 100.0)
  last = _STD**2 / (_STD**2 + 0.05**2)
  return (_draw("ddim", 2) - _MEAN) / (factor * last)


@pytest.mark.few(1)
@pytest.mark.parametrize("name", ["ddim", "heun"])
def test_deterministic_samplers_reach_the_exact_path(name):
  """u = y - mean follows u' = s / (c^2 + s^2) u, so u ~ sqrt(c^2 + s^2).

  Euler's step makes an error of at most h^2 / 2 max |u''|, with u'' = k c^2 /
  (c^2 + s^2)^1.5, largest at the step's lower end; and later steps shrink it,
  for their factors 1 - h s / (c^2 + s^2) are in (0, 1). Heun's is of an order
  more, so with as many steps it is within the same bound, and halving the steps
  divides it by about 4, not 2.
  """
  starts = _starts()
  scale = np.sqrt(np.max(starts**2) / (_STD**2 + 100.0))  # k
  exact = starts * np.sqrt((_STD**2 + 0.05**2) / (_STD**2 + 100.0))
  errors = []
  for num_steps in (20, 40):
    grid = image_sampling.levels(num_steps, largest=10.0, least=0.05)[:-1]
    steps = -np.diff(grid)
    curve = _STD**2 / (_STD**2 + grid[1:] ** 2) ** 1.5
    bound = scale * np.sum(steps**2 / 2 * curve)
    last = _STD**2 / (_STD**2 + 0.05**2)
    found = (_draw(name, num_steps) - _MEAN) / last
    errors.append(np.max(np.abs(found - exact)))
    # Float32: a hundred roundings of numbers that begin at 30.
    assert errors[-1] <= bound + 1e-4
  ratio = errors[0] / errors[1]
  assert (1.6 < ratio < 2.5) if name == "ddim" else (ratio > 2.8)


def test_stochastic_ddim_draws_from_the_law():
  labels = np.repeat([0, 1], 400)
  drawn = _draw("ddim_stochastic", 60, labels)
  for label in (0, 1):
    values = drawn[labels == label]
    # 2400 pixels: 5 standard errors of the mean are 0.05, of the deviation
    # 0.04; steps of 60 levels bias the deviation by less than 0.05.
    assert abs(values.mean() - _MEAN - label) < 0.06
    assert abs(values.std() - _STD) < 0.09


def test_an_image_depends_on_its_number_and_its_class_alone():
  first = _draw("ddim_stochastic", 5, (0, 1, 0))
  np.testing.assert_allclose(
      _draw("ddim_stochastic", 5, (0, 1, 0, 1, 1))[:3], first, rtol=1e-5
  )
  other = _draw("ddim_stochastic", 5, seed=2)
  assert np.max(np.abs(other[0] - first[0])) > 0.01
  assert len(np.unique(first)) == first.size


def test_guidance_moves_away_from_no_class():
  """(1 + w) D(1.3) - w D(0): the mean that is drawn is (1 + w) 1.3."""
  plain, guided = (
      _draw("heun", 40, (1,) * 4, guidance=w).mean() for w in (0.0, 1.0)
  )
  # The share that the mean adds is 1 - sqrt(c^2 / (c^2 + 10^2)) > 0.94 of it.
  assert 0.94 * 1.3 < guided - plain <= 1.3


@pytest.mark.parametrize(
    "options, text",
    [
        ({"name": "euler"}, "sampler must be one of ddim"),
        ({"num_steps": 1}, "num_steps must be an integer of at least 2"),
        ({"least": 200.0}, "least less than largest"),
        ({"guidance": float("nan")}, "guidance must be in"),
    ],
)
def test_wrong_samplers_are_refused(options, text):
  with pytest.raises(ValueError, match=text):
    image_sampling.Sampler()._replace(**options).check()


def test_classes_are_equally_often():
  for num_images in (1, 7, 20):
    counts = image_sampling.class_counts(num_images, num_classes=3)
    assert counts.sum() == num_images and np.ptp(counts) <= 1
