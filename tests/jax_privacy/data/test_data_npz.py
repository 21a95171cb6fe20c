"""NumPy archives in both layouts, and archives that lie or break."""

import io
import zipfile

import numpy as np
import PIL.Image
import pytest

from jax_privacy import data

_RNG = np.random.default_rng(0)
_IMAGES = _RNG.integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
_LABELS = np.array([3, 0, 1, 2, 2, 1])


def _png(image):
  file = io.BytesIO()
  PIL.Image.fromarray(image).save(file, "PNG")
  return file.getvalue()


def _encoded(**changes):
  files = [_png(image) for image in _IMAGES]
  arrays = {
      "bytes": np.frombuffer(b"".join(files), np.uint8),
      "offsets": np.cumsum([0] + [len(file) for file in files]),
      "labels": _LABELS,
      "is_test": np.array([False, True, False, False, True, False]),
      "label_names": np.array(["ant", "bee", "cow", "doe"]),
  }
  return {**arrays, **changes}


@pytest.fixture
def save(tmp_path):
  def save(**arrays):
    np.savez(tmp_path / "set.npz", **arrays)
    return tmp_path / "set.npz"

  return save


@pytest.mark.parametrize(
    ("image_key", "label_key"),
    [("x_{split}", "y_{split}"), ("{split}_images", "{split}_labels")],
)
@pytest.mark.parametrize("save_fn", [np.savez, np.savez_compressed])
def test_pixels_under_the_usual_names(tmp_path, image_key, label_key, save_fn):
  arrays = {}
  for split, rows in (("train", slice(0, 4)), ("test", slice(4, 6))):
    arrays[image_key.format(split=split)] = _IMAGES[rows]
    arrays[label_key.format(split=split)] = _LABELS[rows].astype(np.uint8)
  save_fn(tmp_path / "set.npz", **arrays)
  for split, rows in (("train", slice(0, 4)), ("test", slice(4, 6))):
    source = data.load("npz", split=split, path=tmp_path / "set.npz")
    batch = source.as_arrays()
    np.testing.assert_array_equal(batch["image"], _IMAGES[rows])
    np.testing.assert_array_equal(batch["label"], _LABELS[rows])
    assert source.num_classes == 10


def test_names_given_as_options(save):
  path = save(pixels_test=_IMAGES[..., 0], classes_test=_LABELS)
  source = data.load(
      "npz",
      split="test",
      path=path,
      image_key="pixels_{split}",
      label_key="classes_{split}",
      num_classes=4,
      num_examples=6,
  )
  assert source.image_shape == (4, 5, 1)
  assert source.num_examples == 6
  with pytest.raises(ValueError, match="must be given together"):
    data.load("npz", path=path, image_key="pixels_{split}")


def test_fortran_order_is_undone(save):
  path = save(x_train=np.asfortranarray(_IMAGES), y_train=_LABELS)
  batch = data.load("npz", path=path).as_arrays()
  np.testing.assert_array_equal(batch["image"], _IMAGES)


def test_encoded_images_by_split(save):
  path = save(**_encoded())
  test = data.load("npz", split="test", path=path, num_examples=2)
  np.testing.assert_array_equal(test.as_arrays()["image"], _IMAGES[[1, 4]])
  assert test.as_arrays()["label"].tolist() == [0, 2]
  assert test.label_names == ("ant", "bee", "cow", "doe")
  train = data.load("npz", split="train", path=path)
  batch = train[np.array([3, -1, 0])]
  np.testing.assert_array_equal(batch["image"][0], _IMAGES[5])
  np.testing.assert_array_equal(batch["image"][2], _IMAGES[0])
  assert batch["label"].tolist() == [1, 0, 3]


def test_encoded_images_in_grey(save):
  source = data.load("npz", path=save(**_encoded()), channels=1)
  assert source.image_shape == (4, 5, 1)
  grey = np.asarray(PIL.Image.fromarray(_IMAGES[0]).convert("L"))
  image = source[np.array([0])]["image"][0, ..., 0]
  np.testing.assert_array_equal(image, grey)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"offsets": np.zeros(0, int)}, "must hold n \\+ 1 offsets"),
        ({"offsets": np.zeros(6, int)}, "must hold n \\+ 1 offsets"),
        ({"offsets": np.arange(7)}, "offsets .* must rise from 0"),
        ({"offsets": np.full(7, -1)}, "offsets .* must rise from 0"),
        ({"is_test": np.zeros(6, int)}, "'is_test' .* must be of kind b"),
        ({"is_test": np.zeros(5, bool)}, "must hold n \\+ 1 offsets"),
        ({"is_test": np.ones(6, bool)}, "labels must hold at least one"),
        ({"labels": _LABELS + 1}, r"labels must be in \[0, 4\), got 4 at"),
        ({"labels": _LABELS * 1.0}, "'labels' .* must be of kind i or u"),
        ({"bytes": np.zeros(9, np.uint16)}, "bytes of .* must be uint8"),
        ({"label_names": np.arange(4)}, "'label_names' .* must be of kind U"),
    ],
)
def test_encoded_arrays_that_do_not_fit_are_refused(save, changes, text):
  with pytest.raises(ValueError, match=text):
    data.load("npz", path=save(**_encoded(**changes)))


def test_offsets_that_turn_back_are_refused(save):
  offsets = _encoded()["offsets"].astype(np.uint64)
  # Unsigned on purpose: differences of unsigned numbers are never negative.
  offsets[2], offsets[3] = offsets[3], offsets[2]
  with pytest.raises(ValueError, match="offsets .* must rise from 0"):
    data.load("npz", path=save(**_encoded(offsets=offsets)))


def test_a_broken_encoded_image_is_named_by_its_place_in_the_file(save):
  arrays = _encoded()
  broken = arrays["bytes"].copy()
  broken[arrays["offsets"][3] : arrays["offsets"][4]] = 0
  source = data.load("npz", path=save(**_encoded(bytes=broken)))
  with pytest.raises(ValueError, match="image 3 of .*set.npz must be a JPEG"):
    source.as_arrays()


def test_an_encoded_image_of_another_size_is_named(save):
  files = [_png(image) for image in _IMAGES]
  files[5] = _png(_IMAGES[5, :3])
  arrays = _encoded(
      bytes=np.frombuffer(b"".join(files), np.uint8),
      offsets=np.cumsum([0] + [len(file) for file in files]),
  )
  source = data.load("npz", path=save(**arrays))
  with pytest.raises(ValueError, match="image 5 .* size 4x5 .* got 3x5"):
    source.as_arrays()


def test_missing_arrays_are_named(save):
  with pytest.raises(
      ValueError, match="must hold x_test, y_test or .*, got x_train, y_train"
  ):
    data.load("npz", split="test", path=save(x_train=_IMAGES, y_train=_LABELS))


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"x_train": _IMAGES / 255}, "'x_train' .* must be of kind u"),
        ({"x_train": _IMAGES.astype(np.uint16)}, "images must be uint8"),
        ({"x_train": _IMAGES[0, 0]}, "and have 3 or 4 dimensions"),
        ({"x_train": _IMAGES[:5]}, "as many as the labels, 6, got 5"),
        ({"y_train": _LABELS[:, None]}, "labels must be as many .* 10, got 1"),
        ({"y_train": _LABELS[None, None]}, "'y_train' .* have 1 or 2 dimens"),
        ({"y_train": _LABELS + 8}, r"in \[0, 10\), got 11 at index 0"),
    ],
)
def test_wrong_pixels_are_refused(save, arrays, text):
  arrays = {"x_train": _IMAGES, "y_train": _LABELS, **arrays}
  with pytest.raises(ValueError, match=text):
    data.load("npz", path=save(**arrays))


class _Bomb:
  """Unpickling this fails the test, whatever is done with the result."""

  exploded = False

  def __reduce__(self):
    return (setattr, (_Bomb, "exploded", True))


@pytest.mark.parametrize("key", ["x_train", "y_train", "label_names"])
def test_nothing_is_ever_unpickled(save, key):
  arrays = {"x_train": _IMAGES, "y_train": _LABELS}
  arrays[key] = np.array([_Bomb()], dtype=object)
  with pytest.raises(ValueError, match=f"'{key}' of .* must be of kind"):
    data.load("npz", path=save(**arrays))
  assert not _Bomb.exploded


def _npy(array, **header):
  """The bytes of an .npy file, of which the header may be made to lie."""
  file = io.BytesIO()
  header = {
      "shape": array.shape,
      "fortran_order": False,
      "descr": np.lib.format.dtype_to_descr(array.dtype),
      **header,
  }
  np.lib.format.write_array_header_1_0(file, header)
  return file.getvalue() + array.tobytes()


def _archive(tmp_path, images, labels=None):
  path = tmp_path / "set.npz"
  labels = _npy(_LABELS) if labels is None else labels
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
    file.writestr("x_train.npy", images)
    file.writestr("y_train.npy", labels)
  return path


@pytest.mark.parametrize(
    "shape",
    [
        (10**6, 10**6, 10**6),
        (2**62, 4, 4),
        (0, 2**62, 2**62),
        (7, 4, 5, 3),
        (5, 4, 5, 3),
        (-6, 4, 5, 3),
        (-6, -4, 5, 3),
        (6, 4, 5, True),
    ],
)
def test_a_lying_shape_costs_no_memory(tmp_path, shape):
  path = _archive(tmp_path, _npy(_IMAGES, shape=shape))
  with pytest.raises(ValueError, match="'x_train' of .*set.npz must be"):
    data.load("npz", path=path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"not an array at all",
        b"\x93NUMPY\x09\x00" + bytes(200),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(200),
        b"\x93NUMPY\x01\x00\x76\x00" + b"(" * 118,
        _npy(_IMAGES)[:-1],
        _npy(_IMAGES) + b"\0",
        _npy(_IMAGES, descr="|O"),
        _npy(_IMAGES, descr="|V1"),
        _npy(_IMAGES, descr="nonsense"),
    ],
    ids=range(11),
)
def test_a_malformed_array_is_refused_by_name(tmp_path, content):
  path = _archive(tmp_path, content)
  with pytest.raises(ValueError, match="array 'x_train' of .*set.npz must be"):
    data.load("npz", path=path)


def test_a_file_that_is_cut_anywhere_is_refused(save):
  path = save(x_train=_IMAGES, y_train=_LABELS)
  whole = path.read_bytes()
  for size in range(0, len(whole), 97):
    path.write_bytes(whole[:size])
    with pytest.raises(ValueError, match="set.npz"):
      data.load("npz", path=path)


def test_a_byte_flipped_anywhere_is_refused_or_harmless(save):
  """Never another kind of error, and never other pixels or labels."""
  path = save(x_train=_IMAGES, y_train=_LABELS)
  whole = path.read_bytes()
  for place in range(0, len(whole), 13):
    broken = bytearray(whole)
    broken[place] ^= 0xFF
    path.write_bytes(bytes(broken))
    try:
      batch = data.load("npz", path=path).as_arrays()
    except ValueError:
      continue
    np.testing.assert_array_equal(batch["image"], _IMAGES)
    np.testing.assert_array_equal(batch["label"], _LABELS)


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(ValueError, match="readable .npz file, got .*none.npz"):
    data.load("npz", path=tmp_path / "none.npz")
