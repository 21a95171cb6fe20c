"""DP-MERF's release: the sum of random features of labelled images, with noise.

An image x of class y becomes the vector (phi(x) in the place of class y, w in
the place of y's count), and 0 elsewhere. phi(x) has the cosines and sines of
random projections, at a length of 1: inner products of two are near the
Gaussian kernel exp(-|x - x'|^2 / (2 l^2)). Frequencies, l and w are public.

Invariant: one image, added or removed, moves the sum by sqrt(1 + w^2) at most,
exactly. For the entries of a vector are whole numbers of 2^-20, rounded towards
0, and their sum is of integers: it has no rounding of its own.

>>> embedding = Embedding.draw(4, num_classes=2, num_features=6, length_scale=1)
>>> embedding.sums(np.zeros((3, 4)), np.array([0, 0, 1])).shape
(14,)
>>> round(embedding.sensitivity, 4)
1.118
"""

import dataclasses
import math
from typing import Any

import numpy as np

import accounting
from jax_privacy import root_key

COUNT_WEIGHT = 0.5
"""Length w of what counts a class, next to 1 for the features."""

_UNIT = 2**20
_ROWS = 256
_MAX_FEATURES = 100_000


@dataclasses.dataclass(frozen=True)
class Embedding:
  """Random features of images of several classes.

  Attributes:
    frequencies: Projections, float64 [num_features / 2, num_pixels].
    num_classes: Number of classes.
  """

  frequencies: np.ndarray
  num_classes: int

  @classmethod
  def draw(
      cls,
      num_pixels: int,
      *,
      num_classes: int,
      num_features: int,
      length_scale: float,
      seed: int = 0,
  ) -> "Embedding":
    """Returns random features of a Gaussian kernel.

    Args:
      num_pixels: Number of numbers in an image.
      num_classes: Number of classes.
      num_features: Number of features, even.
      length_scale: Length scale l of the kernel, positive. It is public: one
        that is computed from private images would be a release.
      seed: Seed of the frequencies, which are public.

    Raises:
      ValueError: If an argument breaks its rule.
    """
    if num_features % 2 or not 2 <= num_features <= _MAX_FEATURES:
      raise ValueError(
          f"num_features must be even and in [2, {_MAX_FEATURES}], got"
          f" {num_features}."
      )
    if not 1e-6 <= length_scale <= 1e6:
      raise ValueError(
          f"length_scale must be in [1e-6, 1e6], got {length_scale}."
      )
    rng = np.random.default_rng(seed)
    shape = (num_features // 2, num_pixels)
    return cls(rng.normal(size=shape) / length_scale, num_classes)

  @property
  def num_features(self) -> int:
    """Number of features of a class."""
    return 2 * len(self.frequencies)

  @property
  def sensitivity(self) -> float:
    """Largest Euclidean change of `sums` by one image, added or removed.

    Proof: `sums` adds up one vector an image. That vector has the features of
    `_whole`, of a length of at most 1, in the place of one class; and w in the
    place of one count. So its length is at most sqrt(1 + w^2). Adding or
    removing an image adds or takes away this vector, and moves no other.
    """
    return math.hypot(1.0, COUNT_WEIGHT)

  def features(self, pixels: np.ndarray) -> np.ndarray:
    """Returns phi, float64 [n, num_features], each of a length of about 1.

    Args:
      pixels: Images, floats [n, num_pixels].
    """
    angles = pixels @ self.frequencies.T
    both = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    return both / math.sqrt(len(self.frequencies))

  def sums(self, pixels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the sum over images, float64 [num_classes (num_features + 1)].

    It is private. First come the features of each class, then the counts.

    Args:
      pixels: Images, finite floats [n, num_pixels].
      labels: Classes [n].

    Raises:
      ValueError: If a pixel is not finite, or a label is no class.
    """
    if (
        labels.shape != pixels.shape[:1]
        or not np.isin(labels, np.arange(self.num_classes)).all()
    ):
      raise ValueError(
          f"labels must be one in [0, {self.num_classes}) an image, got others."
      )
    total = np.zeros((self.num_classes, self.num_features), np.int64)
    for start in range(0, len(pixels), _ROWS):
      rows = slice(start, start + _ROWS)
      whole = _whole(self.features(pixels[rows]))
      np.add.at(total, labels[rows], whole)
    counts = np.bincount(labels, minlength=self.num_classes)
    # Integers below 2^53 over a power of 2: exact.
    return np.concatenate([total.ravel() / _UNIT, counts * COUNT_WEIGHT])

  def means(self, released: np.ndarray) -> np.ndarray:
    """Returns the mean features of each class, [num_classes, num_features].

    Args:
      released: Sum with noise. A class that it counts as fewer than one image
        is divided by one.
    """
    split = self.num_classes * self.num_features
    counts = np.maximum(released[split:] / COUNT_WEIGHT, 1.0)
    sums = released[:split].reshape(self.num_classes, self.num_features)
    return sums / counts[:, None]


def _whole(features: np.ndarray) -> np.ndarray:
  """Returns features in whole units, int64, each row of a unit's length.

  A row whose length in integers is above is shrunk, until it is not.
  """
  if not np.isfinite(features).all():
    raise ValueError("pixels must be finite, got others.")
  scaled = features * _UNIT
  whole = np.trunc(scaled).astype(np.int64)
  while len(long := np.flatnonzero((whole**2).sum(axis=1) > _UNIT**2)):
    lengths = np.linalg.norm(scaled[long], axis=1, keepdims=True)
    scaled[long] *= np.minimum(_UNIT / lengths, 1.0) * (1.0 - 1e-12)
    whole[long] = np.trunc(scaled[long]).astype(np.int64)
  return whole


def calibrate(
    embedding: Embedding, *, epsilon: float, delta: float, accountant: str
) -> accounting.Gaussian:
  """Returns the one release: the Gaussian mechanism on `Embedding.sums`.

  Args:
    embedding: Embedding that is released.
    epsilon: Target epsilon.
    delta: Delta of the guarantee.
    accountant: Name of the accountant: "pld" or "rdp".

  Returns:
    The mechanism; `accounting.epsilon` of it is at most the target.

  Raises:
    ValueError: If an argument breaks its rule.
  """
  release: Any = accounting.calibrate_release(
      accounting.Gaussian(stddev=1.0, sensitivity=embedding.sensitivity),
      free="stddev",
      epsilon=epsilon,
      delta=delta,
      accountant=accountant,
  )
  return release


def released(
    sums: np.ndarray, release: accounting.Gaussian, key: root_key.RootKey
) -> np.ndarray:
  """Returns the sum with the mechanism's noise: call it once for a data set.

  Args:
    sums: Values of `Embedding.sums`.
    release: Mechanism of `calibrate`.
    key: Root of the noise.
  """
  rng = np.random.default_rng(key.seed("mean embedding"))
  return sums + rng.normal(scale=release.stddev, size=sums.shape)
