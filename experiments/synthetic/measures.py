"""What is measured of drawn images, next to real ones.

Invariant: distances are of equal numbers of images, so that their bias is the
same for all sets in a table; each measure names what it is of.

>>> images = np.random.default_rng(0).integers(256, size=(60, 4, 4, 1))
>>> one = reading.ImageSet(
...     "x", images.astype(np.uint8), np.arange(60) % 2, ("a", "b"))
>>> features = image_features.build("pixels", image_shape=(4, 4, 1))
>>> found = distances(one, one, features, num_images=60)
>>> list(found)[:2]
['Frechet distance (pixels)', 'kernel distance']
"""

from typing import NamedTuple

import numpy as np

from experiments.metrics import estimate as estimate_lib
from experiments.metrics import feature_sets
from experiments.synthetic import image_features, reading

KERNEL, WITHIN = "kernel distance", "kernel distance within classes"
_MOST = 5000
_LEAST = 8
_NEAR = 0.01


def num_images(sets: list[reading.ImageSet]) -> int:
  """Returns how many images of each set distances are of.

  Args:
    sets: All sets, the real one too.

  Raises:
    ValueError: If one has fewer than 8 images.
  """
  least = min(sets, key=lambda one: len(one.labels))
  if len(least.labels) < _LEAST:
    raise ValueError(
        f"synthetic must have {_LEAST} images or more, and so must the real"
        f" ones, got {len(least.labels)} in {least.name}."
    )
  return min(len(least.labels), _MOST)


def distances(
    drawn: reading.ImageSet,
    real: reading.ImageSet,
    features: image_features.Features,
    *,
    num_images: int,
) -> dict[str, estimate_lib.Estimate]:
  """Returns distances, precision and recall by name.

  Args:
    drawn: Drawn images.
    real: Real images.
    features: Features to compare by.
    num_images: Number of images of each.
  """
  # Of two orders: where both sets have one, blocks of them would be pairs.
  drawn = _some(drawn, num_images, seed=0)
  real = _some(real, num_images, seed=1)
  of_drawn, of_real = features(drawn.images), features(real.images)
  shares = feature_sets.precision_recall(of_real, of_drawn)
  frechet = feature_sets.frechet_distance(of_drawn, of_real)
  within = _within_classes(of_drawn, drawn.labels, of_real, real.labels)
  return {
      features.distance: _alone(frechet, num_images),
      KERNEL: feature_sets.kernel_distance(of_drawn, of_real),
      WITHIN: within,
      "precision": shares.precision,
      "recall": shares.recall,
  }


def _some(one: reading.ImageSet, num: int, *, seed: int) -> reading.ImageSet:
  """Returns some images of a set, in a random order."""
  order = np.random.default_rng(seed).permutation(len(one.labels))
  return one.rows(order[:num])


def _alone(value: float, num: int) -> estimate_lib.Estimate:
  """A number without a standard error."""
  return estimate_lib.Estimate(value, np.full(1, np.nan), num, is_share=False)


def _within_classes(drawn, drawn_labels, real, real_labels):
  """The mean over classes of their kernel distances, which labels decide."""
  found = []
  for label in np.unique(real_labels):
    ours, theirs = drawn[drawn_labels == label], real[real_labels == label]
    if min(len(ours), len(theirs)) < 2:
      why = f"class {label} has too few images"
      return estimate_lib.undefined(0, why=why, is_share=False)
    found.append(feature_sets.kernel_distance(ours, theirs))
  influence = np.concatenate([one.influence for one in found]) / len(found)
  value = float(np.mean([one.value for one in found]))
  return estimate_lib.Estimate(
      value, influence, sum(x.num_examples for x in found), is_share=False
  )


class Neighbours(NamedTuple):
  """How near images come to those that a model was trained on.

  Attributes:
    drawn: Median distance of a drawn image to its nearest training image.
    real: Median distance of a test image to its nearest training image.
    share_near: Share of the drawn images that are nearer than 1% of the test
      images are.
  """

  drawn: float
  real: float
  share_near: estimate_lib.Estimate


def neighbours(
    drawn: reading.ImageSet, test: reading.ImageSet, train: reading.ImageSet
) -> Neighbours:
  """Returns a measure of images learned by heart, which is private.

  Distances are Euclidean, of pixels in [0, 1].

  Args:
    drawn: Drawn images.
    test: Real images that were not trained on.
    train: Images that were trained on.
  """
  flat = [
      one.images.reshape(len(one.labels), -1) / 255.0
      for one in (drawn, test, train)
  ]
  ours, theirs = (feature_sets.nearest_distances(x, flat[2]) for x in flat[:2])
  near = ours < np.quantile(theirs, _NEAR)
  return Neighbours(
      float(np.median(ours)),
      float(np.median(theirs)),
      estimate_lib.mean(near, is_share=True),
  )
