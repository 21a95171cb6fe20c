"""A source of features: the same examples, each feature computed once."""

import numpy as np
import pytest

from jax_privacy import data
from jax_privacy.data import features, labels

_NUM = 70  # One chunk, and a part of another.


class _Sums:
  """Features that say which image they are of; counts its calls."""

  feature_shape = (1, 1, 2)

  def __init__(self):
    self.sizes = []

  def __call__(self, images):
    self.sizes.append(len(images))
    sums = images.astype(np.float32).sum((1, 2, 3))
    return np.stack([sums, -sums], -1)[:, None, None] + 0.5


def _images(**options):
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (_NUM, 2, 3, 1), dtype=np.uint8)
  options.setdefault("labels", np.arange(_NUM) % 3)
  return data.ArraySource(images, num_classes=3, **options)


def test_has_every_member_of_the_protocol():
  source = data.FeatureSource(_images(num_examples=_NUM), _Sums())
  members = set(data.Source.__annotations__) | {
      name for name in vars(data.Source) if not name.startswith("_")
  }
  assert members >= {"num_examples", "groups", "as_arrays"}
  for name in members:
    assert hasattr(source, name), name
  assert source.image_shape == (1, 1, 2) and len(source) == _NUM
  assert source.num_examples == _NUM and source.num_classes == 3


def test_each_row_is_of_its_own_image_and_computed_once():
  images, extract_fn = _images(), _Sums()
  source = data.FeatureSource(images, extract_fn)
  assert not extract_fn.sizes  # Nothing is computed when it is made.
  indices = np.array([69, 0, 64, 63, 0])
  got = source[indices]
  want = _Sums()(images[indices]["image"])
  np.testing.assert_array_equal(got["image"], want)
  np.testing.assert_array_equal(got["label"], images[indices]["label"])
  assert got["image"].dtype == np.float32
  source.compute()
  everything = source.as_arrays()
  np.testing.assert_array_equal(
      everything["image"], _Sums()(images.as_arrays()["image"])
  )
  assert extract_fn.sizes == [64, 64]  # One size, so compiled once.


def test_padding_is_zero_and_of_label_zero():
  # Feature 0 of a black image is not 0, and example 2 is not of label 0.
  source = data.FeatureSource(_images(), _Sums())
  batch = source[np.array([-1, 2, -1])]
  assert not batch["image"][[0, 2]].any() and batch["image"][1].all()
  assert batch["label"].tolist() == [0, 2, 0]


def test_several_labels_and_groups_are_kept():
  rng = np.random.default_rng(1)
  several = rng.integers(-1, 2, (_NUM, 3)).astype(np.int32)
  group = labels.Group(names=("a", "b"), codes=np.zeros(_NUM, np.int32))
  images = _images(labels=several, groups={"g": group})
  source = data.FeatureSource(images, _Sums())
  assert source.is_multi_label and source.groups == images.groups
  batch = source[np.array([66, -1])]
  assert batch["label"].tolist() == [several[66].tolist(), [-1, -1, -1]]


def test_what_was_computed_cannot_be_written_to():
  source = data.FeatureSource(_images(), _Sums())
  for values in source.as_arrays().values():
    with pytest.raises(ValueError, match="read-only"):
      values[0] = 0
  source[np.array([3])]["image"][:] = 7  # A batch is the caller's.
  assert not (source[np.array([3])]["image"] == 7).any()


def test_a_number_that_is_not_stated_is_not_counted():
  source = data.FeatureSource(_images(), _Sums())
  with pytest.raises(ValueError, match="num_examples must be stated"):
    source.num_examples  # noqa: B018


def test_an_index_outside_is_refused():
  source = data.FeatureSource(_images(), _Sums())
  with pytest.raises(IndexError, match=r"in \[0, 70\), got 70"):
    source[np.array([70])]


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("wavelets", {}, "name must be one of scattering, got 'wavelets'"),
        (
            "scattering",
            {"angles": 8},
            "an option of 'scattering' must be one of num_angles,"
            " num_groups, num_scales",
        ),
        (
            "scattering",
            {"image_shape": (8, 8, 1)},
            "must be .*, got 'image_shape'",
        ),
        ("scattering", {"num_scales": 3}, "must have sides that are multiples"),
    ],
)
def test_unknown_names_and_options_are_listed(name, options, message):
  with pytest.raises(ValueError, match=message):
    data.with_features(data.load("digits"), name, **options)


def test_names_are_those_of_the_table():
  assert data.feature_names() == tuple(sorted(features._EXTRACTORS))
  assert "scattering" in data.feature_names()
