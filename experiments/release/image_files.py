"""A folder of drawn images, which is written batch by batch.

  images/CLASS/NUMBER.png   an image each, of 1 or 3 channels
  images.npz                all images, and their labels
  grid.png                  some images of each class
  manifest.json             how they were drawn, the run's statement, and of
                            each image its file, class, number and digest

Invariant: a folder that was left in the middle goes on, by the same plan alone,
and ends with the same bytes. The manifest is written last: where it is, all is.
Nothing that is there is replaced.

>>> png(np.zeros((2, 3, 1), np.uint8))[1:4]
b'PNG'
>>> class_folders(["cat", "a/b"])
['cat', 'class_1']
"""

import hashlib
import io
import json
import pathlib
import re
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.release import output

MANIFEST = "manifest.json"
_PLAN, _PARTS = ".plan.json", ".parts"
_IMAGES = "images"
_COLUMNS = 10
_PNG_CHANNELS = (1, 3)
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_ .-]{0,99}")


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


def class_folders(names: Sequence[str]) -> list[str]:
  """Returns a folder's name for each class: its own, if all are plain names.

  Names that one file system may take for the same, or none may take, are not
  plain; one such class is class_NUMBER.

  Args:
    names: Names of the classes.
  """
  folded = [name.casefold() for name in names]
  return [
      name
      if _PLAIN_NAME.fullmatch(name)
      and not name.endswith((" ", "."))
      and folded.count(name.casefold()) == 1
      else f"class_{i}"
      for i, name in enumerate(names)
  ]


class ImageFolder:
  """A folder that becomes drawn images; see the module.

  Args:
    path: Path of the folder: new, empty, or one of the same plan.
    plan: Values that decide the images' bits, for JSON. The manifest has them.
    labels: Classes of the images, [n].
    names: Names of the classes.

  Raises:
    ValueError: If the folder holds anything else; the text says what.
    OSError: If it cannot be written.
  """

  def __init__(
      self,
      path: pathlib.Path,
      *,
      plan: Mapping[str, Any],
      labels: np.ndarray,
      names: Sequence[str],
  ):
    self.path, self.labels, self.names = path, labels, tuple(names)
    counts = np.bincount(labels, minlength=len(names)).tolist()
    self._plan = {
        "num_images": len(labels),
        "counts": dict(zip(names, counts, strict=True)),
        **json.loads(json.dumps(plan)),
    }
    self.is_finished = (path / MANIFEST).exists()
    self._claim()

  def _claim(self) -> None:
    """Takes the folder, or refuses it."""
    path = self.path
    if path.exists() and not path.is_dir():
      raise ValueError(f"out must be a folder, got {path}, a file.")
    there = [file for file in (path / MANIFEST, path / _PLAN) if file.exists()]
    if not there:
      found = path.iterdir() if path.exists() else ()
      if any(not _is_partial(entry) for entry in found):
        raise ValueError(
            f"out must be a new or empty folder, got {path}, which holds other"
            " files."
        )
      _write(path / _PLAN, json.dumps(self._plan, indent=2).encode())
      return
    try:
      stored = json.loads(there[0].read_text("utf-8"))
    except ValueError:
      stored = None
    if not isinstance(stored, dict):
      stored = {}
    wrong = [k for k, v in self._plan.items() if stored.get(k) != v]
    if wrong:
      raise ValueError(
          "out must be a new folder, or one of the same images, got"
          f" {path}, whose {wrong[0]} is another. Give another folder."
      )

  def parts(self) -> set[int]:
    """Returns the numbers of first images, of batches that are there."""
    return {int(p.stem) for p in (self.path / _PARTS).glob("[0-9]*.npy")}

  def add(self, start: int, images: np.ndarray) -> None:
    """Keeps a batch.

    Args:
      start: Number of its first image.
      images: Pixels, uint8 [n, height, width, channels].
    """
    buffer = io.BytesIO()
    np.save(buffer, images)
    _write(self.path / _PARTS / f"{start}.npy", buffer.getvalue())

  def finish(self) -> None:
    """Writes the images' files and the manifest, once all batches are there.

    Raises:
      ValueError: If an image is missing, or a file has other content.
    """
    if not self.is_finished:
      self._write_all()
      self.is_finished = True
    shutil.rmtree(self.path / _PARTS, ignore_errors=True)
    for entry in [self.path / _PLAN, *self.path.rglob(".*.partial")]:
      entry.unlink(missing_ok=True)

  def _write_all(self) -> None:
    folder = self.path / _PARTS
    parts = [np.load(folder / f"{i}.npy") for i in sorted(self.parts())]
    images = np.concatenate(parts)
    if len(images) != len(self.labels):
      raise ValueError(
          f"out must have {len(self.labels)} images, got {len(images)}."
      )
    has_png = images.shape[-1] in _PNG_CHANNELS
    listed = self._write_images(images) if has_png else []
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, images=images, labels=self.labels.astype(np.int32)
    )
    _write(self.path / "images.npz", buffer.getvalue())
    if has_png:
      picture = png(grid(images, self.labels, len(self.names)))
      _write(self.path / "grid.png", picture)
    manifest = {
        **self._plan,
        "images_npz_sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
        "images": listed,
    }
    _write(self.path / MANIFEST, json.dumps(manifest, indent=1).encode())

  def _write_images(self, images: np.ndarray) -> list[dict[str, Any]]:
    folders, digits = class_folders(self.names), len(str(len(images) - 1))
    listed = []
    for number, (image, label) in enumerate(
        zip(images, self.labels, strict=True)
    ):
      name = f"{_IMAGES}/{folders[label]}/{number:0{digits}}.png"
      data = png(image)
      _write(self.path / name, data, is_durable=False)
      listed.append(
          {
              "file": name,
              "class": self.names[label],
              "number": number,
              "sha256": hashlib.sha256(data).hexdigest(),
          }
      )
    return listed


def _is_partial(path: pathlib.Path) -> bool:
  """Whether it is what a killed process left of a file; see `output.py`."""
  return path.name.startswith(".") and path.suffix == ".partial"


def _write(path: pathlib.Path, data: bytes, *, is_durable: bool = True) -> None:
  """Writes a file that is new, or has this content already."""
  if path.is_file() and path.read_bytes() == data:
    return
  with output.new_file(path, is_durable=is_durable) as file:
    file.write(data)
