"""From a source's images to the model's inputs: pixels, or features.

The invariant: both are fixed functions of one image, with constants that the
config makes public, so that neither is accounted.
"""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections

from experiments.tasks import sections
from jax_privacy import data
from jax_privacy.data import augment, bounded


def extract(
    data_config: ml_collections.ConfigDict,
    source: data.Source,
    *,
    augment_config: ml_collections.ConfigDict,
) -> data.Source:
  """Puts a config's features in place of a source's images, if it has any.

  Args:
    data_config: A config's section.
    source: Its images.
    augment_config: The section, whose names must be empty with features.

  Returns:
    The source, with features in place of images if the config has any.

  Raises:
    ValueError: If a field breaks its rule, or could have no effect.
  """
  name = data_config.features.name
  options = sections.options(
      "data.features.options",
      data_config.features.options,
      taken=("image_shape",),
  )
  if not name:
    if options:
      raise ValueError(
          "data.features.options must be none without data.features.name, got"
          f" {min(options)}."
      )
    return source
  for field, value, unused in (
      ("data.mean", tuple(data_config.mean), (0.0,)),
      ("data.std", tuple(data_config.std), (1.0,)),
      ("augment.names", tuple(augment_config.names), ()),
  ):
    if value != unused:
      raise ValueError(
          f"{field} must be {unused} with data.features, which are of images"
          f" as they are, got {value}."
      )
  if "crop_size" in data_config.test_options:
    raise ValueError(
        "data.test_options must have no crop_size with data.features, which are"
        f" of whole images, got {data_config.test_options.crop_size}."
    )
  with sections.named("data.features"):
    return data.with_features(source, name, **options)


def compute(source: data.Source) -> None:
  """Computes private examples' features before the first read, and says so.

  Args:
    source: Source of the private examples.

  Raises:
    ImageError: If an image cannot be decoded.
  """
  if not isinstance(source, data.FeatureSource):
    return
  start = time.monotonic()
  try:
    source.compute()
  except data.ImageError as error:
    text = f"{error} ({bounded.PRIVATE})"
    raise data.ImageError(text) from error
  seconds = time.monotonic() - start
  print(f"features of {source.num_examples:,} examples: {seconds:.1f} s")


def make_standardise_fn(
    data_config: ml_collections.ConfigDict, image_shape: tuple[int, int, int]
) -> Callable[[jax.Array], jax.Array]:
  """Returns the function of a source's images that the model's input is.

  Args:
    data_config: The section `data` of a config.
    image_shape: Height, width and channels of an image.

  Raises:
    ValueError: If a constant breaks its rule.
  """
  if data_config.features.name:
    return lambda features: features

  def standardise_fn(images):
    return augment.standardise(
        images, mean=data_config.mean, std=data_config.std
    )

  # Wrong constants are found now, not in the middle of a traced step.
  jax.eval_shape(standardise_fn, jnp.zeros((1, *image_shape), jnp.uint8))
  return standardise_fn
