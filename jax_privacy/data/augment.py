"""Augmentations of one image, in JAX, to be run on the device under `vmap`.

Invariant: an augmentation is a pure function of (key, image): with the key
folded from (run key, step, example index), neither the batch's layout nor the
device can change what an example turns into.

>>> import jax, jax.numpy as jnp
>>> augment_fn = build(("crop", "flip"), pad=4)
>>> augment_fn(jax.random.key(0), jnp.ones((8, 8, 3))).shape
(8, 8, 3)
>>> pixels = jnp.full((1, 1, 3), 255, jnp.uint8)
>>> standardise(pixels, mean=0.5, std=0.5).ravel().tolist()
[1.0, 1.0, 1.0]
"""

import functools
import inspect
import numbers
import types
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jax_privacy.data import source

AugmentFn: TypeAlias = Callable[[jax.Array, jax.Array], jax.Array]
"""(key, image [height, width, channels]) -> image, whose sides its sides fix.

Only "random_crop" changes the sides.
"""


def mirror_pad_and_crop(
    key: jax.Array, image: jax.Array, *, pad: int
) -> jax.Array:
  """Pads an image with its own mirror image and crops it at a random place.

  The mirror repeats the edge, as NumPy's "symmetric" and not "reflect": this
  is what De et al.'s code does. Each of the (2 pad + 1)^2 crops is as likely.

  Args:
    key: A random key.
    image: Pixels, [height, width, channels].
    pad: Pixels added on each side; at most the height and the width.

  Returns:
    The crop, of the image's shape and dtype.

  Raises:
    ValueError: If `pad` is not an integer in [0, min(height, width)].

  Source: De et al. 2022 (arXiv 2204.13650), and its code.
  """
  _check_image(image)
  _check_pad(pad)
  if pad > min(image.shape[:2]):
    raise ValueError(
        f"pad must be at most the image's sides, {image.shape[:2]}, got {pad}."
    )
  padded = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="symmetric")
  top, left = jax.random.randint(key, (2,), 0, 2 * pad + 1)
  return jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)


def random_crop(
    key: jax.Array, image: jax.Array, *, crop_size: Sequence[int]
) -> jax.Array:
  """Crops an image at a random place; each place is as likely.

  Args:
    key: A random key.
    image: Pixels, [height, width, channels].
    crop_size: Height and width of the crop, in pixels; at most the image's.

  Returns:
    The crop, of the image's dtype.

  Raises:
    ValueError: If `crop_size` is not two positive integers, or is too large.
  """
  height, width = _check_crop_size(crop_size, image)
  room = jnp.array([image.shape[0] - height, image.shape[1] - width])
  top, left = jax.random.randint(key, (2,), 0, room + 1)
  shape = (height, width, image.shape[2])
  return jax.lax.dynamic_slice(image, (top, left, 0), shape)


def centre_crop(image: jax.Array, *, crop_size: Sequence[int]) -> jax.Array:
  """Returns the centre of an image: what evaluation sees of it.

  Of an odd margin, the smaller half is cut off above and on the left.

  Args:
    image: Pixels, [height, width, channels].
    crop_size: Height and width of the crop, in pixels; at most the image's.

  Returns:
    The crop, of the image's dtype.

  Raises:
    ValueError: If `crop_size` is not two positive integers, or is too large.
  """
  height, width = _check_crop_size(crop_size, image)
  top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
  return image[top : top + height, left : left + width]


def random_flip(key: jax.Array, image: jax.Array) -> jax.Array:
  """Flips an image left to right with probability 1/2.

  Args:
    key: A random key.
    image: Pixels, [height, width, channels].

  Returns:
    The image or its mirror image.
  """
  _check_image(image)
  return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)


def standardise(
    image: jax.Array,
    *,
    mean: float | Sequence[float],
    std: float | Sequence[float],
) -> jax.Array:
  """Returns (image / 255 - mean) / std in float32.

  Args:
    image: Pixels, uint8 [..., channels], of one image or a batch.
    mean: Mean of pixels, in units of pixel / 255: a number, or one a channel.
    std: Standard deviation, in the same units and of the same shapes.

  Returns:
    float32 of the image's shape.

  Raises:
    ValueError: If the image is not uint8, a constant is not finite, a standard
      deviation is not positive, or their number is neither 1 nor the number of
      channels.

  Guarantee: mean and std are constants that the caller makes public; were they
  taken from the private data, they would be an unaccounted release.
  """
  if image.dtype != jnp.uint8:
    raise ValueError(f"image must be uint8, got {image.dtype}.")
  num_channels = image.shape[-1]
  means = _constants("mean", mean, num_channels=num_channels)
  stds = _constants("std", std, num_channels=num_channels)
  if not (stds > 0.0).all():
    raise ValueError(f"std must be positive, got {stds.tolist()}.")
  shape = (1,) * (image.ndim - 1) + (num_channels,)
  pixels = image.astype(jnp.float32) / 255.0
  return (pixels - means.reshape(shape)) / stds.reshape(shape)


def compose(*augmentations: AugmentFn) -> AugmentFn:
  """Applies augmentations in turn, each with a key of its own.

  Args:
    *augmentations: Functions of (key, image); none gives the identity.

  Returns:
    A function of (key, image).
  """

  def augment_fn(key: jax.Array, image: jax.Array) -> jax.Array:
    for i, augmentation in enumerate(augmentations):
      image = augmentation(jax.random.fold_in(key, i), image)
    return image

  return augment_fn


_AUGMENTATIONS: types.MappingProxyType[str, Callable[..., jax.Array]] = (
    types.MappingProxyType(
        {
            "crop": mirror_pad_and_crop,
            "flip": random_flip,
            "random_crop": random_crop,
        }
    )
)


def build(
    names: Sequence[str | Callable[..., jax.Array]], **options: Any
) -> AugmentFn:
  """Builds an augmentation from names, as a config holds them.

  Args:
    names: Any of "crop", "flip" and "random_crop", applied in this order; none
      gives the identity. Among them may be functions of the caller's own, of
      `key`, `image` and the options that they name.
    **options: `pad`, in pixels, for "crop"; `crop_size`, (height, width), for
      "random_crop"; and those that own functions name.

  Returns:
    A function of (key, image [height, width, channels]).

  Raises:
    ValueError: If a name is unknown, or an option is missing, invalid, or of
      use to none of the names.
  """
  if isinstance(names, str) or any(
      not callable(n) and n not in _AUGMENTATIONS for n in names
  ):
    raise ValueError(
        f"names must be some of {', '.join(sorted(_AUGMENTATIONS))}, got"
        f" {names!r}."
    )
  unused = set(options)
  augmentations = []
  for name in names:
    function = name if callable(name) else _AUGMENTATIONS[name]
    parameters = dict(inspect.signature(function).parameters)
    del parameters["key"], parameters["image"]
    for option, parameter in parameters.items():
      if parameter.default is parameter.empty and option not in options:
        raise ValueError(f"{option} must be given for {name!r}, got none.")
    wanted = set(parameters) & set(options)
    own = {option: options[option] for option in wanted}
    augmentations.append(functools.partial(function, **own))
    unused -= wanted
  for option in sorted(unused):
    chosen = ", ".join(map(repr, names)) or "no augmentation"
    raise ValueError(f"an option must be one of {chosen}, got {option!r}.")
  if "pad" in options:
    _check_pad(options["pad"])
  if "crop_size" in options:
    source.check_image_size(options["crop_size"], name="crop_size")
  return compose(*augmentations)


def _check_image(image: jax.Array) -> None:
  if image.ndim != 3:
    raise ValueError(
        "image must be one image, [height, width, channels], got"
        f" {list(image.shape)}."
    )


def _check_crop_size(
    crop_size: Sequence[int], image: jax.Array
) -> tuple[int, int]:
  _check_image(image)
  height, width = source.check_image_size(crop_size, name="crop_size")
  if height > image.shape[0] or width > image.shape[1]:
    raise ValueError(
        f"crop_size must be at most the image's sides, {image.shape[:2]}, got"
        f" {(height, width)}."
    )
  return height, width


def _check_pad(pad: int) -> None:
  is_int = isinstance(pad, numbers.Integral) and not isinstance(pad, bool)
  if not is_int or pad < 0:
    raise ValueError(f"pad must be an integer of at least 0, got {pad!r}.")


def _constants(
    name: str, values: float | Sequence[float], *, num_channels: int
) -> np.ndarray:
  """Returns one finite float32 for each channel."""
  array = np.asarray(values)
  if array.dtype.kind not in "fiu" or array.shape not in ((), (num_channels,)):
    raise ValueError(
        f"{name} must be one number, or one for each of {num_channels}"
        f" channels, got {values!r}."
    )
  # Checked in float32: a number may be finite, or above 0, in float64 only.
  with np.errstate(over="ignore"):
    array = np.broadcast_to(array.astype(np.float32), (num_channels,))
  if not np.isfinite(array).all():
    raise ValueError(f"{name} must be finite, got {values!r}.")
  return array
