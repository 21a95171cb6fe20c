"""The task of diffusion: closed forms, draws of an example, its evaluation."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.plan import fields
from experiments.tasks import diffusion, registry
from experiments.tasks.denoising import draws, noise_laws, parameterisation
from jax_privacy import views
from tests.support import launch

_SIGMAS = (0.01, 0.5, 1.0, 7.0, 80.0)


@pytest.mark.parametrize("sigma", _SIGMAS)
@pytest.mark.parametrize("name", parameterisation.NAMES)
def test_coefficients_are_their_closed_forms(name, sigma):
  found = parameterisation.build(name, sigma_data=0.6).at(jnp.float32(sigma))
  square, time = sigma**2 + 1.0, 2 / math.pi * math.acos(
      1 / math.hypot(1, sigma)
  )
  total = sigma**2 + 0.36
  want = {
      "edm": (
          0.36 / total, sigma * 0.6 / total**0.5, total**-0.5,
          math.log(sigma) / 4, total / (sigma * 0.6) ** 2,
      ),
      "v": (
          1 / square, sigma / square**0.5, square**-0.5, time,
          square / sigma**2,
      ),
      "epsilon": (1.0, -sigma, square**-0.5, time, sigma**-2.0),
  }[name]  # fmt: skip
  # A handful of float32 roundings each.
  np.testing.assert_allclose(found, want, rtol=2e-6, atol=1e-7)
  assert math.isclose(found.weight * found.out**2, 1.0, rel_tol=1e-5)


@pytest.mark.parametrize("name", parameterisation.NAMES)
def test_the_network_that_is_right_gives_the_clean_image(name):
  """F's target is (x - c_skip y) / c_out; for v it is -v, for epsilon n."""
  way, sigma = parameterisation.build(name), jnp.float32([0.3, 4.0])
  clean, noise = jax.random.normal(jax.random.key(0), (2, 2, 3))
  noisy, at = clean + sigma[:, None] * noise, way.at(sigma)
  target = (clean - at.skip[:, None] * noisy) / at.out[:, None]
  cosine = 1 / jnp.sqrt(1 + sigma**2)[:, None]
  sine = sigma[:, None] * cosine
  known = {"v": sine * clean - cosine * noise, "epsilon": noise}
  if name in known:
    np.testing.assert_allclose(target, known[name], atol=1e-5)
  found = way.denoise(lambda scaled, level: target, noisy, sigma)
  np.testing.assert_allclose(found, clean, atol=1e-5)


def test_noise_laws_have_their_quantiles():
  keys = jax.random.split(jax.random.key(1), 4000)
  # A share of 4000 draws is within 5 sqrt(p q / 4000) < 0.04 of its own.
  normal = jax.vmap(noise_laws.build("log_normal", mean=-1.0, std=0.5))(keys)
  assert abs(np.mean(np.log(normal) < -1.0) - 0.5) < 0.04
  assert abs(np.mean(np.log(normal) < -0.5) - 0.841) < 0.04
  law = noise_laws.build("uniform")
  time = parameterisation.time_of(jax.vmap(law)(keys))
  low, high = (2 / math.pi * math.atan(math.exp(x)) for x in (-6.5, 4.5))
  assert low <= time.min() * 1.001 and time.max() <= high * 1.001
  assert abs(np.mean(time < (low + high) / 2) - 0.5) < 0.04
  law = noise_laws.build(
      "mixture", weights=(1.0, 3.0), bounds=((0.1, 0.2), (0.6, 0.9))
  )
  time = np.asarray(parameterisation.time_of(jax.vmap(law)(keys)))
  assert np.all((time > 0.099) & (time < 0.901))
  assert not np.any((time > 0.201) & (time < 0.599))
  assert abs(np.mean(time < 0.4) - 0.25) < 0.04


@pytest.mark.parametrize(
    "name, options, text",
    [
        ("normal", {}, "noise_law must be one of log_normal, mixture, uniform"),
        ("uniform", {"std": 1.0}, "must be among max_log_snr, min_log_snr"),
        ("uniform", {"min_log_snr": 14.0}, "must be less than max_log_snr"),
        ("log_normal", {"std": math.nan}, "std must be a number in"),
        ("log_normal", {"mean": "0"}, "mean must be a number in"),
        ("mixture", {}, "must have bounds, got none"),
        (
            "mixture",
            {"weights": (), "bounds": ()},
            "one for each of the bounds",
        ),
        ("mixture", {"weights": (1.0,), "bounds": ((0.5, 0.5),)}, "low < high"),
        (
            "mixture",
            {"weights": (1.0,), "bounds": ((0.5, 1.0),)},
            "bounds must",
        ),
    ],
)
def test_wrong_noise_laws_are_refused(name, options, text):
  with pytest.raises(ValueError, match=text):
    noise_laws.build(name, **options)


def _network(params, inputs):
  """A linear map of what a denoiser is given, with a share for each class."""
  shares = jnp.take(params["label"], inputs["label"])
  return params["w"] * inputs["image"] + jnp.expand_dims(
      shares + inputs["noise"], (1, 2, 3)
  )


_PARAMS = {"w": jnp.float32(0.3), "label": jnp.float32([0.1, -0.2, 0.4, 0.9])}
_EXAMPLE = {
    "image": jax.random.normal(jax.random.key(3), (4, 4, 1)),
    "label": jnp.int32(1),
}


def _loss_fn(num_draws, *, label_dropout=0.0, augment_fn=None):
  return draws.build_loss(
      _network,
      parameterisation.build("edm"),
      noise_laws.build("log_normal"),
      num_draws=num_draws,
      num_classes=3,
      label_dropout=label_dropout,
      augment_fn=augment_fn,
  )


def test_the_gradient_of_draws_is_the_mean_of_single_draws():
  """Draw k is a function of the example's key and of k, whatever K is."""
  key = jax.random.key(5)
  whole, fewer = (jax.grad(_loss_fn(k))(_PARAMS, _EXAMPLE, key) for k in (4, 3))

  def last(params):
    """Draw 3 by itself, written out."""
    keys = jax.random.split(jax.random.fold_in(key, 3), 3)
    clean = _EXAMPLE["image"][None]
    noise = jax.random.normal(keys[2], clean.shape[1:])[None]
    sigma = noise_laws.build("log_normal")(keys[1])
    way = parameterisation.build("edm")
    denoised = way.denoise(
        lambda x, n: _network(
            params, {"image": x, "noise": n, "label": jnp.int32([1])}
        ),
        clean + sigma * noise,
        sigma[None],
    )
    return way.at(sigma).weight * jnp.sum((denoised - clean) ** 2)

  want = jax.tree.map(
      lambda a, b: (3 * a + b) / 4, fewer, jax.grad(last)(_PARAMS)
  )
  jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
      whole,
      want,
  )


def test_a_label_is_dropped_once_an_example():
  """Of each key either the class or "no class" has all of the gradient."""
  grad_fn = jax.grad(_loss_fn(3, label_dropout=0.3))
  keys = views.example_keys(jax.random.key(2), step=4, indices=jnp.arange(400))
  grads = jax.vmap(grad_fn, in_axes=(None, None, 0))(_PARAMS, _EXAMPLE, keys)
  has = np.asarray(grads["label"]) != 0
  assert not has[:, [0, 2]].any()
  np.testing.assert_array_equal(has[:, 1], ~has[:, 3])
  # 5 standard deviations of a share of 400: 5 sqrt(.21 / 400) = 0.115.
  assert abs(has[:, 3].mean() - 0.3) < 0.115


def test_each_draw_has_its_own_augmentation():
  seen = []

  def augment_fn(key, image):
    seen.append(image.shape)
    return image * jax.random.rademacher(key, (), jnp.float32)

  key = jax.random.key(7)
  plain, turned = (
      _loss_fn(8, augment_fn=f)(_PARAMS, _EXAMPLE, key)
      for f in (None, augment_fn)
  )
  assert seen == [(4, 4, 1)] and plain != turned


def _task(**changed):
  config = launch.config("digits_diffusion", **changed)
  return registry.build(**fields.task_sections(config))


def test_evaluation_gives_an_image_the_same_loss_in_every_batch():
  task = _task()
  source = task.load("test", for_evaluation=True)
  model = task.build_model(source, jax.random.key(0))
  predict_fn = task.build_predictor(source).predict_fn
  batch = source[np.array([3, 5, -1])]
  losses = np.asarray(predict_fn(model.params, batch))
  assert losses.shape == (3, len(diffusion.LEVELS)) and (losses > 0).all()
  again = predict_fn(model.params, source[np.array([5, 9, 3])])
  again = np.asarray(again)
  # Of another place in the batch the sums may be in another order.
  np.testing.assert_allclose(losses[[1, 0]], again[[0, 2]], rtol=1e-5)
  # D = c_skip y at first, so that a loss has its closed form.
  outcomes = task.outcomes(source, batch, losses)
  overall = task.overall(source, outcomes)["loss"]
  np.testing.assert_allclose(overall.value, losses.mean(), rtol=1e-6)
  (table,) = task.tables(source, outcomes)
  assert list(table.rows) == ["0.05", "0.2", "0.8", "3"]


def test_noise_of_other_images_is_other_noise():
  images = np.zeros((3, 2, 2, 1), np.uint8)
  images[1, 0, 0], images[2, 1, 1] = 1, 1
  keys = jax.random.key_data(draws.keys_of(images, seed=0))
  assert len({tuple(map(int, key)) for key in keys}) == 3
  floats = jax.random.key_data(draws.keys_of(images / np.float32(255), seed=0))
  assert len({tuple(map(int, key)) for key in floats}) == 3


@pytest.mark.parametrize(
    "changed, text",
    [
        (
            {"task__options": {"draws": 2}},
            "task.options must be among label_dr",
        ),
        (
            {"task__options": {"parameterisation": "vp"}},
            "task.options: parameterisation must be one of edm, epsilon, v",
        ),
        (
            {"task__options": {"sigma_data": 0.0}},
            "task.options: sigma_data must be positive and finite, got 0.0",
        ),
        (
            {"task__options": {"label_dropout": 1.0}},
            r"task.options: label_dropout must be in \[0, 1\), got 1.0",
        ),
        ({"augment__num_views": 0}, "augment.num_views must be an integer"),
        (
            {"model__name": "cnn_small"},
            "model.name must be one of denoiser_adm",
        ),
        ({"loss__name": "squared"}, "loss.name must be 'softmax' for task"),
    ],
)
def test_wrong_fields_are_refused(changed, text):
  with pytest.raises(ValueError, match=text):
    _task(**changed)
