"""Digests of sources: the same examples have the same, others never."""

import types

import numpy as np
import PIL.Image
import pytest

from jax_privacy import data
from jax_privacy.data import digest, encoded, folder, npz
from jax_privacy.data.tables import splits
from tests.support import tfds_sets

_KEY = bytes(range(32))
_IMAGES = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 1), np.uint8)
_LABELS = np.array([0, 1, 2, 0, 1, 2])


def _of(source, key=_KEY):
  return digest.keyed(digest.parts_of(source), key=key)


def _pixel(images, labels):
  images = images.copy()
  images[3, 2, 1] ^= 1
  return images, labels


def _label(images, labels):
  return images, np.append(labels[:-1], 0)


def _swapped(images, labels):
  order = [1, 0, 2, 3, 4, 5]
  return images[order], labels[order]


_CHANGES = (_pixel, _label, _swapped)


def _arrays(tmp_path, images, labels):
  return data.ArraySource(images, labels, num_classes=3)


def _features(tmp_path, images, labels):
  def extract(images):
    raise AssertionError("no feature is needed for a digest")

  extract.feature_shape = (1, 1, 1)
  return data.FeatureSource(_arrays(tmp_path, images, labels), extract)


def _archive(tmp_path, images, labels):
  files = [tfds_sets.png(image[..., 0]) for image in images]
  np.savez(
      tmp_path / "set.npz",
      bytes=np.frombuffer(b"".join(files), np.uint8),
      offsets=np.cumsum([0] + [len(file) for file in files]),
      labels=labels,
      is_test=np.zeros(len(files), bool),
  )
  return npz.load_npz(path=tmp_path / "set.npz", channels=1, num_classes=3)


def _files(tmp_path, images, labels):
  """BMP's like: every image has the same size, so bytes alone differ."""
  paths = [tmp_path / f"{i}.png" for i in range(len(images))]
  for path, image in zip(paths, images, strict=True):
    PIL.Image.fromarray(image[..., 0]).save(path, "PNG", compress_level=0)
  names = [str(path) for path in paths]
  return encoded.EncodedSource(names, names, labels, channels=1, num_classes=3)


def _table(tmp_path, images, labels):
  rows = np.array(
      [
          (int(image[2, 1, 0]), str(label))
          for image, label in zip(images, labels, strict=True)
      ],
      [("shade", int), ("digit", "U1")],
  )
  schema = {
      "columns": {
          "shade": {"kind": "number", "bounds": [0, 255]},
          "digit": {"kind": "category", "values": ["0", "1", "2"]},
      }
  }
  return splits.from_frame(
      rows, target="digit", num_examples=len(rows), schema=schema
  )


_MAKE = (_arrays, _features, _archive, _files, _table)


@pytest.mark.parametrize("make", _MAKE)
def test_one_pixel_one_label_and_the_order_count(make, tmp_path):
  before = _of(make(tmp_path, _IMAGES, _LABELS))
  for change in _CHANGES:
    assert _of(make(tmp_path, *change(_IMAGES, _LABELS))) != before
  again = make(tmp_path, _IMAGES, _LABELS)
  assert _of(again) == before == _of(again)
  assert _of(again, key=bytes(32)) != before


@pytest.mark.slow
def test_of_very_many_bytes_blocks_at_even_distances_count(
    tmp_path, monkeypatch
):
  monkeypatch.setattr(digest, "_MAX_FILE_BYTES", 1000)
  monkeypatch.setattr(digest, "_BLOCK", 10)
  monkeypatch.setattr(digest, "_NUM_BLOCKS", 20)
  content = bytearray(1100)
  paths = [tmp_path / name for name in "abc"]

  def of():
    for path, (start, end) in zip(
        paths, ((0, 100), (100, 105), (105, 1100)), strict=True
    ):
      path.write_bytes(content[start:end])
    parts = list(digest.files(paths))
    assert sum(len(part) for part in parts[2:]) <= 20 * 10
    return digest.keyed(parts, key=_KEY)

  before, seen = of(), 0
  for place in range(0, 1100, 5):
    content[place] ^= 1
    seen += of() != before
    content[place] ^= 1
  # A block of 10 begins at every 55th byte: 2 of 11 places that are tried.
  assert 30 <= seen <= 45
  content[0] ^= 1
  assert of() != before


def test_of_many_bytes_of_files_the_sizes_count(tmp_path, monkeypatch):
  monkeypatch.setattr(digest, "_MAX_FILE_BYTES", 10)
  monkeypatch.setattr(digest, "_NUM_BLOCKS", 1)
  before = _of(_files(tmp_path, _IMAGES, _LABELS))
  assert _of(_files(tmp_path, *_label(_IMAGES, _LABELS))) != before
  (tmp_path / "3.png").write_bytes(b"another")
  assert digest.keyed(
      digest.files([tmp_path / "3.png"]), key=_KEY
  ) != digest.keyed(digest.files([tmp_path / "4.png"]), key=_KEY)
  gone = tmp_path / "gone.png"  # An error when it is read, and not before.
  assert digest.keyed(digest.files([gone]), key=_KEY)


def test_a_folders_new_name_counts(tmp_path):
  (tmp_path / "train" / "cat").mkdir(parents=True)
  for name in ("a", "b"):
    PIL.Image.new("L", (4, 4)).save(tmp_path / "train" / "cat" / f"{name}.png")
  before = _of(folder.load_folder(path=tmp_path))
  (tmp_path / "train/cat/a.png").rename(tmp_path / "train/cat/c.png")
  assert _of(folder.load_folder(path=tmp_path)) != before


def test_of_tfds_the_files_of_records_count(tmp_path):
  assert digest.parts_of(tfds_sets.source({})) is None  # None are known.
  source = tfds_sets.source({})
  source._files = [str(tmp_path / "x.array_record-00000-of-00001")]
  found = []
  for content in (b"records", b"recordz"):
    (tmp_path / "x.array_record-00000-of-00001").write_bytes(content)
    found.append(_of(source))
  assert found[0] != found[1]


def test_a_source_without_parts_cannot_be_compared():
  assert digest.parts_of(types.SimpleNamespace()) is None
  source = data.FeatureSource(
      types.SimpleNamespace(label_names=(), is_multi_label=False, groups={}),
      types.SimpleNamespace(feature_shape=(1, 1, 1)),
  )
  assert digest.parts_of(source) is None


def test_parts_are_kept_apart():
  parts = (
      [b"ab", b"c"],
      [b"a", b"bc"],
      [b"abc"],
      [np.frombuffer(b"abc", np.uint8)],
      [np.zeros(4, np.uint8)],
      [np.zeros((2, 2), np.uint8)],
      [np.zeros(1, np.int32)],
      [np.zeros(1, np.float32)],
      [np.zeros((), np.float32)],
      [np.zeros((0, 3))],
      [],
  )
  found = {digest.keyed(part, key=_KEY) for part in parts}
  assert len(found) == len(parts)


def test_memory_layout_does_not_count():
  array = np.arange(2**21).reshape(2**10, -1)  # 16 MiB: several chunks.
  same = (array, np.asfortranarray(array), np.repeat(array, 2, 0)[::2])
  assert len({digest.keyed([x], key=_KEY) for x in same}) == 1
  other = array.copy()
  other[-1, -1] += 1
  assert digest.keyed([other], key=_KEY) != digest.keyed([array], key=_KEY)


def test_objects_are_refused():
  with pytest.raises(ValueError, match="digest_parts must be arrays of num"):
    digest.keyed([np.array([None])], key=_KEY)
