"""Reads a user's own images, to predict for: files, a folder, or an archive.

Invariant: an image reaches the model as the run's own test images do. It has
their size, or is resized as they were; any other is an error that names it. No
label is read: in its place is what padding has.
"""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_collections
import numpy as np

from experiments.tasks.images import features
from jax_privacy import data
from jax_privacy.data import archive, encoded

_SUFFIXES = (".jpeg", ".jpg", ".png")
_KEYS = ("images", "image")
_MAX_SIDE = 2**14


def read(
    path: str,
    like: data.Source,
    *,
    data_config: ml_collections.ConfigDict,
    augment_config: ml_collections.ConfigDict,
) -> Any:
  """Reads images without labels.

  Args:
    path: An image; a folder, of which the images in it are read in order of
      their names; or an .npz file with uint8 `images`, [n, height, width] or
      [n, height, width, channels].
    like: The run's test split, or a source with its description.
    data_config: A config's section.
    augment_config: The section that some kinds of data restrict.

  Returns:
    A source with the description of `like`. Its `names` are those of the files,
    or numbers, counted from 1.

  Raises:
    ValueError: If there is no image, or one is not as the run's own are.
  """
  like = like.images if isinstance(like, data.FeatureSource) else like
  file = pathlib.Path(path)
  if file.suffix == ".npz":
    source = _from_archive(file, like)
    names = [str(row + 1) for row in range(len(source))]
  else:
    files = _files(file)
    source = _from_files(files, like, _resizing(data_config))
    names = [file.name for file in files]
  if source.image_shape != like.image_shape:
    raise ValueError(
        f"input must have images of shape {list(like.image_shape)}, as the run"
        f" was made for, got {list(source.image_shape)} in {path}."
    )
  source = features.extract(data_config, source, augment_config=augment_config)
  source.names = tuple(names)
  return source


def describe(source: Any) -> dict[str, Any] | None:
  """Returns what `blank` takes, for JSON; None of images that are not uint8.

  Args:
    source: The run's test split.
  """
  images = source.images if isinstance(source, data.FeatureSource) else source
  if getattr(images, "image_dtype", None) != np.uint8:
    return None
  return {
      "label_names": list(images.label_names),
      "image_shape": list(images.image_shape),
  }


def blank(
    description: Mapping[str, Any], *, is_multi_label: bool
) -> data.ArraySource:
  """Returns a source of one black image, for its description alone.

  Args:
    description: Values that `describe` returned.
    is_multi_label: Whether an example has several labels.

  Raises:
    ValueError: If it is not that.
  """
  names, shape = (description.get(k) for k in ("label_names", "image_shape"))
  is_names = isinstance(names, list) and all(isinstance(n, str) for n in names)
  is_shape = isinstance(shape, list) and len(shape) == 3
  if not is_names or not is_shape or not all(type(n) is int for n in shape):
    raise ValueError(
        "images must be described by label_names and image_shape, got"
        f" {description!r:.100}."
    )
  if not all(0 < n <= _MAX_SIDE for n in shape):
    rule = f"three numbers in [1, {_MAX_SIDE}]"
    raise ValueError(f"image_shape must be {rule}, got {shape}.")
  labels = np.full((1, len(names)), -1, np.int32)
  return data.ArraySource(
      np.zeros((1, *shape), np.uint8),
      labels if is_multi_label else np.zeros(1, np.int32),
      label_names=names,
  )


def _resizing(data_config) -> dict[str, Any]:
  """Returns how the source's options have images resized, if they do."""
  options = {**data_config.options, **data_config.test_options}
  return {key: options[key] for key in ("image_size", "crop") if key in options}


def _files(path: pathlib.Path) -> list[pathlib.Path]:
  if not path.is_dir():
    if path.suffix.lower() in _SUFFIXES and path.exists():
      return [path]
    raise ValueError(
        f"input must be an image ({', '.join(_SUFFIXES)}), a folder of them or"
        f" an .npz file that there is, got {path}."
    )
  files = sorted(
      entry
      for entry in path.iterdir()
      if entry.suffix.lower() in _SUFFIXES and not entry.name.startswith(".")
  )
  if not files:
    raise ValueError(f"input must be a folder with images, got none in {path}.")
  return files


def _from_files(files, like, resizing) -> encoded.EncodedSource:
  paths = [os.fspath(file) for file in files]
  return encoded.EncodedSource(
      paths,
      paths,
      _no_labels(len(files), like),
      channels=like.image_shape[2],
      label_names=like.label_names,
      **resizing,
  )


def _from_archive(path, like) -> data.ArraySource:
  with archive.Archive(path) as file:
    found = [key for key in _KEYS if key in file.keys()]
    if len(found) != 1:
      raise ValueError(f"{path} must hold one array, 'images', got {found}.")
    images = file.read(found[0], kinds="u", ndims=(3, 4))
  if not len(images):
    raise ValueError(f"{path} must hold at least one image, got none.")
  return data.ArraySource(
      images, _no_labels(len(images), like), label_names=like.label_names
  )


def _no_labels(size: int, like: data.Source) -> np.ndarray:
  if like.is_multi_label:
    return np.full((size, like.num_classes), -1, np.int32)
  return np.zeros(size, np.int32)
