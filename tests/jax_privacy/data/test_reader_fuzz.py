"""Damaged files: the data that were saved, or an error that names the file.

Never another error, and never data that were not saved: IDX and gzip, npz and
the arrays inside, PNG and JPEG.
"""

import gzip
import io
import struct
import warnings
import zipfile

import hypothesis
import numpy as np
import PIL.Image
import pytest
from hypothesis import strategies as st

from jax_privacy import data
from jax_privacy.data import decode, idx
from tests.support import fuzz

_RNG = np.random.default_rng(0)
_IMAGES = _RNG.integers(0, 256, (5, 4, 3), dtype=np.uint8)
_LABELS = np.array([3, 0, 1, 2, 2])
_IDX = struct.pack(">4I", 0x803, *_IMAGES.shape) + _IMAGES.tobytes()


def _npz(**parts):
  file = io.BytesIO()
  with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
    for name, content in parts.items():
      archive.writestr(f"{name}.npy", content)
  return file.getvalue()


def _npy(array, header=None):
  """The bytes of an .npy file, under any header."""
  file = io.BytesIO()
  np.save(file, array)
  whole = file.getvalue()
  if header is None:
    return whole
  start = b"\x93NUMPY\x02\x00" + struct.pack("<I", len(header))
  return start + header + array.tobytes()


def _image(mode, form, **options):
  file = io.BytesIO()
  pixels = PIL.Image.fromarray(_RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8))
  pixels.convert(mode).save(file, form, **options)
  return file.getvalue()


_PNG, _JPEG = _image("P", "PNG"), _image("RGB", "JPEG", progressive=True)
_NPZ = _npz(x_train=_npy(_IMAGES), y_train=_npy(_LABELS))


def _check_idx(folder, content, compress):
  path = folder / ("images.gz" if compress else "images")
  path.write_bytes(content)
  try:
    images = idx.read_idx(path, ndim=3)
  except ValueError as error:
    fuzz.assert_clear(error, str(path))
    return
  # Without a checksum a changed pixel is a pixel; the header is checked.
  assert images.size == len(content) - 16 or compress


def _check_npz(folder, content):
  path = folder / "set.npz"
  path.write_bytes(content)
  try:
    arrays = data.load("npz", path=path).as_arrays()
  except ValueError as error:
    fuzz.assert_clear(error, str(path))
    return
  if content[:2] == b"PK":  # What was put before the archive is not read.
    np.testing.assert_array_equal(arrays["image"][..., 0], _IMAGES)
    np.testing.assert_array_equal(arrays["label"], _LABELS)


def _check_image(content, channels):
  with warnings.catch_warnings():
    warnings.simplefilter("error")  # Pillow's, which tell of an example.
    try:
      image = decode.decode_image(
          io.BytesIO(content),
          what="image 7",
          channels=channels,
          size=(6, 5),
          resize=False,
      )
    except data.ImageError as error:
      fuzz.assert_clear(error, "image 7")
      assert " at 0x" not in str(error)  # The address of an object.
      return
  assert image.shape == (6, 5, channels) and image.dtype == np.uint8


_EITHER_IDX = st.booleans().flatmap(
    lambda c: st.tuples(
        fuzz.damaged(gzip.compress(_IDX) if c else _IDX), st.just(c)
    )
)
_EITHER_IMAGE = st.sampled_from([_PNG, _JPEG]).flatmap(fuzz.damaged)
_CHANNELS = st.sampled_from([1, 3])


@fuzz.SHORT
@hypothesis.given(case=_EITHER_IDX)
def test_damaged_idx(tmp_path, case):
  _check_idx(tmp_path, *case)


@fuzz.SHORT
@hypothesis.given(content=fuzz.damaged(_NPZ))
def test_damaged_npz(tmp_path, content):
  _check_npz(tmp_path, content)


@fuzz.SHORT
@hypothesis.given(content=_EITHER_IMAGE, channels=_CHANNELS)
def test_damaged_image(content, channels):
  _check_image(content, channels)


@pytest.mark.slow
@fuzz.LONG
@hypothesis.given(case=_EITHER_IDX)
def test_damaged_idx_at_length(tmp_path, case):
  _check_idx(tmp_path, *case)


@pytest.mark.slow
@fuzz.LONG
@hypothesis.given(content=fuzz.damaged(_NPZ))
def test_damaged_npz_at_length(tmp_path, content):
  _check_npz(tmp_path, content)


@pytest.mark.slow
@fuzz.LONG
@hypothesis.given(content=_EITHER_IMAGE, channels=_CHANNELS)
def test_damaged_image_at_length(content, channels):
  _check_image(content, channels)


# Pieces of a header, and things that Python's parser or NumPy trips over.
_PIECES = st.sampled_from(
    ["(", ")", "[", "{", "}", "-", "'", ",", ":", " ", "\n", "\\", "#", "1"]
    + ["'descr'", "'shape'", "'fortran_order'", "True", "None", "'|u1'"]
    + ["'<U4'", "'|O'", "'(9,)u1'", "'f8,f8'", "9" * 500, "L", "lambda"]
)
_DESCR = st.one_of(
    st.sampled_from(["|u1", "<i8", "|O", "<U0", "<U-1", "|V9", "m8[s]"]),
    st.sampled_from([(), [], None, ("u1", (10**9,)), [("a", "|u1")], [("a",)]]),
    fuzz.JSON,
)
_SHAPE = st.lists(
    st.sampled_from([0, 1, 4, 5, -1, 2**31, 2**62, 10**30, True, None, 1.5]),
    max_size=5,
).map(tuple)
_HEADERS = st.one_of(
    st.lists(_PIECES, max_size=30).map("".join),
    st.tuples(_PIECES, st.integers(90, 9000)).map(lambda x: x[0] * x[1]),
    st.fixed_dictionaries(
        {"descr": _DESCR, "fortran_order": st.booleans(), "shape": _SHAPE}
    ).map(repr),
)


def _check_header(folder, header, key):
  """Refused, or, where it says what the array is, the array itself."""
  parts = {"x_train": _IMAGES, "y_train": _LABELS}
  parts["label_names"] = np.array(["a", "b", "c", "d"])
  content = {name: _npy(array) for name, array in parts.items()}
  content[key] = _npy(parts[key], header.encode("utf-8", "replace"))
  path = folder / "set.npz"
  path.write_bytes(_npz(**content))
  try:
    with fuzz.memory_below(20_000_000):
      arrays = data.load("npz", path=path).as_arrays()
  except ValueError as error:
    fuzz.assert_clear(error, str(path))
    return
  assert arrays["image"].size == _IMAGES.size


_KEYS = st.sampled_from(["x_train", "y_train", "label_names"])


def _numpys_warnings(test):
  """Without what NumPy says of a header before it refuses or reads it.

  It evaluates it as a Python literal, in which a backslash may be out of place,
  and reads the headers of Python 2 with a warning.
  """
  for text in (
      "Reading `.npy` or `.npz`",
      r"invalid escape sequence:DeprecationWarning",  # Until Python 3.12.
      r".*invalid escape sequence:SyntaxWarning",
  ):
    test = pytest.mark.filterwarnings(f"ignore:{text}")(test)
  return test


@_numpys_warnings
@fuzz.SHORT
@hypothesis.given(header=_HEADERS, key=_KEYS)
def test_any_header_of_an_array(tmp_path, header, key):
  _check_header(tmp_path, header, key)


@pytest.mark.slow
@_numpys_warnings
@fuzz.LONG
@hypothesis.given(header=_HEADERS, key=_KEYS)
def test_any_header_of_an_array_at_length(tmp_path, header, key):
  _check_header(tmp_path, header, key)
