"""Columns that are in no example: whose each is, read by name."""

import pickle

import numpy as np
import pytest

from jax_privacy import data

_IMAGES = np.zeros((3, 2, 2), np.uint8)


def _save(path, **arrays):
  np.savez(path, **arrays)
  return path


def test_columns_of_arrays():
  masked = np.ma.masked_array([1, 2, 3], [0, 1, 0])
  source = data.load(
      "arrays",
      images=_IMAGES,
      labels=np.array([0, 1, 0]),
      num_classes=2,
      columns={"person": ["al", 7, None], "site": masked},
  )
  source = pickle.loads(pickle.dumps(source))  # As a worker has it.
  assert source.column("person").tolist() == ["al", 7, None]
  assert np.ma.getmaskarray(source.column("site")).tolist() == [0, 1, 0]
  with pytest.raises(ValueError, match="one of person, site, got 'patient'"):
    source.column("patient")
  assert set(source[np.array([0])]) == {"image", "label"}


def test_a_source_without_columns():
  source = data.load("digits")
  rule = "column must be none: the source has none, got 'person'"
  with pytest.raises(ValueError, match=rule):
    source.column("person")
  features = data.with_features(source, "scattering", num_angles=2)
  with pytest.raises(ValueError, match=rule):
    features.column("person")


@pytest.mark.parametrize("key", ["person_{}", "{}_person"])
def test_columns_of_pixels_in_an_archive(tmp_path, key):
  path = _save(
      tmp_path / "a.npz",
      x_train=_IMAGES,
      y_train=[0, 1, 2],
      x_test=_IMAGES[:1],
      y_test=[0],
      **{key.format("train"): ["a", "b", "a"], key.format("test"): ["c"]},
      site_train=[1, 2],
  )
  train, test = (
      data.load("npz", path=path, split=s) for s in ("train", "test")
  )
  assert train.column("person").tolist() == ["a", "b", "a"]
  assert pickle.loads(pickle.dumps(test)).column("person").tolist() == ["c"]
  with pytest.raises(
      ValueError, match=r"'site' must hold one value an example"
  ):
    train.column("site")
  with pytest.raises(ValueError, match="column must be one of"):
    test.column("site")


def test_columns_of_encoded_images_in_an_archive(tmp_path):
  png = _png()
  path = _save(
      tmp_path / "a.npz",
      bytes=np.frombuffer(png * 3, np.uint8),
      offsets=np.arange(4) * len(png),
      labels=[0, 1, 0],
      is_test=np.array([False, True, False]),
      person=np.array([5, 6, 7]),
      site=[1],
      text=np.frombuffer(np.array([2**31] * 3, "<u4").tobytes(), "<U1"),
  )
  train = data.load("npz", path=path, num_classes=2)
  assert train.column("person").tolist() == [5, 7]
  with pytest.raises(ValueError, match="site must hold a value for each image"):
    train.column("site")
  with pytest.raises(ValueError, match="text of .* must be text"):
    train.column("text")


def _png():
  import io

  from PIL import Image

  file = io.BytesIO()
  Image.new("RGB", (2, 2)).save(file, "png")
  return file.getvalue()
