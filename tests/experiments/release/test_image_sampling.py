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


def _draw(
    name,
    num_steps,
    labels=(0, 0, 0),
    seed=1,
    batch_size=2,
    skip=(),
    **options,
):
  sampler = image_sampling.Sampler(name, num_steps, 10.0, 0.05)
  batches = image_sampling.generate(
      _generator(),
      None,
      labels,
      sampler=sampler._replace(**options),
      seed=seed,
      batch_size=batch_size,
      skip=skip,
  )
  return np.concatenate([images for _, images in batches])


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


@pytest.mark.parametrize(
    "name, options",
    [
        ("ddim_stochastic", {}),
        ("heun", {"churn": 30.0, "churn_largest": 8.0}),
    ],
)
def test_samplers_that_add_noise_draw_from_the_law(name, options):
  labels = np.repeat([0, 1], 400)
  drawn = _draw(name, 60, labels, batch_size=800, **options)
  for label in (0, 1):
    values = drawn[labels == label]
    # 2400 pixels: 5 standard errors of the mean are 0.05, of the deviation
    # 0.04; steps of 60 levels bias the deviation by less than 0.05.
    assert abs(values.mean() - _MEAN - label) < 0.06
    assert abs(values.std() - _STD) < 0.09


def test_churn_raises_the_levels_of_its_range():
  sampler = image_sampling.Sampler("heun", 10, churn=2.0)
  grid = np.array([80.0, 50.0, 1.0, 0.05, 0.01])
  want = [80.0, 60.0, 1.2, 0.06, 0.01]
  np.testing.assert_allclose(sampler.raised(grid), want)
  most = sampler._replace(churn=100.0).raised(grid)
  np.testing.assert_allclose(most[1], 50.0 * 2**0.5)
  # No level is in the range: the path is that without churn.
  plain, churned = (
      _draw("heun", 8, churn=churn, churn_least=20.0, churn_largest=30.0)
      for churn in (0.0, 4.0)
  )
  np.testing.assert_array_equal(plain, churned)
  assert np.any(plain != _draw("heun", 8, churn=4.0))


def test_churn_keeps_the_law_of_a_point():
  """With D(y, s) = 0 the images are one point, and y is N(0, s^2) throughout.

  A Heun step from level s' to s is y s / s' exactly, so that y before the last
  D has the deviation of the last level whatever is added, if what is added
  fits the level. Seen through a D that gives y at that level alone.
  """
  last = 0.5

  def denoise_fn(params, noisy, sigma, labels):
    is_last = jnp.expand_dims(sigma, (1, 2, 3)) <= last * 1.5
    return jnp.where(is_last, noisy, 0.0)

  generator = _generator()._replace(denoise_fn=denoise_fn)
  sampler = image_sampling.Sampler(
      "heun", 3, 10.0, last, churn=0.6, churn_least=0.0
  )
  ((_, drawn),) = image_sampling.generate(
      generator, None, np.zeros(1000), sampler=sampler, seed=0, batch_size=1000
  )
  # The last step before it is an Euler step followed by the mean of its slope,
  # y / s', and that at D = y, which is 0: y (1 + s / s') / 2. Of the second
  # level, (10^(1/7) + .5^(1/7))^7 / 2^7 = 2.59, s' is 1.2 times that.
  middle = ((10 ** (1 / 7) + last ** (1 / 7)) / 2) ** 7 * 1.2
  before = middle * (1 + last / middle) / 2
  want = np.sqrt(before**2 + (1.2**2 - 1) * last**2)
  # 6000 pixels: 5 relative standard errors are 5 / sqrt(12000) = 0.046.
  assert abs(drawn.std() / want - 1) < 0.046


def test_batches_that_are_there_are_not_drawn_again():
  whole = _draw("ddim", 3, (0, 1, 0, 1, 1))
  np.testing.assert_array_equal(
      _draw("ddim", 3, (0, 1, 0, 1, 1), skip={0, 4}), whole[2:4]
  )


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
        ({"churn": float("nan")}, "churn must be in"),
        ({"name": "ddim", "churn": 1.0}, "churn must be 0 for a sampler oth"),
        ({"churn_least": 60.0}, "churn's levels must be in"),
        ({"churn_noise": 0.0}, "churn_noise must be in"),
    ],
)
def test_wrong_samplers_are_refused(options, text):
  with pytest.raises(ValueError, match=text):
    image_sampling.Sampler("heun")._replace(**options).check()


def test_classes_are_equally_often():
  for num_images in (1, 7, 20):
    counts = image_sampling.class_counts(num_images, num_classes=3)
    assert counts.sum() == num_images and np.ptp(counts) <= 1


def test_counts_are_those_that_were_given():
  names = ("a", "b=", "c")
  found = image_sampling.given_counts(["b==3", "a=0"], names=names)
  assert found.tolist() == [0, 3, 0]


@pytest.mark.parametrize(
    "given, text",
    [
        (["d=1"], "counts must be name=count, each of a, b at most once"),
        (["a"], "counts must be name=count"),
        (["a=-1"], "counts must be name=count"),
        (["a=1", "a=2"], "counts must be name=count"),
        (["a=" + "9" * 5000], "counts must be name=count"),
        (["a=0"], "num_images must be in"),
        (["a=10000000", "b=1"], "num_images must be in"),
    ],
)
def test_wrong_counts_are_refused(given, text):
  with pytest.raises(ValueError, match=text):
    image_sampling.given_counts(given, names=("a", "b"))
