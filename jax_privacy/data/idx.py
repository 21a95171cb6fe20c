"""MNIST-format IDX files, compressed with gzip or not.

Invariant: the magic number, the dimensions and the length of each file are
checked against each other, and a file that lies about its size is refused
without its promised size ever being allocated.

>>> import pathlib, struct, tempfile
>>> folder = tempfile.TemporaryDirectory()
>>> path = pathlib.Path(folder.name) / "labels"
>>> _ = path.write_bytes(struct.pack(">II", 0x801, 3) + bytes([7, 1, 2]))
>>> read_idx(path, ndim=1).tolist()
[7, 1, 2]
>>> folder.cleanup()
"""

import gzip
import math
import os
import pathlib
import struct
import zlib
from collections.abc import Sequence

import numpy as np

from jax_privacy.data import arrays, bounded, source

_UINT8 = 0x08
_PREFIX = {"train": "train", "test": "t10k"}


def read_idx(path: str | os.PathLike, *, ndim: int) -> np.ndarray:
  """Reads one IDX file of unsigned bytes.

  Args:
    path: The file; compressed if its name ends in ".gz".
    ndim: The number of dimensions that it must have.

  Returns:
    A read-only uint8 array.

  Raises:
    ValueError: If the file is malformed, truncated or too long.

  Source: the format's description on the MNIST page (LeCun, Cortes, Burges).
  """
  what = str(path)
  is_compressed = what.endswith(".gz")
  opener = gzip.open if is_compressed else open
  if not bounded.is_regular(path):
    raise ValueError(f"{what} must be a regular file, got none of that name.")
  try:
    with opener(path, "rb") as stream:
      magic = bounded.read_exactly(stream, 4, what=what)
      if magic != bytes([0, 0, _UINT8, ndim]):
        raise ValueError(
            f"{what} must start with the magic number"
            f" 0x{_UINT8 << 8 | ndim:08x} (bytes in {ndim} dimensions), got"
            f" 0x{magic.hex()}."
        )
      header = bounded.read_exactly(stream, 4 * ndim, what=what)
      shape = struct.unpack(f">{ndim}I", header)
      if is_compressed:
        bounded.check_expansion(math.prod(shape), path, what=what)
      values = bounded.read_exactly(stream, math.prod(shape), what=what)
      bounded.expect_end(stream, what=what)
  except (gzip.BadGzipFile, zlib.error, EOFError) as error:
    raise ValueError(f"{what} must be a whole gzip file: {error}.") from error
  return np.frombuffer(values, np.uint8).reshape(shape)


def load_idx(
    *,
    split: str = "train",
    path: str | os.PathLike,
    num_classes: int | None = None,
    label_names: Sequence[str] | None = None,
    num_examples: int | None = None,
) -> arrays.ArraySource:
  """Loads a folder that holds the four files of MNIST, or of a set like it.

  The names are `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the
  same with `t10k`, each with ".gz" or without (if both are there, the one
  without is read).

  Args:
    split: Name: "train" or "test" (the files named `t10k`).
    path: The folder.
    num_classes: The number of classes; 10 if `label_names` is not given.
    label_names: The classes; or None, for the decimal numbers.
    num_examples: The stated number of examples, or None where none is stated.

  Returns:
    A source of one-channel images.

  Raises:
    ValueError: If a file is missing or malformed, or a label or a stated
      number is wrong.
  """
  prefix = _PREFIX[source.check_split(split)]
  folder = source.check_path(path)
  if num_classes is None and label_names is None:
    num_classes = 10
  with source.named(str(folder)):
    return arrays.ArraySource(
        read_idx(_find(folder, f"{prefix}-images-idx3-ubyte"), ndim=3),
        read_idx(_find(folder, f"{prefix}-labels-idx1-ubyte"), ndim=1),
        num_classes=num_classes,
        label_names=label_names,
        num_examples=num_examples,
    )


def _find(folder: pathlib.Path, name: str) -> pathlib.Path:
  for candidate in (folder / name, folder / f"{name}.gz"):
    if candidate.is_file():
      return candidate
  raise ValueError(f"path must hold {name} or {name}.gz, got {folder}.")
