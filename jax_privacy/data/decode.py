"""Decodes one JPEG or PNG image with Pillow.

Invariant: an image becomes uint8 [height, width, channels] or an error that
names it; the size is checked before any pixel is decoded, so that a small file
cannot claim a large memory.

>>> import io, PIL.Image
>>> file = io.BytesIO()
>>> PIL.Image.new("RGB", (4, 2), (255, 0, 0)).save(file, "PNG")
>>> decode_image(file, what="red", channels=3, size=(2, 4), resize=False).shape
(2, 4, 3)
"""

import os
import struct
import warnings
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from jax_privacy import _extras
from jax_privacy.data import bounded, source

if TYPE_CHECKING:
  import PIL.Image

# 16-bit and floating-point images are left out: Pillow clips them to 255.
_MODES = frozenset({"1", "CMYK", "L", "LA", "P", "RGB", "RGBA", "YCbCr"})
_TARGET_MODE = {1: "L", 3: "RGB"}
_ERRORS = (
    OSError,
    SyntaxError,  # A broken PNG chunk.
    ValueError,
    struct.error,
)


def decode_image(
    file: str | os.PathLike | BinaryIO,
    *,
    what: str,
    channels: int,
    size: tuple[int, int] | None,
    resize: bool,
    crop: bool = False,
) -> np.ndarray:
  """Decodes one image.

  Transparency is dropped, an EXIF orientation is not applied.

  Args:
    file: A path or a binary stream.
    what: The image, for the error text.
    channels: Number of channels, 1 (grey) or 3 (RGB); an image of another kind
      is converted.
    size: Height and width, in pixels; None for the image's own.
    resize: Whether an image of another size is resized (bilinear, with
      anti-aliasing) or refused.
    crop: Whether an image that is resized keeps its proportions, and loses
      what then sticks out on two opposite sides.

  Returns:
    uint8 [height, width, channels].

  Raises:
    ImageError: If the image cannot be read, has another size and may not be
      resized, or has more than 8 bits a channel.
    ImportError: If Pillow is not installed.
  """
  with _extras.needed("data"):
    import PIL.Image

  bombs = (
      PIL.Image.DecompressionBombError,
      PIL.Image.DecompressionBombWarning,
  )
  try:
    with warnings.catch_warnings():
      # What Pillow says of an example's metadata is as private as the example.
      warnings.simplefilter("ignore")
      warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
      with PIL.Image.open(file, formats=("JPEG", "PNG")) as image:
        _check(image, what=what, size=None if resize else size)
        image = image.convert(_TARGET_MODE[channels])
  except _Refused:
    raise
  except PIL.UnidentifiedImageError as error:  # Its text holds an address.
    raise ImageError(
        f"{what} must be a JPEG or PNG image, got neither."
    ) from error
  except (*_ERRORS, *bombs) as error:
    reason = bounded.short(error)
    raise ImageError(f"{what} must be a readable image: {reason}.") from error
  if size is not None and image.size != (size[1], size[0]):
    if crop:  # Not by resize(box=...), which also reads pixels around the box.
      image = image.crop(_centred_box(image.size, size))
    image = image.resize((size[1], size[0]), PIL.Image.Resampling.BILINEAR)
  return np.asarray(image).reshape(image.height, image.width, channels)


def check_channels(channels: int) -> int:
  """Returns the number of channels if it is 1 or 3.

  Args:
    channels: The number to check.

  Returns:
    The number.

  Raises:
    ValueError: If it is any other.
  """
  if isinstance(channels, bool) or channels not in _TARGET_MODE:
    raise ValueError(f"channels must be 1 or 3, got {channels!r}.")
  return channels


def _centred_box(
    image_size: tuple[int, int], size: tuple[int, int]
) -> tuple[int, int, int, int]:
  """Returns the largest centred (left, top, right, bottom) of size's shape.

  Args:
    image_size: (width, height), as Pillow has it.
    size: (height, width), of which only the proportion counts.

  Source: for squares, De et al. 2022's code (decoder.py), which cuts ImageNet's
    images so before it resizes them.
  """
  (width, height), (wanted_height, wanted_width) = image_size, size
  box_width = min(width, max(1, height * wanted_width // wanted_height))
  box_height = min(height, max(1, width * wanted_height // wanted_width))
  left, top = (width - box_width) // 2, (height - box_height) // 2
  return left, top, left + box_width, top + box_height


class ImageError(source.ExampleError):
  """An image that cannot be used; found when it is first read."""


class _Refused(ImageError):
  """A whole image of a kind that is not accepted."""


def _check(
    image: "PIL.Image.Image", *, what: str, size: tuple[int, int] | None
) -> None:
  if image.mode not in _MODES:
    raise _Refused(
        f"{what} must have at most 8 bits a channel (a mode of"
        f" {', '.join(sorted(_MODES))}), got mode {image.mode}."
    )
  if size is not None and image.size != (size[1], size[0]):
    raise _Refused(
        f"{what} must be of size {size[0]}x{size[1]} (height x width), got"
        f" {image.height}x{image.width}: give image_size to resize."
    )
