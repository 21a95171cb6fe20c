"""Classifiers of drawn images: what they reach, and what chooses them."""

import numpy as np
import pytest

from experiments.synthetic import classifiers, networks, reading
from jax_privacy import data

_CHOSEN = classifiers.CHOSEN


@pytest.fixture(scope="module")
def digits():
  """Two sets of real digits that share none."""
  source = data.load("digits", split="train")
  return reading.real(source, name="real", most=800).halves()


def test_real_digits_classify_others_and_shuffled_labels_do_not(digits):
  train, test = digits
  kinds = ("logistic",)
  found = classifiers.accuracies(train, test, kinds=kinds)
  assert list(found) == [*kinds, _CHOSEN]
  assert found[_CHOSEN].value > 0.85
  rng = np.random.default_rng(0)
  shuffled = train._replace(labels=rng.permutation(train.labels))
  found = classifiers.accuracies(shuffled, test, kinds=("logistic",))
  # Of 400 images by chance: 0.1 + 5 sqrt(0.09 / 400) = 0.175.
  assert found["logistic"].value < 0.25


def test_no_real_image_chooses_anything(digits, monkeypatch):
  """Labels of real images change what is reached, and not by which."""
  train, test = digits
  seen = []

  def fit(kind, train, held_out, **options):
    del options
    shift = {"logistic": 0, "mlp": 1, "cnn": 2}[kind]

    def classes_fn(images):
      seen.append(len(images))
      return np.full(len(images), shift)

    held = {"logistic": 0.2, "mlp": 0.9, "cnn": 0.9}[kind]
    return networks.Fitted(classes_fn, held, "")

  monkeypatch.setattr(classifiers, "_fit", fit)
  for truth in (0, 1, 2):
    real = test._replace(labels=np.full(len(test.labels), truth))
    found = classifiers.accuracies(train, real)
    # The first that is best on drawn images, though others may be right.
    assert found[_CHOSEN] is found["mlp"]
    assert found[_CHOSEN].value == (truth == 1)
  assert seen == [len(test.labels)] * 9


def test_held_out_images_are_a_tenth_of_each_class(digits):
  train, held_out = classifiers.split(digits[0])
  assert len(train.labels) + len(held_out.labels) == len(digits[0].labels)
  rows = {image.tobytes() for image in train.images}
  assert not rows & {image.tobytes() for image in held_out.images}
  counts = np.bincount(digits[0].labels)
  off = np.bincount(held_out.labels, minlength=10) - counts / 10
  assert np.abs(off).max() <= 1


@pytest.mark.parametrize(
    "rows, text",
    [
        (np.arange(19), "20 images or more, of two classes or more, got 19"),
        (np.zeros(40, int), "got 40 of 1"),
    ],
)
def test_too_few_images_are_refused(digits, rows, text):
  with pytest.raises(ValueError, match=text):
    classifiers.split(digits[0].rows(rows))


def test_kinds_are_checked():
  with pytest.raises(ValueError, match="among logistic, mlp, cnn, wrn, got 'x"):
    classifiers.check_kinds(["x"])
  with pytest.raises(ValueError, match="must be one at least"):
    classifiers.check_kinds([])


def test_the_network_has_the_papers_sizes():
  from flax import nnx

  model = networks.ConvNet(rngs=nnx.Rngs(0), image_shape=(28, 28, 1))
  assert model.hidden.kernel.shape == (1152, 128)
  small = networks.ConvNet(rngs=nnx.Rngs(0), image_shape=(8, 8, 1))
  assert small.hidden.kernel.shape == (512, 128)


@pytest.mark.slow
def test_a_perceptron_learns_digits(digits):
  found = classifiers.accuracies(*digits, kinds=("logistic", "mlp"))
  assert list(found) == ["logistic", "mlp", _CHOSEN]
  assert found["mlp"].value > 0.85


@pytest.mark.slow
def test_the_network_learns_digits(digits):
  # Of 120 steps, which are few; by chance it would be right once in ten times.
  found = classifiers.accuracies(*digits, kinds=("cnn",), num_epochs=40)
  assert found["cnn"].value > 0.5


@pytest.mark.slow
def test_a_wide_resnet_is_trained_too(digits):
  train, test = (one.rows(np.arange(0, 400, 8)) for one in digits)
  found = classifiers.accuracies(train, test, kinds=("wrn",), num_epochs=1)
  assert 0 <= found["wrn"].value <= 1
