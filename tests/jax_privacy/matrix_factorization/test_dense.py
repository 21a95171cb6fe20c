"""Dense, banded and tree strategies."""

import jax.numpy as jnp
import numpy as np
import pytest

from jax_privacy.matrix_factorization import (
    banded,
    dense,
    sensitivity,
    tree_aggregation,
)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "n, epochs, golden", [(16, 1, 1.68940), (16, 2, 2.40774), (16, 4, 3.67061)]
)
def test_golden_dense(n, epochs, golden):
  matrix = dense.optimize(n, epochs=epochs, callback=_is_flat)
  loss = dense.mean_error(strategy_matrix=matrix)
  found = sensitivity.fixed_epoch_sensitivity(matrix, epochs)
  np.testing.assert_allclose(found, 1, rtol=1e-5)
  np.testing.assert_allclose(loss**0.5, golden, rtol=1e-4)


def _is_flat(step):
  return jnp.abs(step.grad).max() < 3e-5


@pytest.mark.slow
def test_bands_and_equal_norms_of_a_dense_strategy():
  matrix = dense.optimize(
      8, epochs=2, bands=3, equal_norm=True, max_optimizer_steps=30
  )
  np.testing.assert_allclose(np.tril(matrix, -3), 0, atol=1e-7)
  norms = np.linalg.norm(matrix, axis=0)
  np.testing.assert_allclose(norms, np.sqrt(0.5), rtol=1e-5)


def test_errors_of_dense_matrices():
  strategy = np.array([[1.0, 0.0], [0.5, 1.0]])
  found = dense.per_query_error(strategy_matrix=strategy)
  np.testing.assert_allclose(found, [1, 1.25], rtol=1e-6)
  inverse = np.linalg.inv(strategy)
  assert dense.max_error(noising_matrix=inverse) == 1.25
  # Two steps of a tree, by its pseudo-inverse: no square matrix.
  pinv = np.array([[2, -1, 1], [-1, 2, 1]]) / 3
  found = dense.per_query_error(noising_matrix=pinv)
  np.testing.assert_allclose(found, [2 / 3, 2 / 3], rtol=1e-6)


@pytest.mark.parametrize(
    "call, text",
    [
        (
            lambda: dense.optimize(9, epochs=2),
            "epochs must divide n = 9, got 2",
        ),
        (lambda: dense.per_query_error(), "noising_matrix must be given, got"),
        (
            lambda: dense.per_query_error(strategy_matrix=jnp.ones((2, 3))),
            "Matrix strategy_matrix must be square",
        ),
        (
            lambda: banded.minsep_sensitivity_squared(
                banded.ColumnNormalizedBanded.default(8, 3), 2
            ),
            "min_sep must be at least bands = 3, got 2",
        ),
        (
            lambda: banded.ColumnNormalizedBanded.from_banded_toeplitz(
                2, jnp.ones(3)
            ),
            "coefs must be 1 to 2 numbers, got 3",
        ),
    ],
)
def test_what_is_refused(call, text):
  with pytest.raises(ValueError, match=text):
    call()


def test_banded_columns_are_normal_and_the_inverse_is_one():
  params = jnp.array([[1.0, 4.0], [2.0, 5.0], [3.0, 0.0]])
  strategy = banded.ColumnNormalizedBanded(params=params)
  matrix = np.array([[1.0, 0, 0], [4, 2, 0], [0, 5, 3]])
  matrix = matrix / np.linalg.norm(matrix, axis=0)
  np.testing.assert_allclose(strategy.materialize(), matrix, rtol=1e-6)
  inverse = strategy.inverse_as_streaming_matrix().materialize(3)
  np.testing.assert_allclose(inverse, np.linalg.inv(matrix), atol=1e-5)
  errors = ((np.tri(3) @ np.linalg.inv(matrix)) ** 2).sum(axis=1)
  np.testing.assert_allclose(
      banded.mean_error(strategy), errors.mean(), rtol=1e-5
  )
  assert banded.last_error(strategy) == banded.per_query_error(strategy)[-1]
  assert banded.max_error(strategy) >= banded.last_error(strategy)


@pytest.mark.slow
def test_an_optimised_banded_strategy_is_better():
  start = banded.ColumnNormalizedBanded.default(8, 3)
  found = banded.optimize(8, bands=3, C=start, max_optimizer_steps=8)
  assert banded.mean_error(found) < banded.mean_error(start)
  assert banded.minsep_sensitivity_squared(found, 3) == 3
  exact = sensitivity.get_min_sep_sensitivity_upper_bound(
      found.materialize(), 3
  )
  np.testing.assert_allclose(exact, np.sqrt(3), rtol=1e-5)


@pytest.mark.few(2)
@pytest.mark.parametrize("n", [1, 5, 8])
def test_a_tree_sums_prefixes(n):
  strategy = np.asarray(tree_aggregation.strategy_matrix(n))
  decoder = np.asarray(tree_aggregation.decoder_matrix(n))
  noising = np.asarray(tree_aggregation.noising_matrix(n))
  np.testing.assert_array_equal(decoder @ strategy, np.tri(n))
  np.testing.assert_array_equal(noising @ strategy, np.eye(n))
  ones = [bin(i + 1).count("1") for i in range(n)]
  found = dense.per_query_error(noising_matrix=noising)
  np.testing.assert_allclose(found, ones)
  squared = sensitivity.single_participation_sensitivity(strategy) ** 2
  np.testing.assert_allclose(squared, n.bit_length(), rtol=1e-6)
