"""Sources of several labels an example, and columns of groups."""

import copy
import io
import pickle

import numpy as np
import PIL.Image
import pytest

from jax_privacy import data
from jax_privacy.data import encoded

_IMAGES = np.random.default_rng(0).integers(0, 256, (4, 3, 5, 1), np.uint8)
_LABELS = np.array([[1, 0, -1], [0, 0, 0], [-1, -1, -1], [1, 1, 0]])
_NAMES = ("ant", "bee", "cow")
_SEX = data.Group(names=("F", "M"), codes=np.array([0, 1, -1, 1]))


def _array_source(labels=_LABELS, **options):
  options = {"label_names": _NAMES, **options}
  return data.load("arrays", images=_IMAGES, labels=labels, **options)


def _encoded_source(labels=_LABELS, **options):
  def opener(image):
    file = io.BytesIO()
    PIL.Image.fromarray(image[..., 0]).save(file, "PNG")
    return lambda: io.BytesIO(file.getvalue())

  return encoded.EncodedSource(
      [opener(image) for image in _IMAGES],
      ["a", "b", "c", "d"],
      labels,
      channels=1,
      **{"label_names": _NAMES, **options},
  )


@pytest.fixture(params=[_array_source, _encoded_source])
def make(request):
  return request.param


def test_labels_come_as_they_were_given(make):
  source = make()
  assert source.is_multi_label
  assert (source.num_classes, source.label_names) == (3, _NAMES)
  batch = source[np.array([3, 0])]
  np.testing.assert_array_equal(batch["label"], _LABELS[[3, 0]])
  assert batch["label"].dtype == np.int32
  everything = source.as_arrays()
  np.testing.assert_array_equal(everything["label"], _LABELS)
  np.testing.assert_array_equal(everything["image"], _IMAGES)


def test_padding_has_no_label_that_counts(make):
  """0 would say "absent", and pull every label's mean down."""
  source = make()
  batch = source[np.array([-1, 3, -1])]
  assert batch["label"].tolist() == [[-1] * 3, [1, 1, 0], [-1] * 3]
  assert not batch["image"][[0, 2]].any()
  assert source[np.zeros(0, int)]["label"].shape == (0, 3)
  # Nor may padding be written through to the data.
  np.testing.assert_array_equal(source.as_arrays()["label"], _LABELS)


def test_one_label_an_example_is_not_multi_label(make):
  source = make(np.array([0, 1, 2, 0]))
  assert not source.is_multi_label
  assert source.groups == {}
  assert not data.load("digits").is_multi_label


def test_one_column_of_labels_is_multi_label(make):
  source = make(_LABELS[:, :1], label_names=("ant",))
  assert source.is_multi_label
  assert source[np.array([2])]["label"].tolist() == [[-1]]


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (_LABELS[:, :2], "as many an example as label_names, 3, got 2"),
        (np.where(_LABELS == 1, 2, _LABELS), "1, 0 or -1 .* got 2 at index 0"),
        (_LABELS - 1, "1, 0 or -1 .* got -2 at index 0"),
        (_LABELS.astype(float), "a 1-D array of integers, or 2-D .* float64"),
        (_LABELS[None], r"a 1-D array of integers, or 2-D .* \[1, 4, 3\]"),
        (_LABELS[:0], "at least one example"),
    ],
)
def test_wrong_labels_are_refused(make, labels, text):
  with pytest.raises(ValueError, match=f"labels must .*{text}"):
    make(labels)


def test_groups_are_columns_by_name(make):
  source = make(groups={"sex": _SEX})
  assert source.groups["sex"].names == ("F", "M")
  assert source.groups["sex"].codes.tolist() == [0, 1, -1, 1]
  assert source.groups["sex"].codes.dtype == np.int32
  assert "sex" not in source[np.array([0])]  # Nothing that training reads.


@pytest.mark.parametrize(
    "copy_fn", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_an_array_source_can_be_sent_to_a_worker(copy_fn):
  source = copy_fn(_array_source(groups={"sex": _SEX}))
  assert source.is_multi_label
  assert source.groups["sex"].codes.tolist() == [0, 1, -1, 1]


@pytest.mark.parametrize(
    ("groups", "text"),
    [
        ([_SEX], "groups must be columns by name"),
        ({"sex": _SEX.codes}, "for each example, 4, got no Group for 'sex'"),
        ({"sex\n": _SEX}, "groups must have printable names"),
        ({1: _SEX}, "groups must have printable names"),
        (
            {"sex": data.Group(names=("F",), codes=np.zeros(3, int))},
            "for each example, 4, got 3 for 'sex'",
        ),
    ],
)
def test_wrong_groups_are_refused(make, groups, text):
  with pytest.raises(ValueError, match=text):
    make(groups=groups)


@pytest.mark.parametrize(
    ("names", "codes", "text"),
    [
        (
            ("F", "M"),
            [0, 2],
            r"-1 \(unknown\) or in \[0, 2\), got 2 at index 1",
        ),
        (("F", "M"), [-2, 0], r"in \[0, 2\), got -2 at index 0"),
        (("F", "M"), [0.0, 1.0], "1-D array of integers, got float64"),
        (("F", "M"), [[0], [1]], "1-D array of integers"),
        (("F", "F"), [0, 0], "names of a group must be .* different"),
        (("F\n",), [0, 0], "names of a group must be .* printable"),
        ("FM", [0, 1], "names of a group must be one or more"),
        ((), [-1, -1], "names of a group must be one or more"),
    ],
)
def test_a_wrong_group_is_refused(names, codes, text):
  with pytest.raises(ValueError, match=text):
    data.Group(names=names, codes=np.array(codes))


def test_an_archive_of_several_labels(tmp_path):
  path = tmp_path / "set.npz"
  np.savez(path, x_train=_IMAGES, y_train=_LABELS, label_names=_NAMES)
  source = data.load("npz", path=path)
  assert source.is_multi_label
  assert source.label_names == _NAMES
  np.testing.assert_array_equal(source.as_arrays()["label"], _LABELS)
