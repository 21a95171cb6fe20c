"""Writes drawn images: an archive, a picture of some of them, a manifest.

Invariant: the manifest, which has the model's privacy statement, says how the
images were drawn and the archive's digest, and is written last: where it is,
all is. Nothing that is there is replaced.

>>> data = png(np.zeros((2, 3, 1), np.uint8))
>>> data[1:4], len(data)
(b'PNG', 68)
"""

import hashlib
import io
import json
import pathlib
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.release import output

_COLUMNS = 10
# PNG's colour types, by number of channels.
_COLOURS = {1: 0, 3: 2}


def png(image: np.ndarray) -> bytes:
  """Returns an image as PNG.

  Args:
    image: Pixels, uint8 [height, width, channels], of 1 or 3 channels.

  Source: ISO/IEC 15948, with filter 0 on each line.
  """
  height, width, channels = image.shape
  lines = image.reshape(height, width * channels)
  raw = np.pad(lines, ((0, 0), (1, 0))).tobytes()
  kind = _COLOURS[channels]
  header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
  parts = ((b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b""))
  return b"\x89PNG\r\n\x1a\n" + b"".join(
      struct.pack(">I", len(data))
      + name
      + data
      + struct.pack(">I", zlib.crc32(name + data))
      for name, data in parts
  )


def grid(
    images: np.ndarray, labels: np.ndarray, num_classes: int
) -> np.ndarray:
  """Returns one image: a row a class, of its first ten images.

  Args:
    images: Pixels, uint8 [n, height, width, channels].
    labels: Classes [n].
    num_classes: Number of classes; one without images has a black row.
  """
  _, height, width, channels = images.shape
  picture = np.zeros(
      (num_classes, height, _COLUMNS, width, channels), images.dtype
  )
  for label in range(num_classes):
    for column, image in enumerate(images[labels == label][:_COLUMNS]):
      picture[label, :, column] = image
  return picture.reshape(num_classes * height, _COLUMNS * width, channels)


def write(
    folder: pathlib.Path,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    names: Sequence[str],
    facts: Mapping[str, Any],
) -> None:
  """Writes images.npz, grid.png (of 1 or 3 channels) and manifest.json.

  Args:
    folder: Folder to write to; the three must be new.
    images: Pixels, uint8 [n, height, width, channels].
    labels: Classes [n].
    names: Names of the classes.
    facts: Values that the manifest has too, for JSON.

  Raises:
    ValueError: If one of the files is there.
  """
  paths = {
      name: output.check_new(folder / name, name="out")
      for name in ("images.npz", "grid.png", "manifest.json")
  }
  buffer = io.BytesIO()
  np.savez_compressed(buffer, images=images, labels=labels.astype(np.int32))
  with output.new_file(paths["images.npz"]) as file:
    file.write(buffer.getvalue())
  if images.shape[-1] in _COLOURS:
    with output.new_file(paths["grid.png"]) as file:
      file.write(png(grid(images, labels, len(names))))
  counts = np.bincount(labels, minlength=len(names)).tolist()
  manifest = {
      "num_images": len(images),
      "counts": dict(zip(names, counts, strict=True)),
      "images_npz_sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
      **facts,
  }
  with output.new_file(paths["manifest.json"]) as file:
    file.write(json.dumps(manifest, indent=2).encode())
