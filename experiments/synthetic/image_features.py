"""Fixed features of images, by which two sets are compared.

Invariant: features are a function of one image that was fixed before any
private image was seen: scattering coefficients, pixels, or a network out of a
file that the user names. A Frechet distance is called FID with a file alone.

>>> features = build("pixels", image_shape=(2, 2, 1))
>>> features(np.full((3, 2, 2, 1), 51, np.uint8)).tolist()[0]
[0.2, 0.2, 0.2, 0.2]
"""

import hashlib
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jax_privacy.data import scattering

NAMES = ("scattering", "pixels")
_ROWS = 256
_CHANNELS = 3


class Features(NamedTuple):
  """What makes a vector of an image.

  Attributes:
    name: Name for people.
    batch_fn: `batch_fn(images)`, float [n, d], of uint8 images.
    distance: Name of the Frechet distance of such vectors.
  """

  name: str
  batch_fn: Callable[[np.ndarray], np.ndarray]
  distance: str

  def __call__(self, images: np.ndarray) -> np.ndarray:
    """Returns float64 [n, d].

    Args:
      images: Pixels, uint8 [n, height, width, channels].
    """
    parts = []
    for start in range(0, len(images), _ROWS):
      rows = np.arange(start, start + _ROWS)
      # The last batch is filled up: one shape is compiled.
      batch = images[np.minimum(rows, len(images) - 1)]
      found = np.asarray(self.batch_fn(batch), np.float64)
      parts.append(found.reshape(_ROWS, -1)[: len(images) - start])
    return np.concatenate(parts)


def build(
    name: str,
    *,
    image_shape: tuple[int, int, int],
    inception: str | None = None,
) -> Features:
  """Returns features of images.

  Args:
    name: One of `NAMES`.
    image_shape: Height, width and channels.
    inception: Path of a program that `jax.export` serialised, from uint8 images
      [256, height, width, 3] to float [256, d]; it is used in place of `name`.
      Grey images are repeated to 3 channels. None for no program.

  Raises:
    ValueError: If an argument breaks its rule.
    OSError: If the file cannot be read.
  """
  if inception is not None:
    return _inception(pathlib.Path(inception), image_shape)
  if name not in NAMES:
    rule = f"one of {', '.join(NAMES)}"
    raise ValueError(f"features must be {rule}, got {name!r}.")
  distance = f"Frechet distance ({name})"
  if name == "pixels":
    return Features(name, lambda images: images / 255.0, distance)
  sides = image_shape[:2]
  scales = [
      scale
      for scale in (2, 1)
      if all(side % 2**scale == 0 and side > 2**scale for side in sides)
  ]
  if not scales:
    raise ValueError(
        "features must be pixels for images whose sides are odd or below 4, got"
        f" 'scattering' and {image_shape}."
    )
  transform = scattering.Scattering(image_shape, num_scales=scales[0])
  return Features(f"scattering, J={scales[0]}", transform, distance)


def _inception(path: pathlib.Path, image_shape) -> Features:
  import jax.export

  if image_shape[2] not in (1, _CHANNELS):
    raise ValueError(
        f"inception must be none for images of {image_shape[2]} channels, got"
        f" {path}."
    )
  data = path.read_bytes()
  try:
    program = jax.export.deserialize(bytearray(data))
  except Exception as error:  # It may be any file.
    raise ValueError(
        f"inception must be a file that jax.export serialised, got {path}."
    ) from error
  wanted = (_ROWS, *image_shape[:2], _CHANNELS)
  ins, outs = program.in_avals, program.out_avals
  if (
      [(x.shape, x.dtype) for x in ins] != [(wanted, np.dtype(np.uint8))]
      or len(outs) != 1
      or len(outs[0].shape) != 2
      or outs[0].shape[0] != _ROWS
  ):
    raise ValueError(
        f"inception must be a program from uint8 {list(wanted)} to floats"
        f" [{_ROWS}, d], got {ins} to {outs}."
    )
  call = jax.jit(program.call)

  def batch_fn(images):
    return call(np.repeat(images, _CHANNELS // images.shape[-1], axis=-1))

  digest = hashlib.sha256(data).hexdigest()[:16]
  return Features(f"{path.name}, sha256 {digest}...", batch_fn, "FID")
