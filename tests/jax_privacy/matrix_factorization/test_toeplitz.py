"""Toeplitz strategies: published losses, inverses and optimisers.

Losses are roots, as papers print them. The numbers were computed with NumPy, by
solving for A C^-1; those of 64 steps agree with jax-privacy's.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_privacy.matrix_factorization import (
    streaming_matrix,
    toeplitz,
    toeplitz_coefs,
)
from tests.support import patterns

_MAX = {2: 1.25, 4: 1.488281, 16: 1.943879, 64: 2.388848, 1024: 3.272554}
_MEAN = {2: 1.185854, 4: 1.381417, 16: 1.796814, 64: 2.229676, 1024: 3.109790}


def _loss(strategy, n, k, error):
  """Root of the loss of k participations n / k steps apart."""
  errors = toeplitz.per_query_error(strategy_coef=strategy, n=n)
  squared = toeplitz.minsep_sensitivity_squared(strategy, n // k, k, n)
  return float(
      jnp.sqrt({"mean": errors.mean(), "max": errors[-1]}[error] * squared)
  )


@pytest.mark.few(2)
@pytest.mark.parametrize("n", _MAX)
def test_golden_square_root(n):
  c = toeplitz.optimal_max_error_strategy_coefs(n)
  np.testing.assert_allclose(toeplitz.max_loss(c) ** 0.5, _MAX[n], rtol=1e-5)
  np.testing.assert_allclose(toeplitz.mean_loss(c) ** 0.5, _MEAN[n], rtol=1e-5)
  identity = jnp.ones(1)
  np.testing.assert_allclose(toeplitz.max_loss(identity, n), n, rtol=1e-5)
  np.testing.assert_allclose(
      toeplitz.mean_loss(identity, n), (n + 1) / 2, rtol=1e-5
  )


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "k, error, bsr, bisr, p4",
    [
        (1, "mean", 2.22968, 2.22968, 2.63135),
        (1, "max", 2.38885, 2.38885, 3.45266),
        (4, "mean", 4.72141, 5.26001, 5.31000),
        (16, "mean", 13.40453, 13.99868, 13.99868),
    ],
)
def test_golden_banded_and_banded_inverse(k, error, bsr, bisr, p4):
  n = 64
  root = toeplitz.optimal_max_error_strategy_coefs(n // k)
  np.testing.assert_allclose(_loss(root, n, k, error), bsr, rtol=1e-5)
  for bands, golden in ((n // k, bisr), (4, p4)):
    noising = toeplitz.banded_inverse_square_root_noising_coefs(bands)
    strategy = toeplitz.inverse_coef(noising, n)
    np.testing.assert_allclose(_loss(strategy, n, k, error), golden, rtol=1e-5)


@pytest.mark.parametrize(
    "k, error, correlation, golden",
    [(1, "mean", 0.837, 2.47684), (1, "max", 0.8817, 2.9074),
     (4, "mean", 0.8075, 5.11434)],
)  # fmt: skip
def test_golden_lambda_cgd(k, error, correlation, golden):
  noising = toeplitz.lambda_cgd_noising_coefs(correlation)
  strategy = toeplitz.inverse_coef(noising, 64)
  np.testing.assert_allclose(
      strategy, correlation ** np.arange(64.0), rtol=1e-4
  )
  np.testing.assert_allclose(_loss(strategy, 64, k, error), golden, rtol=1e-5)


@pytest.mark.slow
def test_optimised_bands_reach_the_golden_loss():
  c = toeplitz.optimize_banded_toeplitz(64, 16, max_optimizer_steps=60)
  np.testing.assert_allclose(jnp.linalg.norm(c), 1, rtol=1e-6)
  assert _loss(c, 64, 1, "mean") <= 2.35005 * 1.001
  assert _loss(c, 64, 4, "mean") <= 4.70011 * 1.001
  # Better than the first bands of the square root.
  root = toeplitz.optimal_max_error_strategy_coefs(16)
  assert _loss(c, 64, 4, "mean") < _loss(root, 64, 4, "mean")


@pytest.mark.slow
def test_optimised_inverse_bands_reach_the_golden_loss():
  q = toeplitz.optimize_banded_inverse_toeplitz(
      64, 64, 4, max_optimizer_steps=40
  )
  golden = [1, -0.46658, -0.24091, -0.13223]
  np.testing.assert_allclose(q, golden, atol=2e-3)
  assert _loss(toeplitz.inverse_coef(q, 64), 64, 1, "mean") <= 2.2712 * 1.001


@pytest.mark.parametrize("coefs", [[2.0], [1.0, -0.5, 0.2], [0.8, 0.6, 0.3]])
def test_a_strategy_times_its_inverse_is_one(coefs):
  n = 7
  matrix = patterns.toeplitz(coefs, n)
  inverse = np.linalg.inv(matrix)
  streamed = toeplitz.inverse_as_streaming_matrix(coefs).materialize(n)
  np.testing.assert_allclose(streamed, inverse, atol=1e-5)
  found = toeplitz.inverse_coef(coefs, n)
  np.testing.assert_allclose(found, inverse[:, 0], atol=1e-5)
  np.testing.assert_allclose(
      toeplitz.materialize_lower_triangular(coefs, n), matrix, atol=1e-6
  )
  product = toeplitz.multiply(found, coefs, n)
  np.testing.assert_allclose(product, np.eye(n)[0], atol=1e-5)


def test_columns_are_normalised_for_n():
  c = np.array([0.8, 0.5, 0.3])
  c = c / np.linalg.norm(c)
  inverse = toeplitz.inverse_as_streaming_matrix(c, column_normalize_for_n=6)
  matrix = np.linalg.inv(inverse.materialize(6))
  np.testing.assert_allclose(np.linalg.norm(matrix, axis=0), 1, rtol=1e-5)
  np.testing.assert_allclose(np.triu(matrix, 1), 0, atol=1e-6)
  np.testing.assert_allclose(np.tril(matrix, -3), 0, atol=1e-6)


def test_errors_of_a_workload_with_momentum():
  n, c = 6, [1.0, 0.4, 0.1]
  w = np.asarray(toeplitz.sgd_workload_coef(n, weight_decay=0.9, momentum=0.5))
  rates = np.power.outer([0.9, 0.5], np.arange(n))
  np.testing.assert_allclose(w, np.convolve(*rates)[:n], rtol=1e-5)
  decoder = patterns.toeplitz(w, n) @ np.linalg.inv(patterns.toeplitz(c, n))
  truth = (decoder**2).sum(axis=1)
  for given in (
      {"strategy_coef": c},
      {"noising_coef": toeplitz.inverse_coef(c, n)},
  ):
    found = toeplitz.per_query_error(**given, n=n, workload_coef=w)
    np.testing.assert_allclose(found, truth, rtol=1e-5)
  root = toeplitz.square_root_coefs(w)
  np.testing.assert_allclose(toeplitz.multiply(root, root), w, rtol=1e-5)
  by_factors, by_workload = (
      toeplitz.banded_inverse_square_root_noising_coefs(4, **options)
      for options in (
          {"weight_decay": 0.9, "momentum": 0.5},
          {"workload_coef": w},
      )
  )
  np.testing.assert_allclose(by_factors, by_workload, atol=1e-5)


def test_the_inverse_of_bands_has_an_upper_bound():
  # The strategy rises: (1, 0.5, 1.25, ...); its own patterns are the truth.
  noising = [1.0, -0.5, -1.0]
  matrix = np.linalg.inv(patterns.toeplitz(noising, 6))
  truth = patterns.furthest(matrix, patterns.moves(6, min_sep=2, signs=True))
  squared = [
      toeplitz.compute_banded_inverse_sensitivity_squared(
          6, noising, 2, use_matrix_upper_bound=by_matrix
      )
      for by_matrix in (False, True)
  ]
  # All entries are positive here, so the matrix's bound misses little.
  assert squared[0] >= squared[1] >= truth**2 * (1 - 1e-5)
  root = toeplitz.compute_banded_inverse_sensitivity(6, noising, 2)
  np.testing.assert_allclose(root**2, squared[0], rtol=1e-6)


def test_streaming_matrices():
  matrix = streaming_matrix.momentum_sgd_matrix(0.5, jnp.array([1.0, 2.0]))
  rates = np.array([1.0, 2.0, 2.0])
  buffers = patterns.toeplitz([1.0, 0.5, 0.25], 3)
  truth = np.tril(np.ones((3, 3))) @ np.diag(rates) @ buffers
  np.testing.assert_allclose(matrix.materialize(3), truth, rtol=1e-6)
  np.testing.assert_allclose(
      matrix.row_norms_squared(3), (truth**2).sum(1), rtol=1e-6
  )
  scaled = matrix.scale_rows_and_columns(jnp.array([3.0]), jnp.arange(1, 4))
  np.testing.assert_allclose(
      scaled.materialize(3), 3 * truth * np.array([1, 2, 3]), rtol=1e-6
  )
  both = streaming_matrix.prefix_sum() @ streaming_matrix.identity() * 2.0
  found = both @ jnp.arange(1, 4)  # Whole numbers are multiplied as floats.
  np.testing.assert_array_equal(found, [2.0, 6.0, 12.0])
  tree = {"a": jax.ShapeDtypeStruct((2,), "float32"), "b": jnp.zeros(())}
  state = matrix.init_multiply(tree)
  row = jax.tree.map(lambda x: jnp.ones(x.shape), tree)
  out, _ = matrix.multiply_next(row, state)
  assert jax.tree.structure(out) == jax.tree.structure(tree)
  with pytest.raises(ValueError, match="learning_rates must be positive, got"):
    streaming_matrix.momentum_sgd_matrix(0.5, jnp.zeros(2))


@pytest.mark.parametrize(
    "call, text",
    [
        (
            lambda: toeplitz.per_query_error(n=3),
            "one of strategy_coef and noising_coef must be given, got neither",
        ),
        (
            lambda: toeplitz.optimize_banded_toeplitz(4, 2, jnp.ones(3)),
            "strategy_coef must have 2 bands, got 3",
        ),
        (
            lambda: toeplitz_coefs.lambda_cgd_noising_coefs(float("nan")),
            r"correlation must be in \[0, 1\), got nan",
        ),
    ],
)
def test_what_is_refused(call, text):
  with pytest.raises(ValueError, match=text):
    call()
