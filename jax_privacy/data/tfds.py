"""Image sets that TensorFlow Datasets has prepared, with the papers' splits.

Invariant: a split is the same examples in the same order on every machine: TFDS
orders its records by a hash of their keys, `published` says where they are cut,
and a set of another size is refused. A record is read by its index, and decoded
then. Nothing is downloaded, and TensorFlow is never imported: only TFDS's
reader, when a source is made.

>>> load_tfds("mnist", data_dir="no/such/folder")
Traceback (most recent call last):
...
ValueError: tfds:mnist must be prepared as array_record, got no such files in \
no/such/folder/mnist/3.0.1. Where "jax-privacy-toolkit[tfds-prepare]" is \
installed, this prepares it for data_dir='no/such/folder':
  python -c 'import tensorflow_datasets as tfds; tfds.builder("mnist", \
data_dir="no/such/folder", file_format="array_record").download_and_prepare()'
"""

import io
import json
import os
import shlex
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from jax_privacy import _extras
from jax_privacy.data import bounded, decode, digest, published, source

_FORMAT = "array_record"


class Records(Protocol):
  """Records by index, as TFDS's data sources give them."""

  def __len__(self) -> int:
    ...

  def __getitems__(self, rows: list[int], /) -> Sequence[Any]:
    ...


class TfdsSource(source.Described):
  """Encoded images and labels, in records that are read by index.

  Reading an example raises ImageError if its record cannot be used.

  Args:
    records: Mappings [n] with "image", the bytes of a JPEG or PNG file, and
      "label", an integer; `__getitems__` reads those of a list of indices.
    description: The records, for errors.
    image_shape: Height, width and channels.
    resize: Whether an image of another size is cut and resized, or refused.
    label_names: The classes.
    num_examples: The stated number of examples; must be n.
    files: Paths of the files that hold the records, as far as they are known.

  Raises:
    ValueError: If the stated number is not the number of records.
  """

  def __init__(
      self,
      records: Records,
      *,
      description: str,
      image_shape: tuple[int, int, int],
      resize: bool,
      label_names: Sequence[str],
      num_examples: int,
      files: Sequence[str | os.PathLike] = (),
  ):
    super().__init__(
        len(records),
        label_names=label_names,
        num_classes=None,
        num_examples=num_examples,
    )
    self._records = records
    self._description = description
    self._resize = resize
    self._files = [str(path) for path in files]
    self.image_shape = image_shape

  def __getitem__(self, indices: np.ndarray) -> source.Batch:
    """Returns the examples at a 1-D array of integers; -1 is padding."""
    rows, padding = source.check_indices(indices, length=len(self))
    images = np.zeros((len(rows), *self.image_shape), np.uint8)
    labels = np.zeros(len(rows), np.int32)
    real = np.flatnonzero(~padding)
    for i, record in zip(real, self._read(rows[real]), strict=True):
      what = f"example {rows[i]} of {self._description}"
      images[i] = decode.decode_image(
          io.BytesIO(record["image"]),
          what=what,
          channels=self.image_shape[2],
          size=self.image_shape[:2],
          resize=self._resize,
          crop=True,
      )
      labels[i] = self._check_label(int(record["label"]), what)
    return {"image": images, "label": labels}

  def as_arrays(self) -> source.Batch:
    """Returns all the examples, decoded, in order of index."""
    return self[np.arange(len(self))]

  def digest_parts(self) -> Iterator[digest.Part] | None:
    """Returns what tells the records' files from others; None is read."""
    return digest.files(self._files) if self._files else None

  def _read(self, rows: np.ndarray) -> Sequence[Any]:
    if not len(rows):
      return ()
    try:
      return self._records.__getitems__(rows.tolist())
    except Exception as error:  # Whatever the format's reader raises.
      raise decode.ImageError(
          f"{self._description} must have readable records:"
          f" {bounded.short(error)}."
      ) from error

  def _check_label(self, label: int, what: str) -> int:
    # Labels are read with their images: to read all at first takes too long.
    if not 0 <= label < self.num_classes:
      raise decode.ImageError(
          f"{what} must have a label in [0, {self.num_classes}), got {label}."
      )
    return label


def load_tfds(
    name: str,
    *,
    split: str = "train",
    data_dir: str | os.PathLike | None = None,
    image_size: Sequence[int] | None = None,
    num_examples: int | None = None,
) -> TfdsSource:
  """Opens a split of a set that is prepared in the array_record format.

  Args:
    name: One of `published.SETS`.
    split: Name: "train", "valid", "train+valid" or "test".
    data_dir: Folder of TFDS's sets; None for the environment variable
      TFDS_DATA_DIR, or else ~/tensorflow_datasets.
    image_size: Height and width to which the largest centred part of that shape
      is resized, in pixels; None to leave images as they are, which must then
      be of one shape. Papers use 1.2 times the model's size where random crops
      follow, as 268 for 224.
    num_examples: The stated number of examples; or None, for the published
      number of the split.

  Returns:
    A source whose records are read by index.

  Raises:
    ValueError: If the set is not prepared (the text holds the command that
      prepares it) or is not the published one, or an option is wrong.
    ImportError: If TFDS is not installed; the text says what to do.
  """
  cuts = published.cuts(name)
  tfds_split, start, stop = cuts.cut(split)
  if data_dir is not None:
    data_dir = str(source.check_path(data_dir, name="data_dir"))
  if image_size is not None:
    image_size = source.check_image_size(image_size)
  info = _prepared_info(name, data_dir)
  is_there = tfds_split in info.splits
  found = info.splits[tfds_split].num_examples if is_there else 0
  _, _, wanted = cuts.cut("train+valid" if tfds_split == "train" else "test")
  if found != wanted:
    raise ValueError(
        f"tfds:{name} must have {wanted} examples in {tfds_split!r}, as"
        f" published, got {found} in {info.data_dir}."
    )
  return TfdsSource(
      _records(name, f"{tfds_split}[{start}:{stop}]", data_dir),
      description=f"tfds:{name}, {split!r}",
      image_shape=_image_shape(name, info.features["image"].shape, image_size),
      resize=image_size is not None,
      label_names=info.features["label"].names,
      num_examples=stop - start if num_examples is None else num_examples,
      files=info.splits[tfds_split].filepaths,
  )


def _image_shape(
    name: str,
    shape: tuple[Any, Any, int],
    image_size: tuple[int, int] | None,
) -> tuple[int, int, int]:
  """Returns the shape that images come out with."""
  if image_size is None and None in shape:
    raise ValueError(
        f"image_size must be given for 'tfds:{name}', whose images are of many"
        " shapes, got None."
    )
  height, width = image_size or shape[:2]
  return height, width, shape[2]


def _prepared_info(name: str, data_dir: str | None) -> Any:
  """Returns what TFDS wrote about a set when it prepared it."""
  tfds = _tfds()
  try:
    builder = tfds.builder(name, data_dir=data_dir)
    formats = {f.value for f in builder.info.available_file_formats()}
  except Exception as error:  # Whatever TFDS raises of files that are broken.
    raise ValueError(
        f"tfds:{name} must be readable in data_dir {data_dir!r}:"
        f" {bounded.short(error)}."
    ) from error
  if not builder.info.splits or _FORMAT not in formats:
    folder = str(builder.data_path.parents[1])
    if builder.info.splits:  # TFDS keeps one format a folder.
      folder += f"_{_FORMAT}"
    raise ValueError(
        f"tfds:{name} must be prepared as {_FORMAT}, got no such files in"
        f' {builder.data_path}. Where "jax-privacy-toolkit[tfds-prepare]" is'
        f" installed, this prepares it for data_dir={folder!r}:\n"
        f"  {_command(name, folder)}"
    )
  return builder.info


def _command(name: str, data_dir: str) -> str:
  """Returns the shell command that prepares a set."""
  # Double quotes, which single ones leave readable in a shell.
  folder = json.dumps(data_dir, ensure_ascii=False)
  program = (
      "import tensorflow_datasets as tfds;"
      f' tfds.builder("{name}", data_dir={folder},'
      f' file_format="{_FORMAT}").download_and_prepare()'
  )
  return f"python -c {shlex.quote(program)}"


def _records(name: str, tfds_split: str, data_dir: str | None) -> Records:
  tfds = _tfds()
  return tfds.data_source(
      name,
      split=tfds_split,
      data_dir=data_dir,
      download=False,
      decoders={"image": tfds.decode.SkipDecoding()},  # Pillow decodes.
  )


def _tfds() -> Any:
  """Imports TFDS, which takes half a second, where it is first needed."""
  with _extras.needed("tfds"):
    import tensorflow_datasets
    from array_record.python import array_record_data_source as _  # noqa: F401

  return tensorflow_datasets
