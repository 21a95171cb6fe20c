"""MNIST-format files: read back exactly, and refused when they lie."""

import gzip
import struct

import numpy as np
import pytest

from jax_privacy import data

_IMAGES = np.arange(3 * 2 * 4, dtype=np.uint8).reshape(3, 2, 4)
_LABELS = np.array([9, 0, 4], np.uint8)


def _idx(array, *, magic=None, shape=None):
  """The bytes of an IDX file, of which the header may be made to lie."""
  magic = magic if magic is not None else 0x800 | array.ndim
  shape = shape or array.shape
  return struct.pack(f">I{len(shape)}I", magic, *shape) + array.tobytes()


def _write(folder, images, labels, *, prefix="train", compress=False):
  for name, content in (("images-idx3", images), ("labels-idx1", labels)):
    path = folder / f"{prefix}-{name}-ubyte{'.gz' if compress else ''}"
    path.write_bytes(gzip.compress(content) if compress else content)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(
    ("split", "prefix"), [("train", "train"), ("test", "t10k")]
)
def test_reads_back(tmp_path, split, prefix, compress):
  _write(
      tmp_path, _idx(_IMAGES), _idx(_LABELS), prefix=prefix, compress=compress
  )
  source = data.load("idx", split=split, path=tmp_path, num_examples=3)
  assert source.image_shape == (2, 4, 1)
  assert source.num_classes == 10
  arrays = source.as_arrays()
  np.testing.assert_array_equal(arrays["image"][..., 0], _IMAGES)
  np.testing.assert_array_equal(arrays["label"], _LABELS)


def test_the_dimensions_are_big_endian(tmp_path):
  """0x0300 rows, little-endian, would be 3."""
  images = np.zeros((1, 0x300, 1), np.uint8)
  _write(tmp_path, _idx(images), _idx(_LABELS[:1]))
  assert data.load("idx", path=tmp_path).image_shape == (0x300, 1, 1)


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (b"", "must hold 4 more bytes, got 0"),
        (_idx(_IMAGES)[:7], "must hold 12 more bytes, got 3"),
        (_idx(_IMAGES)[:-1], "must hold 24 more bytes, got 23"),
        (_idx(_IMAGES) + b"\0", "must end where its header says"),
        (_idx(_IMAGES, magic=0x801), "magic number 0x00000803.*0x00000801"),
        # 0x0D: floats. 0x803 in the other byte order.
        (_idx(_IMAGES, magic=0xD03), "magic number 0x00000803.*0x00000d03"),
        (_idx(_IMAGES, magic=0x03080000), "magic number 0x00000803"),
        (_idx(_IMAGES, shape=(4, 2, 4)), "must hold 32 more bytes, got 24"),
        (_idx(_IMAGES, shape=(2, 2, 4)), "must end where its header says"),
        (_idx(_IMAGES[:0]), "images must be as many as the labels, 3, got 0"),
        (_idx(_IMAGES[:2]), "images must be as many as the labels, 3, got 2"),
        (_idx(_IMAGES[:, :0]), "images must have at least one pixel"),
    ],
)
@pytest.mark.parametrize("compress", [False, True])
def test_malformed_files_are_refused(tmp_path, images, text, compress):
  _write(tmp_path, images, _idx(_LABELS), compress=compress)
  with pytest.raises(ValueError, match=text):
    data.load("idx", path=tmp_path)


@pytest.mark.parametrize(
    "shape", [(2**32 - 1,) * 3, (0, 2**32 - 1, 2**32 - 1), (2**31, 28, 28)]
)
@pytest.mark.parametrize("compress", [False, True])
def test_a_lying_header_costs_no_memory(tmp_path, shape, compress):
  """79 octillion bytes promised; allocating first would end the process."""
  images = _idx(_IMAGES, shape=shape)
  _write(tmp_path, images, _idx(_LABELS), compress=compress)
  with pytest.raises(ValueError, match="train-images-idx3-ubyte"):
    data.load("idx", path=tmp_path)


def test_broken_gzip_is_refused_by_name(tmp_path):
  _write(tmp_path, _idx(_IMAGES), _idx(_LABELS), compress=True)
  path = tmp_path / "train-images-idx3-ubyte.gz"
  whole = path.read_bytes()
  for broken in (whole[:-9], b"no gzip", whole[:15] + b"\xff" + whole[16:]):
    path.write_bytes(broken)
    with pytest.raises(ValueError, match="train-images-idx3-ubyte.gz must"):
      data.load("idx", path=tmp_path)


def test_labels_out_of_range_are_refused(tmp_path):
  _write(tmp_path, _idx(_IMAGES), _idx(_LABELS))
  with pytest.raises(ValueError, match=r"in \[0, 9\), got 9 at index 0"):
    data.load("idx", path=tmp_path, num_classes=9)


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(ValueError, match="path must hold t10k-images-idx3-ubyte"):
    data.load("idx", split="test", path=tmp_path)
