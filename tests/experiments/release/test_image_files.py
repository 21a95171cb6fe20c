"""Files of drawn images: a PNG that others read, and a manifest."""

import hashlib
import io
import json

import numpy as np
import PIL.Image
import pytest

from experiments.release import image_files


@pytest.mark.parametrize("channels", [1, 3])
def test_pillow_reads_what_was_written(channels):
  image = np.random.default_rng(0).integers(256, size=(3, 5, channels))
  image = image.astype(np.uint8)
  read = np.asarray(PIL.Image.open(io.BytesIO(image_files.png(image))))
  np.testing.assert_array_equal(read.reshape(image.shape), image)


def test_a_grid_has_a_row_a_class():
  images = np.arange(1, 4, dtype=np.uint8).reshape(3, 1, 1, 1)
  picture = image_files.grid(images, np.array([2, 0, 2]), 3)[..., 0]
  assert picture.shape == (3, 10)
  assert picture[:, :2].tolist() == [[2, 0], [0, 0], [1, 3]]


def test_the_manifest_says_what_is_there_and_nothing_is_replaced(tmp_path):
  images, labels = np.zeros((3, 2, 2, 1), np.uint8), np.array([0, 1, 1])
  given = {"names": ("a", "b", "c"), "facts": {"privacy": {"epsilon": 1.0}}}
  image_files.write(tmp_path / "new", images, labels, **given)
  manifest = json.loads((tmp_path / "new" / "manifest.json").read_text())
  assert manifest["counts"] == {"a": 1, "b": 2, "c": 0}
  assert manifest["privacy"] == {"epsilon": 1.0}
  data = (tmp_path / "new" / "images.npz").read_bytes()
  assert manifest["images_npz_sha256"] == hashlib.sha256(data).hexdigest()
  with np.load(io.BytesIO(data)) as read:
    np.testing.assert_array_equal(read["labels"], labels)
  with pytest.raises(ValueError, match="out must be a new file, got .*npz"):
    image_files.write(tmp_path / "new", images, labels, **given)
