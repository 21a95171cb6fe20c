"""Sets of drawn images: read whole, or refused with what is wrong."""

import json

import numpy as np
import pytest

from experiments.release import image_files
from experiments.synthetic import reading

_NAMES = ("a", "b")
_IMAGES = np.arange(24, dtype=np.uint8).reshape(6, 2, 2, 1)
_REAL = reading.ImageSet("test", _IMAGES, np.array([0, 1] * 3), _NAMES)


def _written(path, names=_NAMES):
  plan = {"privacy": {"statement": "private."}}
  folder = image_files.ImageFolder(
      path, plan=plan, labels=_REAL.labels, names=names
  )
  folder.add(0, _IMAGES)
  folder.finish()
  return path


def test_a_folder_comes_with_its_statement(tmp_path):
  found = reading.read(str(_written(tmp_path / "x")), like=_REAL)
  np.testing.assert_array_equal(found.images, _IMAGES)
  np.testing.assert_array_equal(found.labels, _REAL.labels)
  assert (found.name, found.statement) == ("x", "private.")
  archive = str(tmp_path / "x" / "images.npz")
  assert reading.read(archive, like=_REAL).statement == ""


def test_a_folder_that_is_not_its_manifests_is_refused(tmp_path):
  path = _written(tmp_path / "x")
  np.savez(path / "images.npz", images=_IMAGES, labels=_REAL.labels)
  with pytest.raises(ValueError, match="must hold the images of its manifest"):
    reading.read(str(path), like=_REAL)
  (path / "manifest.json").write_text("[")
  with pytest.raises(ValueError, match="must hold a manifest in JSON"):
    reading.read(str(path), like=_REAL)
  (path / "manifest.json").unlink()
  with pytest.raises(ValueError, match="must be a finished folder of images"):
    reading.read(str(path), like=_REAL)


def test_other_classes_are_refused(tmp_path):
  path = _written(tmp_path / "x", names=("a", "c"))
  with pytest.raises(ValueError, match="must have the classes a, b, got a, c"):
    reading.read(str(path), like=_REAL)


@pytest.mark.parametrize(
    "changed, text",
    [
        ({"images": _IMAGES[:, :1]}, r"must have images uint8 \[n, 2, 2, 1\]"),
        ({"images": _IMAGES / 255}, "got float64"),
        ({"images": _IMAGES[:0], "labels": np.zeros(0, int)}, "as the real"),
        ({"labels": np.zeros(6)}, r"must have labels int \[6\], got float64"),
        ({"labels": np.zeros(5, int)}, r"int \[6\], got int64 \[5\]"),
        ({"labels": np.arange(6)}, r"labels in \[0, 2\), got 0 to 5"),
        ({"labels": np.arange(6) - 5}, "got -5 to 0"),
        ({"labels": None}, "must be an .npz file with arrays"),
    ],
)
def test_other_arrays_are_refused(changed, text, tmp_path):
  arrays = {"images": _IMAGES, "labels": _REAL.labels} | changed
  given = {k: v for k, v in arrays.items() if v is not None}
  np.savez(tmp_path / "x.npz", **given)
  with pytest.raises(ValueError, match=text):
    reading.read(str(tmp_path / "x.npz"), like=_REAL)


def test_what_is_no_archive_is_refused(tmp_path):
  (tmp_path / "x.npz").write_text(json.dumps([1]))
  with pytest.raises(ValueError, match="must be an .npz file with arrays"):
    reading.read(str(tmp_path / "x.npz"), like=_REAL)
  np.save(tmp_path / "y.npy", _IMAGES)
  with pytest.raises(ValueError, match="must be an .npz file with arrays"):
    reading.read(str(tmp_path / "y.npy"), like=_REAL)
