"""Random-access sources of images, tables and text, and augmentations.

Invariant: example i of a source is the same bytes on every read, so a batch is
named by its indices alone, and the number of examples that privacy is accounted
with is the *stated* one.

>>> import numpy as np
>>> from jax_privacy import data
>>> source = data.load("digits", split="train")
>>> len(source), source.num_examples, source.image_shape, source.num_classes
(1437, 1437, (8, 8, 1), 10)
>>> batch = source[np.array([3, 1, -1])]
>>> batch["image"].shape, batch["image"].dtype, batch["label"].shape
((3, 8, 8, 1), dtype('uint8'), (3,))
"""

from jax_privacy.data import augment as augment
from jax_privacy.data.arrays import ArraySource as ArraySource
from jax_privacy.data.decode import ImageError as ImageError
from jax_privacy.data.features import FeatureSource as FeatureSource
from jax_privacy.data.features import feature_names as feature_names
from jax_privacy.data.features import with_features as with_features
from jax_privacy.data.radiograph_columns import CHEXPERT_5 as CHEXPERT_5
from jax_privacy.data.radiograph_columns import CHEXPERT_14 as CHEXPERT_14
from jax_privacy.data.registry import load as load
from jax_privacy.data.registry import names as names
from jax_privacy.data.source import Batch as Batch
from jax_privacy.data.source import ExampleError as ExampleError
from jax_privacy.data.source import Group as Group
from jax_privacy.data.source import Source as Source

__all__ = (
    "ArraySource",
    "Batch",
    "CHEXPERT_14",
    "CHEXPERT_5",
    "ExampleError",
    "FeatureSource",
    "Group",
    "ImageError",
    "Source",
    "augment",
    "feature_names",
    "load",
    "names",
    "with_features",
)


def __dir__() -> list[str]:
  return list(__all__)
