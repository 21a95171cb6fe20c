"""What every source promises, on arrays in memory and on encoded images."""

import io

import numpy as np
import PIL.Image
import pytest

from jax_privacy import data
from jax_privacy.data import encoded

_LABELS = np.array([2, 0, 1, 1, 0])


def _images(channels=3):
  rng = np.random.default_rng(0)
  shape = (len(_LABELS), 4, 6, channels)
  return rng.integers(0, 256, shape, dtype=np.uint8)


def _png(image):
  file = io.BytesIO()
  PIL.Image.fromarray(image).save(file, "PNG")
  return file.getvalue()


def _array_source(**options):
  options = {"num_classes": 3, **options}
  return data.ArraySource(_images(), options.pop("labels", _LABELS), **options)


def _encoded_source(**options):
  options = {"num_classes": 3, **options}
  files = [_png(image) for image in _images()]
  return encoded.EncodedSource(
      [lambda file=file: io.BytesIO(file) for file in files],
      [f"image {i}" for i in range(len(files))],
      options.pop("labels", _LABELS),
      **options,
  )


@pytest.fixture(params=[_array_source, _encoded_source])
def make(request):
  return request.param


def test_both_have_every_member_of_the_protocol(make):
  source = make(num_examples=5)
  members = set(data.Source.__annotations__) | {
      name for name in vars(data.Source) if not name.startswith("_")
  }
  assert members >= {"num_examples", "label_names", "as_arrays"}
  for name in members:
    assert hasattr(source, name), name


def test_indices_give_their_examples_in_their_order(make):
  source = make()
  indices = np.array([3, 0, 3, 4])
  batch = source[indices]
  np.testing.assert_array_equal(batch["image"], _images()[indices])
  np.testing.assert_array_equal(batch["label"], _LABELS[indices])
  assert batch["image"].dtype == np.uint8
  assert batch["label"].dtype == np.int32


def test_padding_is_a_zero_image_of_label_zero(make):
  """NumPy's own -1 would show the last example, which was not drawn."""
  source = make()
  batch = source[np.array([-1, 2, -1])]
  assert not batch["image"][[0, 2]].any()
  assert batch["label"].tolist() == [0, 1, 0]
  np.testing.assert_array_equal(batch["image"][1], _images()[2])
  # Nor may padding be written through to the data.
  np.testing.assert_array_equal(source.as_arrays()["image"], _images())
  np.testing.assert_array_equal(source.as_arrays()["label"], _LABELS)


@pytest.mark.parametrize(
    "indices", [np.zeros(0, np.int64), np.zeros(0), np.full(3, -1)]
)
def test_no_example_at_all_keeps_the_shape(make, indices):
  batch = make()[indices]
  assert batch["image"].shape == (len(indices), 4, 6, 3)
  assert batch["image"].dtype == np.uint8
  assert batch["label"].shape == (len(indices),)
  assert batch["label"].dtype == np.int32


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64])
def test_every_kind_of_integer_is_an_index(make, dtype):
  assert make()[np.array([4, 1], dtype)]["label"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("index", "dtype"),
    [
        (5, np.int64),
        (-2, np.int64),
        (-5, np.int8),
        (200, np.uint8),
        (2**63, np.uint64),
        (2**32 - 1, np.uint32),  # -1 that was cast to unsigned.
    ],
)
def test_an_index_outside_is_an_error_that_names_it(make, index, dtype):
  indices = np.array([0, 1, index], np.int64 if index < 0 else dtype)
  with pytest.raises(IndexError, match=rf"in \[0, 5\), got {index}\."):
    make()[indices]


@pytest.mark.parametrize(
    "indices",
    [np.array([0.0]), np.array([True]), np.array([[0]]), 0, slice(0, 2)],
    ids=str,
)
def test_other_indices_are_refused(make, indices):
  with pytest.raises(ValueError, match="indices must be a 1-D array of int"):
    make()[indices]


def test_as_arrays_is_everything_and_a_copy(make):
  source = make()
  everything = source.as_arrays()
  np.testing.assert_array_equal(everything["image"], _images())
  np.testing.assert_array_equal(everything["label"], _LABELS)
  assert everything["label"].dtype == np.int32
  everything["image"][:] = 0
  everything["label"][:] = 0
  np.testing.assert_array_equal(source.as_arrays()["image"], _images())
  np.testing.assert_array_equal(source.as_arrays()["label"], _LABELS)


def test_the_stated_number_is_what_was_stated(make):
  assert make(num_examples=5).num_examples == 5


def test_a_number_that_was_not_stated_is_never_read_off_the_data(make):
  source = make()
  assert len(source) == 5
  with pytest.raises(ValueError, match="num_examples must be stated"):
    _ = source.num_examples


def test_a_stated_number_that_differs_is_refused_and_both_are_named(make):
  with pytest.raises(
      ValueError, match="num_examples must be .* 5 .private, .*, got 6."
  ):
    make(num_examples=6)


@pytest.mark.parametrize("value", [0, -5, 5.0, True, float("nan"), "5"])
def test_a_stated_number_must_be_a_positive_integer(make, value):
  with pytest.raises(
      ValueError, match="num_examples must be an integer of at least 1"
  ):
    make(num_examples=value)


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([0, 1, 3, 7, 0], r"labels must be in \[0, 3\), got 3 at index 2\."),
        ([0, 1, 2, -1, 9], r"labels must be in \[0, 3\), got -1 at index 3\."),
        ([0.0, 1.0, 2.0, 0.0, 0.0], "labels must be a 1-D array of integers"),
        ([[0], [1], [2], [0], [1]], "labels must be as many .* 3, got 1"),
        ([True, False, True, True, True], "labels must be a 1-D array of int"),
        (np.zeros(0, int), "labels must hold at least one example, got none"),
        ([0, 1, 2], "as many as the labels, 3, got 5.*private, not for"),
    ],
)
def test_wrong_labels_are_refused(make, labels, text):
  with pytest.raises(ValueError, match=text):
    make(labels=np.array(labels))


def test_label_names_give_the_number_of_classes(make):
  source = make(num_classes=None, label_names=["cat", "dog", "eel"])
  assert source.label_names == ("cat", "dog", "eel")
  assert source.num_classes == 3


def test_classes_without_names_are_called_by_number(make):
  assert make(num_classes=4).label_names == ("0", "1", "2", "3")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_classes": None}, "num_classes must be given where"),
        (
            {"num_classes": 0},
            "num_classes must be an integer of at least 1, got 0",
        ),
        ({"num_classes": 2.0}, "num_classes must be an integer of at least 1"),
        ({"label_names": ["a", "b"]}, "num_classes must be .* 2, got 3"),
        ({"label_names": ["a", "b", "a"]}, "label_names must be .* different"),
        ({"label_names": []}, "label_names must be one or more"),
        (
            {"label_names": "abc"},
            "label_names must be .* got 'abc'",
        ),
    ],
)
def test_wrong_classes_are_refused(make, options, text):
  with pytest.raises(ValueError, match=text):
    make(**options)


def test_grey_images_get_a_channel():
  source = data.ArraySource(_images(1)[..., 0], _LABELS, num_classes=3)
  assert source.image_shape == (4, 6, 1)
  np.testing.assert_array_equal(source.as_arrays()["image"], _images(1))


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (np.zeros((5, 2, 2), np.float32), "images must be uint8"),
        (np.zeros((5, 2, 2), np.int64), "images must be uint8"),
        (np.zeros((5, 4), np.uint8), r"images must be uint8 \[n, height"),
        (np.zeros((5, 2, 0, 1), np.uint8), "must have at least one pixel"),
        (
            np.zeros((4, 2, 2), np.uint8),
            "as the labels, 5, got 4 .*private, not for",
        ),
    ],
)
def test_wrong_arrays_are_refused(images, text):
  with pytest.raises(ValueError, match=text):
    data.ArraySource(images, _LABELS, num_classes=3)


def test_an_image_that_is_read_late_and_broken_is_named():
  files = [_png(image) for image in _images()]
  files[3] = files[3][:40]
  source = encoded.EncodedSource(
      [lambda file=file: io.BytesIO(file) for file in files],
      [f"image {i}" for i in range(5)],
      _LABELS,
      num_classes=3,
  )
  assert source[np.array([0, 1, 2, 4])]["image"].any()
  with pytest.raises(ValueError, match="image 3 must be a JPEG or PNG image"):
    source[np.array([0, 3])]


def test_digits_split_is_fixed_and_covers_the_bundled_set_once():
  from sklearn import datasets

  bundled = datasets.load_digits()
  train = data.load("digits", split="train")
  test = data.load("digits", split="test")
  assert (len(train), len(test)) == (1437, 360)
  assert (train.num_examples, test.num_examples) == (1437, 360)
  # The rule of the module's docstring, by a slow loop.
  order = sorted(range(1797), key=lambda i: (bundled.target[i], i))
  rows = {"test": sorted(order[::5])}
  rows["train"] = sorted(set(range(1797)) - set(rows["test"]))
  for source, split in ((train, "train"), (test, "test")):
    arrays = source.as_arrays()
    np.testing.assert_array_equal(arrays["label"], bundled.target[rows[split]])
    pixels = bundled.images[rows[split]][..., None]
    # 0 stays 0 and 16 becomes 255; each pixel is the nearest uint8.
    assert np.abs(arrays["image"] - pixels * 255 / 16).max() <= 0.5
    assert np.bincount(arrays["label"]).min() >= 35 * len(source) // 360


def test_digits_of_some_classes():
  whole = data.load("digits", split="test").as_arrays()
  some = data.load("digits", split="test", classes=(7, 3))
  kept = np.isin(whole["label"], (3, 7))
  # In the order of the whole set; a class is its place among those asked for.
  np.testing.assert_array_equal(some.as_arrays()["image"], whole["image"][kept])
  np.testing.assert_array_equal(
      some.as_arrays()["label"], np.where(whole["label"][kept] == 7, 0, 1)
  )
  assert some.label_names == ("7", "3")
  # Stated, not counted: a wrong table would be refused here.
  for digit in range(10):
    for split in ("train", "test"):
      data.load("digits", split=split, classes=[digit])


@pytest.mark.parametrize(
    "classes", [(), (3, 3), (10,), (-1,), (True,), ("3",), 3, "3", None]
)
def test_digits_refuses_other_classes(classes):
  with pytest.raises(ValueError, match="classes must be different digits"):
    data.load("digits", classes=classes)


def test_digits_refuses_another_number_or_split():
  with pytest.raises(
      ValueError, match="must be .* 1437 .private, .*, got 1797"
  ):
    data.load("digits", num_examples=1797)
  with pytest.raises(ValueError, match="split must be 'train' or 'test', got"):
    data.load("digits", split="validation")


def test_arrays_by_name():
  source = data.load(
      "arrays", images=_images(), labels=_LABELS, num_classes=3, split="test"
  )
  np.testing.assert_array_equal(source.as_arrays()["image"], _images())


def _load_own(*, split, number, num_examples=None):
  del split
  return data.load("digits", num_examples=num_examples) if number else [1]


def test_own_sources_are_loaded_too():
  assert len(data.load(_load_own, number=1)) == 1437


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"name": _load_own}, "number must be given for '.*:_load_own', got n"),
        (
            {"name": _load_own, "a": 1},
            "option of '.*:_load_own' must be .*got 'a'",
        ),
        ({"name": _load_own, "number": 0}, "gives a list without groups"),
        (
            {"name": "mnist"},
            "name must be one of arrays, chexpert, digits, .*, got 'mnist'",
        ),
        (
            {"name": "digits", "path": "x"},
            "an option of 'digits' must be one of classes,",
        ),
        ({"name": "idx"}, "path must be given for 'idx', got none"),
    ],
)
def test_unknown_or_missing_options_are_refused(arguments, text):
  with pytest.raises(ValueError, match=text):
    data.load(**arguments)
