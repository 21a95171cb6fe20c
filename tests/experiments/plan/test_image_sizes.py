"""Images stored larger than the model's input, and tests at another size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.plan import experiment as experiment_lib
from experiments.tasks.images import model as model_lib
from experiments.tasks.images import sources
from jax_privacy.data import augment
from tests.support import launch

_WRN = {
    "model__name": "wide_resnet",
    "model__options": {"depth": 10, "width": 1, "num_groups": 4},
}
_CROP = {
    "data__options": {"image_shape": (12, 12, 1)},
    "augment__names": ("random_crop", "flip"),
    "augment__options": {"crop_size": (10, 9)},
}


def _predict(network, params, images):
  return network.apply_fn(params, network.standardise_fn(images))


def _images(source):
  return jnp.asarray(source[np.arange(3)]["image"])


def test_evaluation_sees_the_centre_of_training_sized_crops():
  experiment = experiment_lib.build(launch.config(**_CROP))
  network, images = experiment.model.network, _images(experiment.test_source)
  assert images.shape[1:] == (12, 12, 1)
  # The small CNN has parameters for each position: it is of the crop's size.
  centres = images[:, 1:11, 1:10]
  np.testing.assert_array_equal(
      experiment.predictor.predict_fn(network.params, {"image": images}),
      _predict(network, network.params, centres),
  )


@pytest.mark.slow
@pytest.mark.parametrize(
    "options, size",
    [
        pytest.param(
            {"image_shape": (16, 14, 1)}, (16, 14), marks=pytest.mark.slow
        ),
        ({"image_shape": (16, 14, 1), "crop_size": (11, 12)}, (11, 12)),
        pytest.param({"crop_size": (11, 12)}, (11, 12), marks=pytest.mark.slow),
    ],
)
def test_the_same_parameters_are_applied_at_another_size(options, size):
  config = launch.config(**_WRN, **_CROP, data__test_options=options)
  experiment = experiment_lib.build(config)
  params = experiment.model.params
  images = _images(experiment.test_source)
  got = experiment.predictor.predict_fn(params, {"image": images})
  # A model that is built for that size, as `evaluate` does, and its input.
  source = experiment.test_source
  other = model_lib.build_for_evaluation(
      config.model,
      source,
      data_config=config.data,
      augment_config=config.augment,
  )
  np.testing.assert_array_equal(got, _predict(other, params, images))
  seen = jax.vmap(lambda x: augment.centre_crop(x, crop_size=size))(images)
  standardised = experiment.model.network.standardise_fn(seen)
  np.testing.assert_array_equal(got, other.apply_fn(params, standardised))
  with pytest.raises(ValueError, match="images must be of shape"):
    experiment.model.network.apply_fn(params, standardised)


@pytest.mark.slow  # Compiles a WRN.
def test_a_run_at_two_sizes_has_a_result(tmp_path):
  fields = _WRN | _CROP | {"train__num_steps": 1, "eval__num_examples": 4}
  options = {"image_shape": (16, 16, 1)}
  summary = launch.run(
      launch.config(**fields, data__test_options=options), tmp_path
  )
  assert summary["test_examples"] == 4


@pytest.mark.parametrize(
    "fields, message",
    [
        (
            {"data__test_options": {"image_shape": (16, 16, 1)}},
            "data.test_options must leave the model's parameters as they are,"
            r" got test images of shape \(16, 16, 1\), .* 'cnn_small'",
        ),
        (
            {"data__test_options": {"crop_size": (9, 9)}},
            "data.test_options: crop_size must be at most the image's sides",
        ),
        (
            {**_CROP, "data__options": {}},
            r"augment: crop_size must be at most the image's sides, \(8, 8\)",
        ),
        (
            {"augment__names": ("random_crop",)},
            "augment: crop_size must be given for 'random_crop'",
        ),
    ],
)
def test_sizes_that_do_not_fit_are_refused(fields, message):
  with pytest.raises(ValueError, match=message):
    experiment_lib.build(launch.config(**fields))


def test_other_sizes_are_said_and_not_found(monkeypatch):
  real = sources.build_source

  def build_source(data_config, split, **options):
    data_config = data_config.copy_and_resolve_references()
    if split == "test":
      data_config.options = {"image_shape": (9, 9, 1)}
    return real(data_config, split, **options)

  monkeypatch.setattr(sources, "build_source", build_source)
  with pytest.raises(ValueError, match="shape where no data.test_options say"):
    experiment_lib.build(launch.config(**_WRN))
