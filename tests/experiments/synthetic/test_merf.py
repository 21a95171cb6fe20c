"""DP-MERF: its sensitivity, its one release, and what follows from it."""

import json

import numpy as np
import pytest

import accounting
from experiments.synthetic import embedding_generator, mean_embedding, merf
from jax_privacy import root_key
from tests.support import launch

_RNG = np.random.default_rng(0)


def _embedding(num_features=20, num_classes=3, num_pixels=5):
  return mean_embedding.Embedding.draw(
      num_pixels,
      num_classes=num_classes,
      num_features=num_features,
      length_scale=2.0,
  )


def _assert_within(embedding, pixels, labels):
  """Each image, added to the others, moves the sum by no more than claimed."""
  whole = embedding.sums(pixels, labels)
  for i in range(len(labels)):
    rest = embedding.sums(np.delete(pixels, i, 0), np.delete(labels, i))
    # Differences of multiples of 2^-20 are exact, and their squares are too.
    moved = np.round((whole - rest) * 2**20).astype(object)
    assert (moved == (whole - rest) * 2**20).all()
    assert sum(moved**2) <= 5 * 2**38  # (1 + 1/4) 2^40.


@pytest.mark.parametrize("num_features", [2, 20, 2000])
def test_one_image_moves_the_sum_by_the_sensitivity_at_most(num_features):
  embedding = _embedding(num_features)
  assert embedding.sensitivity == 1.25**0.5
  pixels = _RNG.uniform(-1, 1, size=(12, 5)) * np.logspace(-3, 6, 12)[:, None]
  pixels[0] = 0.0  # Features are 1 and 0: of the full length.
  _assert_within(embedding, pixels, _RNG.integers(3, size=12))


def test_features_that_are_too_long_would_be_seen(monkeypatch):
  """The planted bug: each class' features have the length of a batch's."""
  real = mean_embedding.Embedding.features
  monkeypatch.setattr(
      mean_embedding.Embedding,
      "features",
      lambda self, pixels: real(self, pixels) * (1 + 1e-5),
  )
  embedding = _embedding()
  pixels, labels = _RNG.normal(size=(6, 5)), np.array([0, 1, 2, 0, 1, 2])
  _assert_within(embedding, pixels, labels)  # They are cut to a length of 1.
  monkeypatch.setattr(
      mean_embedding,
      "_whole",
      lambda features: np.trunc(features * 2**20).astype(np.int64),
  )
  with pytest.raises(AssertionError):
    _assert_within(embedding, pixels, labels)


def test_features_have_the_gaussian_kernel():
  embedding = _embedding(num_features=20_000)
  x, y = _RNG.normal(size=(2, 4, 5))
  found = embedding.features(x) @ embedding.features(y).T
  squares = ((x[:, None] - y[None]) ** 2).sum(axis=-1)
  # A mean of 10,000 cosines: 5 standard deviations are 0.05 / sqrt(2) or less.
  np.testing.assert_allclose(found, np.exp(-squares / 8), atol=0.04)


def test_means_are_those_of_the_classes():
  embedding = _embedding()
  pixels, labels = _RNG.normal(size=(9, 5)), np.array([0, 1, 1] * 3)
  sums = embedding.sums(pixels, labels)
  np.testing.assert_array_equal(sums[-3:], [1.5, 3.0, 0.0])
  found = embedding.means(sums)
  for label in (0, 1):
    want = embedding.features(pixels[labels == label]).mean(axis=0)
    np.testing.assert_allclose(found[label], want, atol=2**-20)
  assert not found[2].any()  # No image: divided by one, not by none.


def test_the_mechanism_is_accounted_for_as_gaussian():
  embedding = _embedding()
  for epsilon in (0.2, 10.0):
    release = mean_embedding.calibrate(
        embedding, epsilon=epsilon, delta=1e-5, accountant="pld"
    )
    assert release.sensitivity == embedding.sensitivity
    found = accounting.epsilon(release, delta=1e-5)
    assert 0.99 * epsilon < found <= epsilon


def test_noise_is_that_of_the_mechanism():
  release = accounting.Gaussian(stddev=3.0, sensitivity=1.0)
  sums = np.arange(20_000.0)
  one, again, other = (
      mean_embedding.released(sums, release, root_key.RootKey.from_seed(s))
      for s in (0, 0, 1)
  )
  np.testing.assert_array_equal(one, again)
  # 5 relative standard errors of a deviation: 5 / sqrt(2 x 20,000) = 0.025.
  assert abs((one - sums).mean()) < 5 * 3 / 20_000**0.5
  assert abs((one - sums).std() / 3 - 1) < 0.025
  assert abs((other - one).std() / (3 * 2**0.5) - 1) < 0.025


def test_the_generator_reaches_the_means_it_was_given():
  """Two classes, of one image each: with no noise it must draw these."""
  images = np.array([[0.8, -0.8, 0.0, 0.5, -0.5], [-0.6, 0.6, 0.6, 0.0, 0.2]])
  embedding = _embedding(num_features=200, num_classes=2)
  means = embedding.means(embedding.sums(images, np.arange(2)))
  labels = np.array([0, 1, 0, 1])
  drawn = embedding_generator.draw(
      embedding, means, labels, seed=0, num_steps=300, batch_size=10
  )
  assert np.abs(drawn - images[labels]).mean() < 0.1


@pytest.mark.parametrize(
    "changed, text",
    [
        ({"dp__epsilon": None, "dp__noise_multiplier": 1.0}, "dp.epsilon must"),
        ({"dp__enabled": False, "dp__epsilon": None}, "dp.enabled"),
        ({"dp__neighboring_relation": "replace_one"}, "add_or_remove_one for"),
        ({"dp__secure_random": True}, "dp.secure_random must be False for"),
        ({"dp__grid_scale": 1000}, "dp.grid_scale must be None for a mean"),
        ({"dp__noise_multiplier": 1.0}, "dp.noise_multiplier must be None"),
    ],
)
def test_configs_without_its_guarantee_are_refused(changed, text):
  with pytest.raises(ValueError, match=text):
    merf.load(launch.diffusion(**changed), merf.Options())


@pytest.mark.parametrize(
    "changed, text",
    [
        ({"num_features": 3}, "num_features must be even and in"),
        ({"length_scale": float("nan")}, "length_scale must be in"),
    ],
)
def test_wrong_options_are_refused(changed, text):
  with pytest.raises(ValueError, match=text):
    merf.load(launch.diffusion(), merf.Options()._replace(**changed))


def test_labels_that_are_no_class_are_refused():
  embedding = _embedding()
  for labels in ([0, 3], [0, -1], [0]):
    with pytest.raises(ValueError, match=r"labels must be one in \[0, 3\)"):
      embedding.sums(np.zeros((2, 5)), np.array(labels))
  with pytest.raises(ValueError, match="pixels must be finite"):
    embedding.sums(np.full((1, 5), np.nan), np.array([0]))


@pytest.mark.slow
def test_the_command_writes_a_folder_with_its_statement(tmp_path):
  flags = ("--num_images=20", "--num_features=100", "--num_steps=5")
  recipe = "--config=configs/digits_diffusion.py:smoke=True"
  out = tmp_path / "merf"
  for _ in range(2):  # Told again, and not released again.
    done = launch.command("experiments.merf", recipe, f"--out={out}", *flags)
    assert done.returncode == 0, done.stderr
  manifest = json.loads((out / "manifest.json").read_text())
  release = manifest["privacy"]["mechanism"]
  assert 9.99 < manifest["privacy"]["epsilon"] <= 10.0  # The recipe's.
  assert release["kind"] == "gaussian"
  assert manifest["privacy"]["statement"] in done.stdout
  assert "The seed was fixed" in done.stdout
