"""Files made to harm: memory, waiting, code, forgery. One test a fault."""

import gzip
import io
import os
import pickle
import struct
import zipfile
import zlib

import numpy as np
import PIL.Image
import pytest

from jax_privacy import data
from jax_privacy.data import bounded, idx
from tests.support import fuzz

_IMAGES = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
_LABELS = np.array([2, 0, 1])
_MEGABYTE = 1_000_000


def _npy(array):
  file = io.BytesIO()
  np.save(file, array, allow_pickle=True)
  return file.getvalue()


def _archive(path, *, method=zipfile.ZIP_DEFLATED, **parts):
  whole = {"x_train": _npy(_IMAGES), "y_train": _npy(_LABELS)} | parts
  with zipfile.ZipFile(path, "w", method) as archive:
    for name, content in whole.items():
      archive.writestr(f"{name}.npy", content)
  return path


@pytest.fixture
def small_limit(monkeypatch):
  """Bombs of megabytes are as good as of gigabytes, and quicker to make."""
  monkeypatch.setattr(bounded, "_ALWAYS_ALLOWED", 100_000)


def test_an_archive_that_expands_a_thousand_times_is_refused(
    tmp_path, small_limit
):
  zeros = np.zeros((20, 1000, 1000), np.uint8)
  path = _archive(tmp_path / "set.npz", x_train=_npy(zeros))
  assert path.stat().st_size < 50_000
  with fuzz.memory_below(_MEGABYTE):
    with pytest.raises(ValueError, match="'x_train' of .*set.npz must expand"):
      data.load("npz", path=path)


def test_a_member_that_understates_its_size_is_cut_off(tmp_path, small_limit):
  """The central directory says 10 bytes; what is compressed is 20 MB."""
  path = _archive(
      tmp_path / "set.npz", x_train=b"\x93NUMPY" + bytes(20 * 10**6)
  )
  whole = path.read_bytes()
  true_size = struct.pack("<I", 6 + 20 * 10**6)
  assert true_size in whole
  path.write_bytes(whole.replace(true_size, struct.pack("<I", 10)))
  with fuzz.memory_below(_MEGABYTE):
    with pytest.raises(ValueError, match="'x_train' of .*set.npz must be read"):
      data.load("npz", path=path)


def test_a_gzip_file_that_expands_a_thousand_times_is_refused(
    tmp_path, small_limit
):
  path = tmp_path / "images.gz"
  header = struct.pack(">4I", 0x803, 20, 1000, 1000)
  path.write_bytes(gzip.compress(header + bytes(20 * 10**6)))
  with fuzz.memory_below(_MEGABYTE):
    with pytest.raises(ValueError, match="images.gz must expand to at most"):
      idx.read_idx(path, ndim=3)


def test_a_set_of_ordinary_size_may_be_all_black(tmp_path):
  zeros = np.zeros((1000, 100, 100), np.uint8)  # 10 MB in 10 kB.
  labels = np.zeros(1000, int)
  np.savez_compressed(tmp_path / "set.npz", x_train=zeros, y_train=labels)
  assert data.load("npz", path=tmp_path / "set.npz").num_classes == 10


def test_a_header_of_a_terabyte_costs_nothing(tmp_path):
  header = struct.pack(">4I", 0x803, 2**20, 2**10, 2**10)
  for name, content in (("a", header), ("a.gz", gzip.compress(header))):
    (tmp_path / name).write_bytes(content + bytes(0))
    with fuzz.memory_below(3 * _MEGABYTE):  # One piece of a megabyte or two.
      with pytest.raises(ValueError, match=str(2**40)):
        idx.read_idx(tmp_path / name, ndim=3)


def test_a_compression_that_numpy_does_not_write_is_refused(tmp_path):
  """An LZMA decoder allocates what its header says, up to 4 GB."""
  for method in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
    path = _archive(tmp_path / "set.npz", method=method)
    with pytest.raises(ValueError, match="must be stored or deflated, got"):
      data.load("npz", path=path)


# zipfile's, when the test writes the second.
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_array_that_is_there_twice_is_refused(tmp_path):
  """Readers differ in which of the two they take."""
  path = _archive(tmp_path / "set.npz")
  with zipfile.ZipFile(path, "a") as archive:
    archive.writestr("y_train.npy", _npy(_LABELS[::-1]))
  with pytest.raises(ValueError, match="must hold 'y_train' once, got it tw"):
    data.load("npz", path=path)


def test_names_in_an_archive_are_no_paths(tmp_path):
  (tmp_path / "inner").mkdir()
  path = _archive(tmp_path / "inner" / "set.npz")
  with zipfile.ZipFile(path, "a") as archive:
    for name in ("../evil", "/tmp/evil", "..\\evil"):
      archive.writestr(f"{name}.npy", _npy(_LABELS))
  source = data.load("npz", path=path)
  np.testing.assert_array_equal(source.as_arrays()["label"], _LABELS)
  assert [x.name for x in tmp_path.rglob("*")] == ["inner", "set.npz"]


class _Creates:
  """Pickled, this makes a file when it is loaded."""

  def __init__(self, path):
    self.path = str(path)

  def __reduce__(self):
    return (open, (self.path, "w"))


@pytest.mark.parametrize("key", ["x_train", "y_train", "label_names"])
def test_no_code_is_run_from_an_archive(tmp_path, key):
  made = tmp_path / "made"
  array = np.array([_Creates(made)], dtype=object)
  path = _archive(tmp_path / "set.npz", **{key: _npy(array)})
  with pytest.raises(ValueError, match=f"array '{key}' of .* must be of kind"):
    data.load("npz", path=path)
  assert not made.exists()
  pickle.loads(pickle.dumps(array))  # The trap is a live one.
  assert made.exists()


@pytest.mark.parametrize(
    "descr, text",
    [
        ("()", "array 'x_train' of .* must be readable: tuple index"),
        ("[('a',)]", "array 'x_train' of .* must be readable"),
        ("'|u1'" + " " * 20_000, "must be readable: Header info length"),
    ],
)
def test_a_header_that_numpy_trips_over(tmp_path, descr, text):
  """An IndexError; and a text of three lines."""
  header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': (3,)}}\n"
  start = b"\x93NUMPY\x02\x00" + struct.pack("<I", len(header))
  path = _archive(tmp_path / "set.npz", x_train=start + header.encode())
  with pytest.raises(ValueError, match=text) as raised:
    data.load("npz", path=path)
  fuzz.assert_clear(raised.value, "set.npz")


@pytest.mark.parametrize("code", [0x110000, 2**32 - 1, 0xD800, 10, 27])
@pytest.mark.parametrize("order", "<>")
def test_label_names_that_cannot_be_printed(tmp_path, code, order):
  """No characters end NumPy with a SystemError; others forge a line."""
  names = np.frombuffer(struct.pack(f"{order}3I", 65, 66, code), f"{order}U1")
  path = _archive(tmp_path / "set.npz", label_names=_npy(names))
  with pytest.raises(ValueError, match="set.npz.*(must be text|printable)"):
    data.load("npz", path=path)


def test_a_named_pipe_is_no_file(tmp_path):
  """Opening one waits until somebody writes."""
  for name in ("set.npz", "train-images-idx3-ubyte", "images"):
    os.mkfifo(tmp_path / name)
  folder = tmp_path / "train" / "a"
  folder.mkdir(parents=True)
  os.mkfifo(folder / "0.png")
  found = [
      fuzz.returns(data.load, "npz", path=tmp_path / "set.npz"),
      fuzz.returns(data.load, "idx", path=tmp_path),
      fuzz.returns(idx.read_idx, tmp_path / "images", ndim=3),
      fuzz.returns(data.load, "folder", path=tmp_path),
  ]
  assert [type(error) for error in found] == [ValueError] * 4
  for error in found:
    fuzz.assert_clear(error, str(tmp_path))


@pytest.mark.parametrize("source", ["npz", "idx", "folder"])
@pytest.mark.parametrize(
    "path", [0, True, None, 1.5, ("a",), "/dev/zero", "\0"]
)
def test_a_path_that_is_none(source, path):
  """0 is standard input to `open`."""
  with pytest.raises(ValueError) as raised:
    data.load(source, path=path)
  fuzz.assert_clear(raised.value)


def _picture(path, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  PIL.Image.fromarray(_IMAGES[0]).save(path, **options)


def test_what_is_no_file_is_not_left_out_without_a_word(tmp_path):
  """Else a moved disk makes a smaller data set."""
  folder = tmp_path / "train" / "a"
  _picture(folder / "0.png")
  (folder / "1.png").symlink_to(tmp_path / "gone.png")
  with pytest.raises(ValueError, match="1.png must be a file, got .* link"):
    data.load("folder", path=tmp_path)
  (folder / "1.png").unlink()
  (folder / "2.png").mkdir()
  with pytest.raises(ValueError, match="2.png must be a file, got a folder"):
    data.load("folder", path=tmp_path)


def test_links_are_followed_out_of_the_folder(tmp_path):
  _picture(tmp_path / "elsewhere" / "x.png")
  folder = tmp_path / "root" / "train" / "a"
  folder.mkdir(parents=True)
  (folder / "0.png").symlink_to(tmp_path / "elsewhere" / "x.png")
  source = data.load("folder", path=tmp_path / "root", channels=1)
  image = source.as_arrays()["image"][0, ..., 0]
  np.testing.assert_array_equal(image, _IMAGES[0])


@pytest.mark.parametrize("name", ["a b", "é", "-n", "%s{0}", "a\nb", "\udcff"])
def test_odd_names_of_files_are_read(tmp_path, name):
  _picture(tmp_path / "train" / "a" / f"{name}.png")
  assert len(data.load("folder", path=tmp_path)) == 1


@pytest.mark.parametrize("name", ["a\nb", "\udcff", "\x1b[31m"])
def test_odd_names_of_classes_are_refused(tmp_path, name):
  _picture(tmp_path / "train" / name / "0.png")
  with pytest.raises(ValueError, match="label_names must be .* printable"):
    data.load("folder", path=tmp_path)


def _png_header(width, height):
  body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
  chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
  return b"\x89PNG\r\n\x1a\n" + chunk


@pytest.mark.parametrize("side", [20_000, 2**31 - 1])
def test_a_header_of_a_huge_image_costs_nothing(tmp_path, side):
  path = tmp_path / "train" / "a" / "0.png"
  path.parent.mkdir(parents=True)
  path.write_bytes(_png_header(side, side))
  with fuzz.memory_below(_MEGABYTE):
    with pytest.raises(ValueError, match="0.png must be a JPEG or PNG image"):
      data.load("folder", path=tmp_path)


def test_an_unknown_image_is_told_without_an_address(tmp_path):
  """Pillow's text has that of the stream: it differs from run to run."""
  path = _archive(
      tmp_path / "set.npz",
      bytes=_npy(np.zeros(9, np.uint8)),
      offsets=_npy(np.array([0, 9])),
      labels=_npy(np.array([0])),
      is_test=_npy(np.array([False])),
  )
  with pytest.raises(
      data.ImageError, match="must be a JPEG or PNG image, got neither.$"
  ):
    data.load("npz", path=path)


@pytest.mark.parametrize(
    "options, text",
    [
        ({"num_classes": 10**30}, "num_classes must be at most"),
        ({"label_names": 5}, "label_names must be one or more"),
        ({"label_names": "ab"}, "label_names must be one or more"),
        ({"image_key": 1, "label_key": 2}, "as strings, got 1 and 2"),
        ({"image_key": "a"}, "given together"),
    ],
)
def test_options_that_ask_for_too_much(tmp_path, options, text):
  with pytest.raises(ValueError, match=text):
    data.load("npz", path=_archive(tmp_path / "set.npz"), **options)


@pytest.mark.parametrize(
    "shape",
    [None, 8, "abc", (8, 8), (8, 8, 1.5), (7, 8, 1), ("a", 8, 1), (9**9,) * 3],
)
def test_shapes_of_digits(shape):
  with pytest.raises(ValueError, match="image_shape must be integers of at"):
    data.load("digits", image_shape=shape)


def test_sizes_of_images(tmp_path):
  _picture(tmp_path / "train" / "a" / "0.png")
  with pytest.raises(ValueError, match="image_size must be at most 8192"):
    data.load("folder", path=tmp_path, image_size=(10**9, 10**9))
