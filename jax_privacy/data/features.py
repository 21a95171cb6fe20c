"""A source's images turned into fixed features, once.

Invariant: the features of an example depend on its image and on public options
alone, so that a model trained on them has the guarantee of one trained on the
images, and nothing about them needs to be accounted.

>>> from jax_privacy import data
>>> images = data.load("digits", split="test")
>>> source = with_features(images, "scattering", num_angles=4)
>>> source.image_shape, len(source) == len(images)
((2, 2, 25), True)
>>> source[np.array([5, -1])]["image"].shape
(2, 2, 2, 25)
"""

import inspect
import types
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np

from jax_privacy.data import digest, scattering
from jax_privacy.data import source as source_lib

# Measured on 2 CPU cores: 16 to 64 images at a time stay in the cache, and 250
# take twice as long.
_CHUNK = 64


class Extractor(Protocol):
  """A function of uint8 images [n, height, width, channels].

  Attributes:
    feature_shape: Height, width and channels of what it returns.
  """

  feature_shape: tuple[int, int, int]

  def __call__(self, images: np.ndarray) -> Any:
    """Returns features, [n, *feature_shape]."""


_EXTRACTORS: types.MappingProxyType[str, Callable[..., Extractor]] = (
    types.MappingProxyType({"scattering": scattering.Scattering})
)


class FeatureSource:
  """Features in place of a source's images.

  They are computed for all examples at the first read, or by `compute`, and
  kept in memory: 952 MB for Fashion-MNIST's 60,000 x 3,969 of float32. Half of
  it would do in float16, but to convert them, a step of 8,192 examples of a
  linear model then took 69 ms on 2 CPU cores, and not 39 to 47.

  Args:
    images: The source of uint8 images.
    extract_fn: An `Extractor` of its images.
  """

  in_memory = True
  image_dtype = np.dtype(np.float32)

  def __init__(self, images: source_lib.Source, extract_fn: Extractor):
    self._images = images
    self._extract_fn = extract_fn
    self._features: source_lib.Batch | None = None
    self.label_names = images.label_names
    self.is_multi_label = images.is_multi_label
    self.groups = images.groups
    self.image_shape = extract_fn.feature_shape

  @property
  def images(self) -> source_lib.Source:
    """The images that the features are of."""
    return self._images

  @property
  def num_examples(self) -> int:
    """The stated number of examples; a ValueError where none was stated."""
    return self._images.num_examples

  @property
  def num_classes(self) -> int:
    """The number of classes."""
    return self._images.num_classes

  def __len__(self) -> int:
    return len(self._images)

  def __getitem__(self, indices: np.ndarray) -> source_lib.Batch:
    """Returns the examples at a 1-D array of integers; -1 is padding."""
    rows, padding = source_lib.check_indices(indices, length=len(self))
    if padding.all():  # Of no example, so that nothing need be computed.
      return self._blank(len(rows))
    batch = {key: values[rows] for key, values in self.as_arrays().items()}
    batch["image"][padding] = 0
    batch["label"][padding] = -1 if self.is_multi_label else 0
    return batch

  def _blank(self, size: int) -> source_lib.Batch:
    """Returns padding alone."""
    batch = self._images[np.full(size, -1)]
    images = np.zeros((size, *self.image_shape), self.image_dtype)
    return {**batch, "image": images}

  def column(self, name: str) -> np.ndarray:
    """Returns a column of the images' source.

    Args:
      name: Name of the column.
    """
    return self._images.column(name)

  def as_arrays(self) -> source_lib.Batch:
    """Returns all the examples, in order of index: read-only, no copy."""
    self.compute()
    return dict(self._features or {})

  def digest_parts(self) -> Iterable[digest.Part] | None:
    """Returns what tells the images from others; no feature is computed."""
    return digest.parts_of(self._images)

  def compute(self) -> None:
    """Computes the features, unless that is done.

    Raises:
      ImageError: If an image cannot be decoded.
    """
    if self._features is not None:
      return
    num_examples = len(self)
    features = np.zeros((num_examples, *self.image_shape), np.float32)
    labels = []
    for start in range(0, num_examples, _CHUNK):
      indices = np.arange(start, start + _CHUNK)  # One size: compiled once.
      batch = self._images[np.where(indices < num_examples, indices, -1)]
      rows = slice(start, min(start + _CHUNK, num_examples))
      size = rows.stop - start
      features[rows] = np.asarray(self._extract_fn(batch["image"]))[:size]
      labels.append(batch["label"][:size])
    self._features = {"image": features, "label": np.concatenate(labels)}
    for array in self._features.values():
      array.setflags(write=False)


def feature_names() -> tuple[str, ...]:
  """Returns the names that `with_features` takes, sorted."""
  return tuple(sorted(_EXTRACTORS))


def with_features(
    images: source_lib.Source, name: str, **options: Any
) -> FeatureSource:
  """Puts features in place of a source's images.

  Args:
    images: The source of uint8 images.
    name: One of `feature_names()`: "scattering", see `Scattering`.
    **options: The features' own.

  Returns:
    A source of the same examples and labels, whose "image" is float32
    features, of the shape `image_shape`.

  Raises:
    ValueError: If the name or an option is unknown (the text lists the valid
      ones), or has an invalid value.
  """
  if name not in _EXTRACTORS:
    raise ValueError(
        f"name must be one of {', '.join(feature_names())}, got {name!r}."
    )
  extractor = _EXTRACTORS[name]
  valid = sorted(set(inspect.signature(extractor).parameters) - {"image_shape"})
  for option in options:
    if option not in valid:
      raise ValueError(
          f"an option of {name!r} must be one of"
          f" {', '.join(valid)}, got {option!r}."
      )
  return FeatureSource(images, extractor(images.image_shape, **options))
