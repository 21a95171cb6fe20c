"""Writes drawn images: an archive, a picture of some of them, a manifest.

Invariant: the manifest, which has the model's privacy statement, says how the
images were drawn and the archive's digest, and is written last: where it is,
all is. Nothing that is there is replaced.

>>> png(np.zeros((2, 3, 1), np.uint8))[1:4]
b'PNG'
"""

import hashlib
import io
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.release import output

_COLUMNS = 10
_PNG_CHANNELS = (1, 3)


def png(image: np.ndarray) -> bytes:
  """Returns an image as PNG.

  Args:
    image: Pixels, uint8 [height, width, channels], of 1 or 3 channels.
  """
  import PIL.Image  # Of the extra data, for those who draw images.

  buffer = io.BytesIO()
  pixels = image[..., 0] if image.shape[-1] == 1 else image
  PIL.Image.fromarray(pixels).save(buffer, "PNG")
  return buffer.getvalue()


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
  if images.shape[-1] in _PNG_CHANNELS:
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
