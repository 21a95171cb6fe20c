import numpy as np
import pytest
from scipy import stats

from jax_privacy.auditing import input_canaries

_SHAPE = (2, 3, 1)


class _Source:
  """Image i is all i + 1; padding is 0."""

  def __getitem__(self, indices):
    images = np.zeros((len(indices), *_SHAPE), np.uint8)
    images += (indices + 1).astype(np.uint8)[:, None, None, None]
    return {"image": images, "label": np.maximum(indices, 0).astype(np.int32)}


def _canaries(num=4):
  return input_canaries.random_images(
      num, image_shape=_SHAPE, num_classes=10, seed=0
  )


def test_wrong_labels_are_wrong_and_uniform():
  labels = np.repeat(np.arange(5), 2000).astype(np.int32)
  batch = {"image": np.zeros((10_000, 1), np.uint8), "label": labels}
  found = input_canaries.mislabelled(batch, num_classes=5, seed=0)
  assert found["image"] is batch["image"]
  assert found["label"].dtype == np.int32 and (found["label"] != labels).all()
  shift = (found["label"] - labels) % 5
  counts = np.bincount(shift, minlength=5)[1:]
  assert stats.chisquare(counts).pvalue > 1e-6
  assert (batch["label"] == labels).all()  # The input is left alone.


def test_random_images_are_a_function_of_the_seed():
  first, again = _canaries(50), _canaries(50)
  assert (first["image"] == again["image"]).all()
  assert first["image"].dtype == np.uint8 and first["label"].dtype == np.int32
  assert first["image"].shape == (50, *_SHAPE) and first["label"].max() < 10
  other = input_canaries.random_images(
      50, image_shape=_SHAPE, num_classes=10, seed=1
  )
  assert (first["image"] != other["image"]).any()


def test_reads_examples_canaries_and_padding():
  canaries = _canaries()
  batch = input_canaries.read(
      _Source(),
      canaries,
      num_examples=100,
      indices=np.array([7, 103, -1, 100, 99]),
  )
  expected = _Source()[np.array([7, -1, -1, -1, 99])]
  for name in ("image", "label"):
    expected[name][[1, 3]] = canaries[name][[3, 0]]
    np.testing.assert_array_equal(batch[name], expected[name])


def test_reading_leaves_the_source_alone():
  class Whole:
    """Gives its own array away."""

    rows = {
        "image": np.zeros((2, *_SHAPE), np.uint8),
        "label": np.zeros(2, "i4"),
    }

    def __getitem__(self, indices):
      return self.rows

  input_canaries.read(
      Whole(), _canaries(), num_examples=5, indices=np.array([0, 6])
  )
  assert not Whole.rows["image"].any()


def test_arguments_are_checked():
  with pytest.raises(ValueError, match="indices must be below 14, got 14"):
    input_canaries.read(
        _Source(), _canaries(), num_examples=10, indices=np.array([14])
    )
  odd = _canaries() | {"image": np.zeros((4, 2, 2, 1), np.uint8)}
  with pytest.raises(ValueError, match=r"canaries\['image'\] must be uint8"):
    input_canaries.read(_Source(), odd, num_examples=10, indices=np.array([10]))
  batch = {"label": np.array([10], np.int32)}
  with pytest.raises(ValueError, match=r"label must be in \[0, 10\)"):
    input_canaries.mislabelled(batch, num_classes=10, seed=0)
  with pytest.raises(ValueError, match="num_classes must be an integer of at"):
    input_canaries.mislabelled(batch, num_classes=1, seed=0)
  with pytest.raises(ValueError, match="num_canaries must be an integer"):
    _canaries(0)
