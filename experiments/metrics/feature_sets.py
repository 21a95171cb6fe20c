"""Distances between two sets of vectors, such as features of images.

Invariant: a set of vectors compared with others from the same law is near 0: a
kernel distance on average exactly, whatever the numbers of vectors; a Frechet
distance only as both grow, so compare those of equal numbers alone.

>>> rng = np.random.default_rng(0)
>>> a, b = rng.normal(size=(2, 500, 3))
>>> round(frechet_distance(a, b + 2.0))  # 3 coordinates, each 2 away.
12
>>> kernel_distance(a, b + 2.0).value > 1
True
"""

from typing import NamedTuple

import numpy as np

from experiments.metrics import estimate as estimate_lib

_ROWS = 256  # Of a block of distances, to bound memory.


def _checked(*sets: np.ndarray, least: int) -> list[np.ndarray]:
  """Returns float64 [n, d] arrays, or refuses them."""
  found = [np.asarray(x, np.float64) for x in sets]
  for x in found:
    if x.ndim != 2 or x.shape[1] != found[0].shape[1] or len(x) < least:
      shapes = " and ".join(str(x.shape) for x in found)
      raise ValueError(
          f"sets must be [n, d] of one d, of {least} rows or more, got"
          f" {shapes}."
      )
    if not np.isfinite(x).all():
      raise ValueError("sets must be finite, got others.")
  return found


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
  """Returns the Frechet distance of the Gaussians of their moments.

  |m - m'|^2 + tr(S + S' - 2 (S S')^(1/2)), with unbiased covariances. It is
  called FID where the vectors are Inception's features of images. It is biased
  upwards, the more so the fewer vectors there are.

  With S = A^T A and S' = B^T B, tr (S S')^(1/2) is the sum of the singular
  values of A B^T, which needs no root of a matrix that may be singular.

  Args:
    first: Vectors [n, d], n at least 2.
    second: Vectors [m, d], m at least 2.

  Raises:
    ValueError: If they are not that.

  Source: Heusel et al. 2017 (arXiv 1706.08500).
  """
  first, second = _checked(first, second, least=2)
  gap = np.sum((first.mean(axis=0) - second.mean(axis=0)) ** 2)
  roots = [
      np.linalg.qr(x - x.mean(axis=0), mode="r") / np.sqrt(len(x) - 1)
      for x in (first, second)
  ]
  spread = sum(np.sum(root**2) for root in roots)
  shared = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
  return float(max(gap + spread - 2.0 * shared, 0.0))


def kernel_distance(
    first: np.ndarray, second: np.ndarray, *, block_size: int | None = None
) -> estimate_lib.Estimate:
  """Returns the squared maximum mean discrepancy, unbiased; may be below 0.

  Of the kernel (x . y / d + 1)^3, averaged over blocks that share no vector,
  whose spread is the standard error.

  Args:
    first: Vectors [n, d], n at least 2.
    second: Vectors [m, d], m at least 2.
    block_size: Number of vectors of each set in a block, at least 2; by default
      a tenth of the smaller set, at least 2 and at most 1000.

  Raises:
    ValueError: If they are not that.

  Source: Binkowski et al. 2018 (arXiv 1801.01401).
  """
  first, second = _checked(first, second, least=2)
  most = min(len(first), len(second))
  size = min(max(most // 10, 2), 1000) if block_size is None else block_size
  if not 2 <= size <= most:
    raise ValueError(f"block_size must be in [2, {most}], got {size}.")
  # Neighbours in a set may be of one class: a block is spread over it.
  count = most // size
  values = [
      _discrepancy(first[i::count][:size], second[i::count][:size])
      for i in range(count)
  ]
  # The mean's influence has n in place of n - 1.
  found = estimate_lib.mean(np.array(values))
  if count == 1:
    return found._replace(influence=np.full(1, np.nan))
  scale = np.sqrt(count / (count - 1))
  return found._replace(influence=found.influence * scale)


def _discrepancy(first: np.ndarray, second: np.ndarray) -> float:
  def kernel(x, y):
    return (x @ y.T / x.shape[1] + 1.0) ** 3

  def within(x):
    gram = kernel(x, x)
    return (gram.sum() - np.trace(gram)) / (len(x) * (len(x) - 1))

  return within(first) + within(second) - 2.0 * kernel(first, second).mean()


class PrecisionRecall(NamedTuple):
  """Shares of vectors that are near the other set.

  Attributes:
    precision: Share of the drawn vectors that are near a real one.
    recall: Share of the real vectors that are near a drawn one.
  """

  precision: estimate_lib.Estimate
  recall: estimate_lib.Estimate


def precision_recall(
    real: np.ndarray, drawn: np.ndarray, *, num_neighbours: int = 3
) -> PrecisionRecall:
  """Returns precision and recall of drawn vectors.

  A vector is near a set if it is within the distance of one of its vectors to
  that one's k-th nearest in the set.

  Args:
    real: Vectors [n, d], more than k.
    drawn: Vectors [m, d], more than k.
    num_neighbours: Number of neighbours, k.

  Raises:
    ValueError: If they are not that.

  Source: Kynkaanniemi et al. 2019 (arXiv 1904.06991).
  """
  real, drawn = _checked(real, drawn, least=num_neighbours + 1)
  return PrecisionRecall(
      _share_near(drawn, real, num_neighbours),
      _share_near(real, drawn, num_neighbours),
  )


def _share_near(vectors, those, k) -> estimate_lib.Estimate:
  # The nearest of its own set is the vector itself.
  radii = np.concatenate(
      [np.partition(block, k, axis=1)[:, k] for block in _blocks(those, those)]
  )
  near = [(block <= radii).any(axis=1) for block in _blocks(vectors, those)]
  return estimate_lib.mean(np.concatenate(near), is_share=True)


def nearest_distances(vectors: np.ndarray, those: np.ndarray) -> np.ndarray:
  """Returns the distance of each vector to the nearest of others, [n].

  Args:
    vectors: Vectors [n, d].
    those: Vectors [m, d].

  Raises:
    ValueError: If they are not that.
  """
  vectors, those = _checked(vectors, those, least=1)
  blocks = _blocks(vectors, those)
  return np.sqrt(np.concatenate([block.min(axis=1) for block in blocks]))


def _blocks(vectors, those):
  """Yields squared distances, some rows at a time; a row's own one is 0."""
  squares = np.sum(those**2, axis=1)
  for start in range(0, len(vectors), _ROWS):
    x = vectors[start : start + _ROWS]
    found = np.sum(x**2, axis=1)[:, None] + squares - 2.0 * (x @ those.T)
    yield np.maximum(found, 0.0)
