"""NumPy archives (.npz): arrays of pixels, or of encoded images.

Invariant: nothing is ever unpickled, and no array is allocated on the word of a
header: memory in use is bounded by the bytes that the file really gives.

The names of the arrays decide which of two layouts it is:
  pixels: images uint8 [n, h, w] or [n, h, w, c] and labels [n] for each split,
    as x_train, y_train, x_test, y_test or train_images, train_labels,
    test_images, test_labels, or under names given as options. Labels [n, m]
    of 1, 0 and -1 are m labels an example.
  encoded: `bytes`, uint8 [b], the JPEG or PNG files one after the other;
    `offsets`, [n + 1], where each begins; `labels`, [n]; `is_test`, bool [n].
Either may hold `label_names`, an array of strings, and other columns, such as
the ids of persons: `person_train` or `train_person` for each split of pixels;
`person`, [n], where images are encoded.

>>> import pathlib, tempfile
>>> folder = tempfile.TemporaryDirectory()
>>> path = pathlib.Path(folder.name) / "tiny.npz"
>>> np.savez(path, x_train=np.zeros((3, 2, 2), np.uint8), y_train=[1, 0, 2])
>>> load_npz(path=path, num_classes=3).as_arrays()["label"].tolist()
[1, 0, 2]
>>> folder.cleanup()
"""

import functools
import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from jax_privacy.data import archive, arrays, bounded, columns, encoded, source

_PIXEL_KEYS = (
    ("x_{split}", "y_{split}"),
    ("{split}_images", "{split}_labels"),
)
_ENCODED_KEYS = ("bytes", "offsets", "labels", "is_test")


def load_npz(
    *,
    split: str = "train",
    path: str | os.PathLike,
    image_key: str | None = None,
    label_key: str | None = None,
    num_classes: int | None = None,
    label_names: Sequence[str] | None = None,
    channels: int = 3,
    num_examples: int | None = None,
) -> source.Source:
  """Loads a split of an archive, in either layout.

  Args:
    split: Name: "train" or "test".
    path: The file.
    image_key: Name of the images, in which "{split}" is replaced by the split;
      None for the usual names.
    label_key: Name of the labels, as `image_key`; given if `image_key` is.
    num_classes: The number of classes; 10 if neither this nor `label_names` is
      given and the file has no label names.
    label_names: The classes; or None, for those in the file, or else the
      decimal numbers.
    channels: Number of channels, 1 (grey) or 3 (RGB), in the encoded layout.
    num_examples: The stated number of examples, or None where none is stated.

  Returns:
    An `ArraySource`, or an `EncodedSource`, which decodes an image when read.

  Raises:
    ValueError: If the file is malformed, an array is missing or of the wrong
      kind, or a label or a stated number is wrong.
  """
  source.check_split(split)
  keys = (image_key, label_key)
  if keys != (None, None) and not all(isinstance(key, str) for key in keys):
    raise ValueError(
        "image_key and label_key must be given together, as strings, got"
        f" {image_key!r} and {label_key!r}."
    )
  with archive.Archive(path) as file, source.named(file.name):
    if label_names is None and "label_names" in file.keys():
      label_names = _names(file)
    if label_names is None and num_classes is None:
      num_classes = 10
    classes: dict[str, Any] = {
        "num_classes": num_classes,
        "label_names": label_names,
    }
    if image_key is None and set(_ENCODED_KEYS) <= file.keys():
      return _encoded(
          file, split, channels=channels, num_examples=num_examples, **classes
      )
    image_key, label_key = _pixel_keys(file, split, image_key, label_key)
    return arrays.ArraySource(
        file.read(image_key, kinds="u", ndims=(3, 4)),
        file.read(label_key, kinds="iu", ndims=(1, 2)),
        num_examples=num_examples,
        columns=functools.partial(_column, str(path), split, None),
        **classes,
    )


def _column(
    path: str, split: str, rows: np.ndarray | None, name: str
) -> np.ndarray:
  """Reads a split's column; `rows` are the split's, of encoded images."""
  keys = (f"{name}_{split}", f"{split}_{name}") if rows is None else (name,)
  with archive.Archive(path) as file, source.named(file.name):
    for key in keys:
      if key in file.keys():
        values = file.read(key, kinds="iufUS", ndims=(1,))
        _check_text(values, f"{key} of {file.name}")
        if rows is None:
          return values
        if len(rows) and rows.max() >= len(values):
          raise ValueError(
              f"{key} must hold a value for each image, got fewer."
          )
        return values[rows]
    columns.refuse(name, sorted(file.keys()))


def _check_text(values: np.ndarray, what: str) -> None:
  """Refuses text that is none: NumPy fails on it with a SystemError."""
  if values.dtype.kind == "U":
    unsigned = np.dtype(np.uint32).newbyteorder(values.dtype.byteorder)
    if (np.frombuffer(values.tobytes(), unsigned) > sys.maxunicode).any():
      raise ValueError(f"{what} must be text, got other code points.")


def _names(file: archive.Archive) -> list[str]:
  """Reads the label names."""
  names = file.read("label_names", kinds="U", ndims=(1,))
  _check_text(names, f"label_names of {file.name}")
  return names.tolist()


def _pixel_keys(
    file: archive.Archive,
    split: str,
    image_key: str | None,
    label_key: str | None,
) -> tuple[str, str]:
  """Returns the names of the split's images and labels."""
  templates = _PIXEL_KEYS
  if image_key is not None and label_key is not None:  # Or neither.
    templates = ((image_key, label_key),)
  pairs = [
      (image.replace("{split}", split), label.replace("{split}", split))
      for image, label in templates
  ]
  for pair in pairs:
    if file.keys() >= set(pair):
      return pair
  wanted = " or ".join(", ".join(pair) for pair in pairs)
  if image_key is None:
    wanted += f" or {', '.join(_ENCODED_KEYS)}"
  found = bounded.short(", ".join(sorted(file.keys())) or "nothing")
  raise ValueError(f"{file.name} must hold {wanted}, got {found}.")


def _encoded(
    file: archive.Archive, split: str, **options
) -> encoded.EncodedSource:
  """Makes the source of the encoded layout."""
  blob = file.read("bytes", kinds="u", ndims=(1,))
  offsets = file.read("offsets", kinds="iu", ndims=(1,))
  labels = file.read("labels", kinds="iu", ndims=(1,))
  is_test = file.read("is_test", kinds="b", ndims=(1,))
  _check_encoded(file.name, blob, offsets, labels, is_test)
  offsets = offsets.astype(np.int64)
  rows = np.flatnonzero(is_test == (split == "test"))
  return encoded.EncodedSource(
      encoded.Slices(blob, offsets[rows], offsets[rows + 1]),
      [f"image {row} of {file.name}" for row in rows],
      labels[rows],
      read_column=functools.partial(_column, file.name, split, rows),
      **options,
  )


def _check_encoded(name, blob, offsets, labels, is_test) -> None:
  """Refuses arrays that do not fit together."""
  if blob.dtype != np.uint8:
    raise ValueError(f"bytes of {name} must be uint8, got {blob.dtype}.")
  if not len(offsets) - 1 == len(labels) == len(is_test):
    raise ValueError(
        f"{name} must hold n + 1 offsets, n labels and n of is_test, got"
        f" {len(offsets)}, {len(labels)} and {len(is_test)}."
    )
  rising = (offsets[1:] >= offsets[:-1]).all()
  if not rising or offsets[0] != 0 or offsets[-1] != len(blob):
    raise ValueError(
        f"offsets of {name} must rise from 0 to the number of bytes,"
        f" {len(blob)}, got {offsets[0]} to {offsets[-1]}."
    )
