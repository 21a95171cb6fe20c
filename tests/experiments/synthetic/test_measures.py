"""Measures of drawn images, on digits that are made worse in known ways."""

import numpy as np
import pytest
from scipy import ndimage

from experiments.synthetic import image_features, measures, reading
from jax_privacy import data


@pytest.fixture(scope="module")
def digits():
  """Two sets of real digits that share none."""
  source = data.load("digits", split="train")
  one = reading.real(source, name="real", most=800)
  # At random: halves with as many of each class are nearer than two samples.
  return one.rows(np.arange(400)), one.rows(np.arange(400, 800))


def _worse(one, how):
  rng = np.random.default_rng(1)
  pixels = one.images.astype(np.float64)
  if how == "shuffled labels":
    return one._replace(labels=rng.permutation(one.labels))
  if how == "blur":
    changed = ndimage.gaussian_filter(pixels, (0, 1.0, 1.0, 0))
  else:
    changed = pixels + rng.normal(scale=60.0, size=pixels.shape)
  return one._replace(images=np.clip(changed, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def found(digits):
  real, other = digits
  sets = {"real": other}
  for how in ("blur", "noise", "shuffled labels"):
    sets[how] = _worse(other, how)
  features = image_features.build("scattering", image_shape=(8, 8, 1))
  assert features.name == "scattering, J=2"
  return {
      how: measures.distances(one, real, features, num_images=400)
      for how, one in sets.items()
  }


_FRECHET = "Frechet distance (scattering)"


def test_real_against_real_is_near_zero(found):
  for name in (measures.KERNEL, measures.WITHIN):
    assert (
        abs(found["real"][name].value) < 4 * found["real"][name].standard_error
    )
  assert found["real"]["precision"].value > 0.7
  assert found["real"]["recall"].value > 0.7


@pytest.mark.parametrize("how", ["blur", "noise"])
def test_what_is_worse_is_further_away(found, how):
  real, worse = found["real"], found[how]
  assert worse[_FRECHET].value > 2 * real[_FRECHET].value
  for name in (measures.KERNEL, measures.WITHIN):
    assert worse[name].value > 5 * worse[name].standard_error > 0
  assert worse["precision"].value < 0.8 * real["precision"].value


def test_shuffled_labels_are_seen_within_classes_alone(found):
  real, worse = found["real"], found["shuffled labels"]
  # The same images in the same order.
  assert worse[measures.KERNEL].value == real[measures.KERNEL].value
  within = worse[measures.WITHIN]
  assert within.value > 5 * within.standard_error > 0


def test_a_copy_of_the_training_images_is_seen(digits):
  train, test = digits
  copied = measures.neighbours(train.rows(np.arange(100)), test, train)
  assert copied.drawn < 1e-6 < copied.real
  assert copied.share_near.value == 1.0
  honest, rest = test.halves()
  found = measures.neighbours(honest, rest, train)
  # Of 200 images 1% are as near on average; 5 standard deviations more are
  # 0.01 + 5 sqrt(0.01 / 200), and the quantile of 200 others is as uncertain.
  assert found.share_near.value < 0.08


def test_features_of_odd_sides_are_pixels_alone():
  with pytest.raises(ValueError, match="must be pixels for images whose"):
    image_features.build("scattering", image_shape=(5, 8, 1))
  with pytest.raises(ValueError, match="features must be one of scattering, p"):
    image_features.build("fid", image_shape=(8, 8, 1))
  half = image_features.build("scattering", image_shape=(14, 14, 1))
  assert half.name == "scattering, J=1"


def test_fid_is_of_a_users_program_alone(tmp_path):
  import jax
  import jax.export
  import jax.numpy as jnp

  def program(images):
    return jnp.mean(images.astype(jnp.float32), axis=(1, 2))

  def saved(shape, name):
    traced = jax.export.export(jax.jit(program))(
        jax.ShapeDtypeStruct(shape, jnp.uint8)
    )
    (tmp_path / name).write_bytes(traced.serialize())
    return str(tmp_path / name)

  path = saved((256, 4, 4, 3), "good")
  build = image_features.build
  features = build("pixels", image_shape=(4, 4, 1), inception=path)
  assert features.distance == "FID" and "sha256" in features.name
  images = np.arange(300, dtype=np.uint8).reshape(300, 1, 1, 1)
  images = np.tile(images, (1, 4, 4, 1))
  want = np.tile(images[:, 0, 0].astype(float), (1, 3))
  np.testing.assert_allclose(features(images), want, rtol=1e-6)
  with pytest.raises(ValueError, match="must be a program from uint8"):
    build("", image_shape=(4, 4, 1), inception=saved((9, 4, 4, 3), "bad"))
  with pytest.raises(ValueError, match="none for images of 2 channels"):
    build("", image_shape=(4, 4, 2), inception=path)
  (tmp_path / "text").write_text("no program")
  with pytest.raises(ValueError, match="must be a file that jax.export"):
    build("", image_shape=(4, 4, 1), inception=str(tmp_path / "text"))


def test_too_few_images_are_refused(digits):
  with pytest.raises(ValueError, match="must have 8 images or more.*got 7"):
    measures.num_images([digits[0], digits[0].rows(np.arange(7))])
