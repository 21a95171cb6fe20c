"""A model on features: what fits them, and that all commands take them."""

import re

import jax
import numpy as np
import pytest

from experiments.audits import canary_kinds
from experiments.plan import experiment as experiment_lib
from experiments.tasks.images import features
from jax_privacy import auditing, data
from tests.support import launch

_NAME = "fashion_mnist_scattering"


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"data__mean": (0.5,)}, "data.mean must be (0.0,) with data.features"),
        ({"data__std": (2.0,)}, "data.std must be (1.0,) with data.features"),
        ({"augment__names": ("flip",)}, "augment.names must be () with data."),
        (
            {"data__test_options": {"crop_size": (4, 4)}},
            "data.test_options must have no crop_size with data.features",
        ),
        (
            {"data__features__name": ""},
            "data.features.options must be none without data.features.name",
        ),
        (
            {"data__features__options": {"num_groups": 5}},
            "data.features: num_groups must divide the number of features, 81",
        ),
    ],
)
def test_what_does_not_go_with_features_is_refused(fields, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    experiment_lib.build(launch.config(_NAME, **fields))


@pytest.fixture(scope="module")
def experiment():
  return experiment_lib.build(launch.config(_NAME))


def test_the_model_sees_features_as_they_are(experiment):
  images = data.load("digits")[np.arange(5)]["image"]
  want = np.asarray(
      data.with_features(
          data.load("digits"), "scattering", num_groups=27
      )._extract_fn(images)
  )
  batch = experiment.train_source[np.arange(5)]["image"]
  got = np.asarray(experiment.model.network.standardise_fn(batch))
  np.testing.assert_allclose(got, want, atol=1e-5)
  assert experiment.train_source.image_shape == (2, 2, 81)


def test_a_step_clips_the_gradients_of_logistic_regression(experiment):
  """Against the closed form: (softmax - one-hot) times the features."""
  batch = experiment.train_source[np.arange(6)]
  params = experiment.model.params
  keys = jax.random.split(jax.random.key(0), 6)
  got, _ = experiment.dp_training.grad_fn(
      params,
      batch,
      keys,
      is_padding_example=np.arange(6) == 5,
  )
  x = np.float64(batch["image"].reshape(6, -1))
  layer = params["linear"]
  logits = x @ np.float64(layer["kernel"]) + np.float64(layer["bias"])
  residual = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  residual[np.arange(6), batch["label"]] -= 1
  norms = np.sqrt((residual**2).sum(1) * ((x**2).sum(1) + 1))
  # Divided by the expected batch size, 16.
  factors = np.minimum(1, 0.1 / norms)[:5, None] / 16
  assert (norms > 0.1).all()
  want = x[:5].T @ (factors * residual[:5])
  np.testing.assert_allclose(got["linear"]["kernel"], want, atol=1e-6)
  want = (factors * residual[:5]).sum(0)
  np.testing.assert_allclose(got["linear"]["bias"], want, atol=1e-6)


@pytest.mark.parametrize("kind", ["clipped", "input"])
def test_canaries_are_rows_among_features(experiment, kind):
  num_examples = experiment.mechanism.num_examples
  membership = auditing.throw_coins(4, num_examples=num_examples, seed=0)
  planted = canary_kinds.PLANT_FNS[kind](experiment, membership)
  indices = np.array([num_examples + 3, 0, -1])
  batch = planted.train_source[indices]
  if kind == "clipped":
    assert batch["canary"].tolist() == [3, -1, -1]
    batch = batch["example"]
  real = experiment.train_source[np.array([0])]
  assert batch["image"].dtype == np.float32
  np.testing.assert_array_equal(batch["image"][1], real["image"][0])


def test_an_image_that_cannot_be_read_is_private():
  class Broken(data.ArraySource):

    def __getitem__(self, indices):
      raise data.ImageError("example 3 is broken")

  images = Broken(
      np.zeros((1, 8, 8, 1), np.uint8), np.zeros(1, int), num_classes=1
  )
  source = data.with_features(images, "scattering")
  with pytest.raises(data.ImageError, match="3 is broken .private, not for re"):
    features.compute(source)


def test_seconds_are_told_of_features_alone(experiment, capsys):
  features.compute(experiment.train_source)
  assert re.fullmatch(
      r"features of 1,437 examples: \d+\.\d s\n", capsys.readouterr().out
  )
  features.compute(data.load("digits"))
  assert not capsys.readouterr().out


@pytest.mark.slow
def test_features_on_the_device_change_no_bit(tmp_path):
  digests = {
      launch.run(
          launch.config(_NAME, data__on_device=value), tmp_path / f"{value}"
      )["params_sha256"]
      for value in (True, False)
  }
  assert len(digests) == 1


@pytest.mark.slow
def test_evaluate_computes_features_too(tmp_path):
  summary = launch.run(launch.config(_NAME), tmp_path / "run")
  process = launch.command(
      "experiments.evaluate", f"--workdir={tmp_path / 'run'}", "--params=last"
  )
  assert process.returncode == 0, process.stderr
  last = summary["test_accuracies"]["last"]
  assert f"accuracy {last:.2%}" in process.stdout
