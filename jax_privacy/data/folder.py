"""Images in folders: root/split/class/*.png, *.jpg or *.jpeg.

Invariant: every split numbers the classes alike: in the order of the class
folders of root/train, where it exists. An image is decoded when it is read,
never before.

>>> import pathlib, tempfile, PIL.Image
>>> root = tempfile.TemporaryDirectory()
>>> for name in ("cat", "dog"):
...   path = pathlib.Path(root.name) / "train" / name
...   path.mkdir(parents=True)
...   PIL.Image.new("RGB", (6, 5)).save(path / "0.png")
>>> source = load_folder(path=root.name, split="train")
>>> source.label_names, source.image_shape
(('cat', 'dog'), (5, 6, 3))
>>> root.cleanup()
"""

import os
import pathlib
from collections.abc import Sequence

import numpy as np

from jax_privacy.data import bounded, encoded, source

_SUFFIXES = frozenset({".jpeg", ".jpg", ".png"})


def load_folder(
    *,
    split: str = "train",
    path: str | os.PathLike,
    image_size: Sequence[int] | None = None,
    crop: bool = False,
    channels: int = 3,
    num_examples: int | None = None,
) -> encoded.EncodedSource:
  """Loads the images of root/split.

  Files with other suffixes and names that start with a dot are left out; links
  are followed, wherever they lead. The examples are in the order of class
  folder, then file name.

  Args:
    split: The folder in `path`: "train", "test" or any other.
    path: The root.
    image_size: Height and width to which images are resized, in pixels; None
      for the size of the first, which all must then have.
    crop: Whether an image that is resized is first cut to the largest centred
      part of that shape, and so keeps its proportions, as in ImageNet's
      recipes; else it is stretched.
    channels: Number of channels, 1 (grey) or 3 (RGB); an image of another kind
      is converted.
    num_examples: The stated number of examples, or None where none is stated.

  Returns:
    A source whose label names are the sorted names of the class folders of
    root/train, or of root/split where there is no root/train.

  Raises:
    ValueError: If a folder is missing or empty, a class is not among those of
      root/train, an image is a folder, a pipe or a broken link, an option is
      wrong, or the first image cannot be read.
  """
  is_text = isinstance(split, str)
  if not is_text or split in ("", "..") or pathlib.Path(split).name != split:
    raise ValueError(f"split must be the name of a folder, got {split!r}.")
  root = source.check_path(path)
  folder = root / split
  train = root / "train"
  classes = _folders(folder)
  label_names = _folders(train) if train.is_dir() else classes
  files, labels = [], []
  for name in classes:
    if name not in label_names:
      raise ValueError(
          f"{folder / name} must be a class of {train}, got none of that name."
      )
    images = _images(folder / name)
    files += images
    labels += [label_names.index(name)] * len(images)
  paths = [str(file) for file in files]
  return encoded.EncodedSource(
      paths,
      paths,
      np.array(labels, np.int32),
      channels=channels,
      image_size=image_size,
      crop=crop,
      label_names=label_names,
      num_examples=num_examples,
  )


def _folders(folder: pathlib.Path) -> list[str]:
  """Returns the sorted names of the class folders in a folder."""
  if not folder.is_dir():
    raise ValueError(f"path must hold the folder of a split, got no {folder}.")
  names = sorted(
      entry.name
      for entry in folder.iterdir()
      if entry.is_dir() and not entry.name.startswith(".")
  )
  if not names:
    raise ValueError(f"{folder} must hold a folder for each class, got none.")
  return names


def _images(folder: pathlib.Path) -> list[pathlib.Path]:
  """Returns the sorted paths of the images in a class folder."""
  files = sorted(
      entry
      for entry in folder.iterdir()
      if entry.suffix.lower() in _SUFFIXES and not entry.name.startswith(".")
  )
  if not files:
    raise ValueError(f"{folder} must hold at least one image, got none.")
  for file in files:
    if not bounded.is_regular(file):  # Not left out without a word.
      raise ValueError(
          f"{file} must be a file, got a folder, a pipe or a broken link."
      )
  return files
