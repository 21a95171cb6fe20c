"""Distances of sets: closed forms, and what must raise them."""

import math

import numpy as np
import pytest

from experiments.metrics import feature_sets

_RNG = np.random.default_rng(0)


def _with_moments(mean, covariance, num):
  """Vectors of exactly these sample moments."""
  x = _RNG.normal(size=(num, len(mean)))
  x -= x.mean(axis=0)
  root = np.linalg.cholesky(np.cov(x, rowvar=False))
  return x @ np.linalg.inv(root).T @ np.linalg.cholesky(covariance).T + mean


def test_frechet_distance_of_gaussians_is_its_closed_form():
  """Of S = diag(a), S' = diag(b): |m - m'|^2 + sum (sqrt a - sqrt b)^2."""
  a, b = np.array([1.0, 4.0, 0.25]), np.array([9.0, 1.0, 0.25])
  mean = np.array([1.0, -2.0, 0.5])
  turn = np.linalg.qr(_RNG.normal(size=(3, 3)))[0]
  first = _with_moments(np.zeros(3), turn @ np.diag(a) @ turn.T, 50)
  second = _with_moments(mean, turn @ np.diag(b) @ turn.T, 80)
  want = np.sum(mean**2) + np.sum((np.sqrt(a) - np.sqrt(b)) ** 2)
  found = feature_sets.frechet_distance(first, second)
  assert math.isclose(found, want, rel_tol=1e-9)
  again = feature_sets.frechet_distance(second, first)
  assert math.isclose(again, want, rel_tol=1e-9)


def test_frechet_distance_of_matrices_that_do_not_commute():
  """tr (S S')^(1/2) is the sum of roots of the eigenvalues of S S'."""
  one, two = (x @ x.T for x in _RNG.normal(size=(2, 4, 4)))
  zero = np.zeros(4)
  found = feature_sets.frechet_distance(
      _with_moments(zero, one, 30), _with_moments(zero, two, 30)
  )
  roots = np.sqrt(np.linalg.eigvals(one @ two).real)
  want = np.trace(one) + np.trace(two) - 2 * roots.sum()
  assert math.isclose(found, want, rel_tol=1e-6)


def test_frechet_distance_of_fewer_vectors_than_coordinates():
  x = _RNG.normal(size=(5, 40))
  # Rounding of numbers of about 40, under a root: none here, for a sum.
  assert feature_sets.frechet_distance(x, x) < 1e-10
  shifted = feature_sets.frechet_distance(x, x + 1.0)
  assert math.isclose(shifted, 40.0, rel_tol=1e-9)


def test_kernel_distance_is_the_double_sum():
  first, second = _RNG.normal(size=(2, 4, 3))

  def mean(x, y, *, but_same):
    values = [
        (p @ q / 3 + 1) ** 3
        for i, p in enumerate(x)
        for j, q in enumerate(y)
        if not (but_same and i == j)
    ]
    return np.mean(values)

  want = mean(first, first, but_same=True) + mean(second, second, but_same=True)
  want -= 2 * mean(first, second, but_same=False)
  found = feature_sets.kernel_distance(first, second, block_size=4)
  assert math.isclose(found.value, want, rel_tol=1e-9)
  assert math.isnan(found.standard_error)  # Of one block.


def test_kernel_distance_is_unbiased_and_says_its_error():
  """Of one law it is 0 on average, however few vectors there are."""
  found = feature_sets.kernel_distance(
      *_RNG.normal(size=(2, 2000, 2)), block_size=4
  )
  assert abs(found.value) < 5 * found.standard_error
  blocks = [
      feature_sets.kernel_distance(x, y, block_size=4).value
      for x, y in _RNG.normal(size=(200, 2, 4, 2))
  ]
  # 500 blocks, of which 200 others have the deviation: the fourth moment of
  # such a value is large, and 30% are 4 relative standard errors or more.
  want = np.std(blocks) / math.sqrt(500)
  assert 0.7 < found.standard_error / want < 1.4


def test_what_is_worse_is_further_away():
  real, other = _RNG.normal(size=(2, 400, 6))
  drawn = {
      "real": other,
      "noise": other + 0.7 * _RNG.normal(size=other.shape),
      "more noise": other + 1.5 * _RNG.normal(size=other.shape),
  }
  frechet = [feature_sets.frechet_distance(real, x) for x in drawn.values()]
  kernel = [feature_sets.kernel_distance(real, x).value for x in drawn.values()]
  assert frechet == sorted(frechet) and kernel == sorted(kernel)
  # Of n vectors and d coordinates the bias is about d (d + 5) / (2 n) or less.
  assert frechet[0] < 6 * 11 / 400 and abs(kernel[0]) < 0.1 < kernel[1]
  blurred = feature_sets.kernel_distance(real, 0.3 * other)
  assert blurred.value > 5 * blurred.standard_error


def test_precision_and_recall():
  real = np.array([[0.0], [1.0], [2.0], [10.0]])
  # Radii of the real ones, k = 1: 1, 1, 1, 8; of the drawn: 0.5, 0.5, 18.
  drawn = np.array([[0.5], [1.0], [19.0]])
  found = feature_sets.precision_recall(real, drawn, num_neighbours=1)
  assert math.isclose(found.precision.value, 2 / 3)  # 19 is 9 from 10.
  assert found.recall.value == 1.0  # 2 and 10 are within 18 of 19.
  same = feature_sets.precision_recall(real, real, num_neighbours=1)
  assert same == same and same.precision.value == same.recall.value == 1.0
  one = np.full((5, 1), 0.5)  # All that is drawn is one point.
  found = feature_sets.precision_recall(real, one, num_neighbours=1)
  assert found.precision.value == 1.0 and found.recall.value == 0.0


def test_nearest_distances():
  vectors = _RNG.normal(size=(300, 3))
  those = _RNG.normal(size=(7, 3))
  found = feature_sets.nearest_distances(vectors, those)
  want = [np.linalg.norm(those - x, axis=1).min() for x in vectors]
  np.testing.assert_allclose(found, want, rtol=1e-7)


@pytest.mark.parametrize(
    "first, second",
    [
        (np.zeros((3, 2)), np.zeros((3, 1))),
        (np.zeros((1, 2)), np.zeros((3, 2))),
        (np.zeros(3), np.zeros(3)),
        (np.full((3, 2), np.nan), np.zeros((3, 2))),
    ],
)
def test_other_sets_are_refused(first, second):
  for fn in (feature_sets.frechet_distance, feature_sets.kernel_distance):
    with pytest.raises(ValueError, match="sets must be"):
      fn(first, second)
