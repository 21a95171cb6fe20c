"""Reads sets of labelled images: drawn ones from a folder, real ones of a run.

Invariant: a drawn set has the classes and the shape of the real images it is
compared with, and is the one that its manifest names.

>>> images = np.zeros((4, 2, 2, 1), np.uint8)
>>> one = ImageSet("real", images, np.array([0, 1, 0, 1]), ("a", "b"))
>>> [len(part.labels) for part in one.halves()]
[2, 2]
"""

import hashlib
import io
import json
import pathlib
import zipfile
from typing import Any, NamedTuple

import numpy as np

from experiments.release import image_files


class ImageSet(NamedTuple):
  """Images of one class each.

  Attributes:
    name: Name for people.
    images: Pixels, uint8 [n, height, width, channels].
    labels: Classes [n].
    names: Names of the classes.
    statement: Text of the guarantee that it comes with; "" for real images.
    sha256: Digest of the file; "" for real images.
  """

  name: str
  images: np.ndarray
  labels: np.ndarray
  names: tuple[str, ...]
  statement: str = ""
  sha256: str = ""

  def rows(self, rows: np.ndarray) -> "ImageSet":
    """Returns these rows alone.

    Args:
      rows: Indices [m].
    """
    return self._replace(images=self.images[rows], labels=self.labels[rows])

  def halves(self) -> tuple["ImageSet", "ImageSet"]:
    """Returns two sets that share no image, of each class alike."""
    order = np.argsort(self.labels, kind="stable")
    return self.rows(order[::2]), self.rows(order[1::2])


def read(path: str, *, like: ImageSet) -> ImageSet:
  """Reads what `experiments.generate` wrote, or another images.npz.

  Args:
    path: A folder with a manifest, or an .npz file with `images` and `labels`.
    like: Real images, whose shape and classes it must have.

  Returns:
    The images.

  Raises:
    ValueError: If it is not that; the text says in what.
    OSError: If a file cannot be read.
  """
  place = pathlib.Path(path)
  manifest: dict[str, Any] = {}
  if place.is_dir():
    manifest = _manifest(place)
    place = place / "images.npz"
  data = place.read_bytes()
  digest = hashlib.sha256(data).hexdigest()
  if manifest and digest != manifest.get("images_npz_sha256"):
    raise ValueError(
        f"synthetic must hold the images of its manifest, got {path}, whose"
        " images.npz has another digest. Draw them again."
    )
  try:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
      images, labels = arrays["images"], arrays["labels"]
  except (KeyError, ValueError, zipfile.BadZipFile, TypeError) as error:
    raise ValueError(
        "synthetic must be an .npz file with arrays images and labels, got"
        f" {place}: {error}"
    ) from error
  _check(path, images, labels, manifest, like)
  return ImageSet(
      pathlib.Path(path).name,
      images,
      labels.astype(np.int64),
      like.names,
      _statement(manifest),
      digest,
  )


def _manifest(folder: pathlib.Path) -> dict[str, Any]:
  path = folder / image_files.MANIFEST
  if not path.is_file():
    raise ValueError(
        f"synthetic must be a finished folder of images, got {folder}, without"
        f" {image_files.MANIFEST}. Give experiments.generate's command again."
    )
  try:
    found = json.loads(path.read_text("utf-8"))
  except ValueError:
    found = None
  if not isinstance(found, dict):
    raise ValueError(f"synthetic must hold a manifest in JSON, got {path}.")
  return found


def _check(path, images, labels, manifest, like: ImageSet) -> None:
  shape = like.images.shape[1:]
  if images.dtype != np.uint8 or images.shape[1:] != shape or not len(images):
    raise ValueError(
        f"synthetic must have images uint8 [n, {str(shape)[1:-1]}], as the real"
        f" ones, got {images.dtype} {list(images.shape)} in {path}."
    )
  is_label = np.issubdtype(labels.dtype, np.integer)
  if labels.shape != images.shape[:1] or not is_label:
    raise ValueError(
        f"synthetic must have labels int [{len(images)}], got {labels.dtype}"
        f" {list(labels.shape)} in {path}."
    )
  if not 0 <= labels.min() <= labels.max() < len(like.names):
    raise ValueError(
        f"synthetic must have labels in [0, {len(like.names)}), got"
        f" {labels.min()} to {labels.max()} in {path}."
    )
  counts = manifest.get("counts")
  if isinstance(counts, dict) and tuple(counts) != like.names:
    raise ValueError(
        f"synthetic must have the classes {', '.join(like.names)}, got"
        f" {', '.join(map(str, counts))} in {path}."
    )


def _statement(manifest: dict[str, Any]) -> str:
  privacy = manifest.get("privacy")
  return str(privacy.get("statement", "")) if isinstance(privacy, dict) else ""


def real(source: Any, *, name: str, most: int | None = None) -> ImageSet:
  """Returns images of a source.

  Args:
    source: Source of a run's split.
    name: Name for people.
    most: Number of images, at most: the first of a fixed order; None for all.

  Returns:
    The images.

  Raises:
    ValueError: If they are no images of bytes with one class each.
  """
  rows = np.arange(len(source))
  if most is not None and most < len(rows):
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:most])
  batch = source[rows]
  images = batch["image"] if isinstance(batch, dict) else None
  if (
      not isinstance(images, np.ndarray)
      or images.dtype != np.uint8
      or images.ndim != 4
      or np.ndim(batch["label"]) != 1
  ):
    raise ValueError(
        "synthetic must be none for a run whose data are no images of bytes"
        " with one class each, got one."
    )
  labels = np.asarray(batch["label"], np.int64)
  return ImageSet(name, images, labels, tuple(source.label_names))
