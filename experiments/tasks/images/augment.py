"""Builds a config's augmentation, and says what size of image comes out of it.

The invariant: a model is built for what comes out, and evaluation sees the
centre of that size, unless `data.test_options` say otherwise.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections

from experiments.tasks import imported, sections
from jax_privacy.data import augment, source

_CROP = "random_crop"
# Options of sources that say a size: test images are then meant as they come.
_SIZE_OPTIONS = ("image_size", "image_shape")


def build(
    augment_config: ml_collections.ConfigDict,
) -> augment.AugmentFn | None:
  """Returns the augmentation of one image, or None for none.

  Args:
    augment_config: A config's section.

  Raises:
    ValueError: If a field breaks its rule.
  """
  names = tuple(map(_function, augment_config.names))
  options = sections.options(
      "augment.options", augment_config.options, taken=("names",)
  )
  with sections.named("augment"):  # Options without a name are refused too.
    augment_fn = augment.build(names, **options)
  return augment_fn if names else None


def _function(name: str) -> str | Callable[..., jax.Array]:
  return imported.resolve(
      "augment.names",
      name,
      takes=("key", "image"),
      what="a function of key and image",
  )


def output_shape(
    augment_config: ml_collections.ConfigDict,
    image_shape: tuple[int, int, int],
) -> tuple[int, int, int]:
  """Returns the shape of an image's views.

  Args:
    augment_config: A config's section.
    image_shape: Shape of the training images.

  Raises:
    ValueError: If the images are too small for the augmentation.
  """
  augment_fn = build(augment_config)
  if augment_fn is None:
    return image_shape
  image = jax.ShapeDtypeStruct(image_shape, jnp.float32)
  with sections.named("augment"):
    return jax.eval_shape(augment_fn, jax.random.key(0), image).shape


def train_crop_size(
    augment_config: ml_collections.ConfigDict,
) -> tuple[int, int] | None:
  """Returns (height, width) of training's random crops, or None for none.

  Args:
    augment_config: The section `augment` of a config.
  """
  if _CROP not in augment_config.names:
    return None
  build(augment_config)
  return tuple(augment_config.options.crop_size)


def test_crop_size(
    augment_config: ml_collections.ConfigDict,
    data_config: ml_collections.ConfigDict,
) -> tuple[int, int] | None:
  """Returns (height, width) of the centre that evaluation sees, None for all.

  It is `crop_size` of `data.test_options`; without that, and where these say no
  size of images either, training's.

  Args:
    augment_config: The section `augment` of a config.
    data_config: The section `data` of a config.

  Raises:
    ValueError: If a field breaks its rule.
  """
  options = data_config.test_options
  if "crop_size" in options:
    with sections.named("data.test_options"):
      return source.check_image_size(options.crop_size, name="crop_size")
  if any(name in options for name in _SIZE_OPTIONS):
    return None
  return train_crop_size(augment_config)
