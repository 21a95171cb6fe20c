"""Files of drawn images: PNGs that others read, a manifest, and going on."""

import hashlib
import io
import json
import os

import numpy as np
import PIL.Image
import pytest

from experiments.release import image_files
from jax_privacy import data

_NAMES = ("a", "b", "c/d")
_LABELS = np.array([0, 1, 1, 2, 2])
_IMAGES = np.random.default_rng(0).integers(256, size=(5, 3, 2, 1))
_IMAGES = _IMAGES.astype(np.uint8)
_PLAN = {"seed": 1, "privacy": {"epsilon": 1.0}, "sampler": ("ddim", 3)}


def _folder(path, **changed):
  given = {"plan": _PLAN, "labels": _LABELS, "names": _NAMES} | changed
  return image_files.ImageFolder(path, **given)


def _whole(path):
  folder = _folder(path)
  for start in (0, 2, 4):
    folder.add(start, _IMAGES[start : start + 2])
  folder.finish()
  return _bytes(path)


def _bytes(path):
  files = [p for p in path.rglob("*") if p.is_file()]
  return {str(p.relative_to(path)): p.read_bytes() for p in files}


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


def test_the_manifest_says_what_is_there(tmp_path):
  files = _whole(tmp_path / "new")
  manifest = json.loads(files["manifest.json"])
  assert manifest["counts"] == {"a": 1, "b": 2, "c/d": 2}
  assert manifest["privacy"] == {"epsilon": 1.0} and manifest["seed"] == 1
  digest = hashlib.sha256(files["images.npz"]).hexdigest()
  assert manifest["images_npz_sha256"] == digest
  with np.load(tmp_path / "new" / "images.npz") as read:
    np.testing.assert_array_equal(read["labels"], _LABELS)
    np.testing.assert_array_equal(read["images"], _IMAGES)
  pngs = {name for name in files if name.startswith("images/")}
  assert {entry["file"] for entry in manifest["images"]} == pngs
  for i, entry in enumerate(manifest["images"]):
    assert (entry["number"], entry["class"]) == (i, _NAMES[_LABELS[i]])
    read = files[entry["file"]]
    assert hashlib.sha256(read).hexdigest() == entry["sha256"]
    image = np.asarray(PIL.Image.open(io.BytesIO(read)))
    np.testing.assert_array_equal(image, _IMAGES[i, ..., 0])
  assert set(files) == pngs | {"manifest.json", "images.npz", "grid.png"}


def test_the_folder_is_a_source_of_images(tmp_path):
  _whole(tmp_path / "new")
  source = data.load(
      "folder", path=tmp_path / "new", split="images", channels=1
  )
  assert source.label_names == ("a", "b", "class_2")
  batch = source[np.arange(5)]
  np.testing.assert_array_equal(batch["image"], _IMAGES)
  np.testing.assert_array_equal(batch["label"], _LABELS)


class KilledError(Exception):
  """Stands for the end of the process."""


@pytest.mark.parametrize("num_writes", range(1, 13))
def test_killed_at_any_write_and_continued_gives_the_same_bytes(
    num_writes, tmp_path, monkeypatch
):
  want = _whole(tmp_path / "whole")
  assert len(want) == 8  # And a plan and three batches before them.
  real, path, left = os.link, tmp_path / "new", [num_writes]

  def link(*args):
    left[0] -= 1
    if not left[0]:
      raise KilledError
    real(*args)

  with monkeypatch.context() as patched, pytest.raises(KilledError):
    patched.setattr(os, "link", link)
    # What a killed process leaves of a file.
    patched.setattr(image_files.pathlib.Path, "unlink", lambda *a, **k: None)
    _whole(path)
  folder = _folder(path)
  assert not folder.is_finished
  for start in {0, 2, 4} - folder.parts():
    folder.add(start, _IMAGES[start : start + 2])
  folder.finish()
  assert _bytes(path) == want


def test_a_finished_folder_stays_as_it_is(tmp_path):
  want = _whole(tmp_path)
  folder = _folder(tmp_path)
  assert folder.is_finished
  folder.finish()
  assert _bytes(tmp_path) == want


@pytest.mark.parametrize("is_whole", [False, True])
def test_another_plan_is_refused(tmp_path, is_whole):
  if is_whole:
    _whole(tmp_path)
  else:
    _folder(tmp_path)
  with pytest.raises(ValueError, match="same images, got .* whose seed is an"):
    _folder(tmp_path, plan=_PLAN | {"seed": 2})
  with pytest.raises(ValueError, match="whose counts is another"):
    _folder(tmp_path, labels=np.array([0, 1, 1, 1, 2]))


def test_other_files_are_refused(tmp_path):
  (tmp_path / "mine").write_text("")
  with pytest.raises(ValueError, match="out must be a new or empty folder"):
    _folder(tmp_path)
  with pytest.raises(ValueError, match="out must be a folder, got .*mine"):
    _folder(tmp_path / "mine")


def test_a_batch_too_few_is_no_finished_folder(tmp_path):
  folder = _folder(tmp_path)
  folder.add(0, _IMAGES[:2])
  with pytest.raises(ValueError, match="out must have 5 images, got 2"):
    folder.finish()


def test_names_that_no_file_system_has_get_numbers():
  names = ("A", "a", "..", "x" * 101, "1", "b.", "è", "8 o")
  found = image_files.class_folders(names)
  assert found[4] == "1" and found[7] == "8 o"
  assert found[:4] == ["class_0", "class_1", "class_2", "class_3"]
  assert found[5:7] == ["class_5", "class_6"]
