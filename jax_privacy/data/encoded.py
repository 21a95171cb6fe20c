"""A source of JPEG or PNG images, decoded one by one when they are read.

Invariant: every image comes out with the shape that `image_shape` says, or its
decoding is an error that names the image. Nothing is kept in memory but the
encoded bytes, or the paths.

>>> import io, PIL.Image
>>> def encoded(color):
...   file = io.BytesIO()
...   PIL.Image.new("RGB", (4, 2), color).save(file, "PNG")
...   return file.getvalue()
>>> files = [encoded((9, 8, 7)), encoded((6, 5, 4))]
>>> source = EncodedSource(
...   Slices(np.frombuffer(b"".join(files), np.uint8), [0, len(files[0])],
...          [len(files[0]), len(files[0]) + len(files[1])]),
...   ["a", "b"], np.array([0, 1]), num_classes=2)
>>> source[np.array([1, -1])]["image"][:, 0, 0].tolist()
[[6, 5, 4], [0, 0, 0]]
"""

import functools
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import BinaryIO

import numpy as np

from jax_privacy.data import bounded, decode, digest, source


class Slices(Sequence):
  """Functions that open parts of an array of bytes, made when asked for.

  Pickled, they are three arrays, and not as many functions as images.

  Args:
    blob: Bytes of all parts, uint8 [num_bytes].
    starts: Index of each part's first byte, [n].
    stops: Index after each part's last byte, [n].
  """

  def __init__(
      self,
      blob: np.ndarray,
      starts: Sequence[int] | np.ndarray,
      stops: Sequence[int] | np.ndarray,
  ):
    self._blob, self._starts, self._stops = blob, starts, stops

  def __len__(self) -> int:
    return len(self._starts)

  # pyrefly: ignore[bad-override]  # No slices of it.
  def __getitem__(self, i: int) -> Callable[[], BinaryIO]:
    part = self._blob[self._starts[i] : self._stops[i]]
    return functools.partial(io.BytesIO, part.data)

  def contents(self) -> Iterator[bytes]:
    """Yields the bytes of each part."""
    for start, stop in zip(self._starts, self._stops, strict=True):
      yield self._blob[start:stop].tobytes()


class EncodedSource(source.Labelled):
  """Encoded images, each a file or behind a function that opens it.

  Reading an example raises ImageError if its image cannot be used. Worker
  processes read a copy of the source, which opens its files anew.

  Args:
    openers: Paths [n], or functions without arguments, each of which gives a
      path or a new binary stream.
    descriptions: Texts [n] that name the images in errors.
    labels: Integers [n] in [0, num_classes); or [n, num_classes] of 1, 0 and
      -1, where an example has several.
    channels: Number of channels, 1 (grey) or 3 (RGB); an image of another kind
      is converted.
    image_size: Height and width to which images are resized, in pixels; None
      for the size of the first, which all must then have.
    crop: Whether an image that is resized is first cut to the largest centred
      part of that shape, and so keeps its proportions.
    label_names: Names of the classes; None for the decimal numbers.
    num_classes: Number of classes; None for the number of `label_names`.
    num_examples: Stated number of examples; must be n.
    groups: Columns for evaluation, by name.
    read_column: Function that reads another column, by name.

  Raises:
    ValueError: If an option, a label or a stated number is wrong, or the first
      image cannot be read.
  """

  def __init__(
      self,
      openers: Sequence[
          str | os.PathLike | Callable[[], str | os.PathLike | BinaryIO]
      ],
      descriptions: Sequence[str],
      labels: np.ndarray,
      *,
      channels: int = 3,
      image_size: Sequence[int] | None = None,
      crop: bool = False,
      label_names: Sequence[str] | None = None,
      num_classes: int | None = None,
      num_examples: int | None = None,
      groups: Mapping[str, source.Group] | None = None,
      read_column: Callable[[str], np.ndarray] | None = None,
  ):
    super().__init__(
        labels,
        label_names=label_names,
        num_classes=num_classes,
        num_examples=num_examples,
        groups=groups,
        read_column=read_column,
    )
    if not len(openers) == len(descriptions) == len(self):
      raise ValueError(
          f"openers and descriptions must be as many as the labels, {len(self)}"
          f", got {len(openers)} and {len(descriptions)} ({bounded.PRIVATE})."
      )
    self._openers = openers
    self._descriptions = descriptions
    self._channels = decode.check_channels(channels)
    if not isinstance(crop, bool) or (crop and image_size is None):
      raise ValueError(
          "crop must be true or false, and false without image_size, got"
          f" {crop!r}."
      )
    self._resize = image_size is not None
    self._crop = crop
    self._size = None
    if image_size is not None:
      self._size = source.check_image_size(image_size)
    else:
      self._size = self._decode(0).shape[:2]
    height, width = self._size
    self.image_shape = (height, width, self._channels)

  def __getitem__(self, indices: np.ndarray) -> source.Batch:
    """Returns the examples at a 1-D array of integers; -1 is padding."""
    rows, padding = source.check_indices(indices, length=len(self))
    images = np.zeros((len(rows), *self.image_shape), np.uint8)
    for i in np.flatnonzero(~padding):
      images[i] = self._decode(rows[i])
    return {"image": images, "label": self._labels_at(rows, padding)}

  def as_arrays(self) -> source.Batch:
    """Returns all the examples, decoded, in order of index."""
    return self[np.arange(len(self))]

  def digest_parts(self) -> Iterator[digest.Part]:
    """Yields what tells these examples from others; nothing is decoded.

    Labels, names, and the bytes in memory, or of paths what `digest.files`
    gives. Of other openers, nothing.
    """
    yield self._labels
    yield digest.names(self._descriptions)
    if isinstance(self._openers, Slices):
      yield from self._openers.contents()
    else:
      paths = [x for x in self._openers if isinstance(x, str | os.PathLike)]
      yield from digest.files(paths)

  def _decode(self, row: int) -> np.ndarray:
    opener, what = self._openers[row], self._descriptions[row]
    file = opener() if callable(opener) else opener
    # Opening a pipe waits for ever.
    if isinstance(file, str | os.PathLike) and not bounded.is_regular(file):
      raise decode.ImageError(
          f"{what} must be a file, got none, a folder, a pipe or a broken link."
      )
    return decode.decode_image(
        file,
        what=what,
        channels=self._channels,
        size=self._size,
        resize=self._resize,
        crop=self._crop,
    )
