"""Banded strategies with columns of norm 1, of n x bands free numbers.

Column j of C has its numbers at rows j, ..., j + bands - 1. Banded Toeplitz
strategies (`toeplitz.py`) are within a few percent and much quicker to find.

Invariant: every column has norm 1. Participations that are at least `bands`
steps apart are orthogonal, so k of them have sensitivity sqrt(k).

Example:
  >>> from jax_privacy.matrix_factorization import banded
  >>> C = banded.ColumnNormalizedBanded.default(8, bands=2)
  >>> print(C.materialize().shape, banded.minsep_sensitivity_squared(C, 2))
  (8, 8) 4
"""

import functools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from jax_privacy.matrix_factorization import (
    optimization,
    sensitivity,
    streaming_matrix,
    toeplitz_coefs,
)


@chex.dataclass
class ColumnNormalizedBanded:
  """A banded lower-triangular matrix, each column over its norm.

  Attributes:
    params: Numbers before normalisation, [n, bands]: row j has those of column
      j from the diagonal down. What would lie below row n must be zero.
  """

  params: jax.Array

  @property
  def n(self) -> int:
    """Number of rows."""
    return self.params.shape[0]

  @property
  def bands(self) -> int:
    """Number of bands, the diagonal included."""
    return self.params.shape[1]

  @classmethod
  def from_banded_toeplitz(
      cls, n: int, coefs: jax.Array
  ) -> "ColumnNormalizedBanded":
    """Returns a banded Toeplitz matrix, each column over its norm.

    Args:
      n: Number of rows.
      coefs: Coefficients, at most n.

    Raises:
      ValueError: If there are none, or more than n.
    """
    coefs = jnp.asarray(coefs).reshape(-1)
    coefs = coefs.astype(streaming_matrix.float_dtype(coefs.dtype))
    if not 1 <= coefs.size <= n:
      raise ValueError(f"coefs must be 1 to {n} numbers, got {coefs.size}.")
    coefs = coefs / jnp.linalg.norm(coefs)
    rows = jnp.arange(n)[:, None] + jnp.arange(coefs.size)[None, :]
    return cls(params=jnp.where(rows < n, coefs[None, :], 0.0))

  @classmethod
  def default(cls, n: int, bands: int) -> "ColumnNormalizedBanded":
    """Returns the first bands of the square root, normalised.

    Args:
      n: Number of rows.
      bands: Number of bands.
    """
    coefs = toeplitz_coefs.optimal_max_error_strategy_coefs(bands)
    return cls.from_banded_toeplitz(n, coefs)

  def materialize(self) -> jax.Array:
    """Returns the matrix [n, n]."""
    i, j = jnp.arange(self.n)[:, None], jnp.arange(self.n)[None, :]
    band = i - j
    inside = (band >= 0) & (band < self.bands)
    values = self.params[j, jnp.clip(band, 0, self.bands - 1)]
    matrix = jnp.where(inside, values, jnp.zeros_like(values))
    return matrix / jnp.linalg.norm(matrix, axis=0)[None, :]

  def inverse_as_streaming_matrix(self) -> streaming_matrix.StreamingMatrix:
    """Returns C^-1, one row at a time; its state is bands - 1 rows.

    Source: Choquette-Choo et al. 2023 (2306.08153), algorithm 9.
    """
    params = self.params

    def init(value):
      dtype = streaming_matrix.float_dtype(value.dtype, params.dtype)
      return jnp.array(0), jnp.zeros((self.bands - 1, *value.shape), dtype)

    def multiply_next(value, state):
      i, outputs = state
      value = value.astype(outputs.dtype)
      band = jnp.arange(self.bands)
      row = params.at[jnp.maximum(i - band, 0), band].get(mode="clip")
      row = row.astype(outputs.dtype)
      if self.bands > 1:
        value = value - jnp.tensordot(
            row[1:], outputs, axes=1, precision=jax.lax.Precision.HIGHEST
        )
      value = value / row[0]
      outputs = jnp.concatenate([value[None], outputs])[: self.bands - 1]
      norm = jnp.linalg.norm(params.at[i].get(mode="clip"))
      return value * norm.astype(value.dtype), (i + 1, outputs)

    return streaming_matrix.StreamingMatrix.from_array_implementation(
        init, multiply_next
    )


def minsep_sensitivity_squared(
    strategy: ColumnNormalizedBanded,
    min_sep: int,
    max_participations: int | None = None,
    n: int | None = None,
    skip_checks: bool = False,
) -> int:
  """Returns the squared sensitivity, the number of participations: exact.

  Args:
    strategy: Strategy.
    min_sep: Least distance of two participations, at least the number of bands.
    max_participations: Most participations; None for as many as fit.
    n: Number of steps, at most the n of the strategy; None for all.
    skip_checks: Ignored; the checks need no concrete values.

  Raises:
    ValueError: If min_sep is below the number of bands, or n too large.
  """
  del skip_checks
  n = strategy.n if n is None else n
  if min_sep < strategy.bands:
    raise ValueError(
        f"min_sep must be at least bands = {strategy.bands}, got {min_sep} (use"
        " sensitivity.get_min_sep_sensitivity_upper_bound)."
    )
  if n > strategy.n:
    raise ValueError(f"n must be at most {strategy.n}, got {n}.")
  return sensitivity.minsep_true_max_participations(
      n, min_sep, max_participations
  )


@functools.partial(jax.jit, static_argnums=(1, 2))
def per_query_error(
    C: ColumnNormalizedBanded,  # noqa: N803
    A: streaming_matrix.StreamingMatrix | None = None,  # noqa: N803
    scan_fn: Any = jax.lax.scan,
) -> jax.Array:
  """Returns the squared error of each query, [n], for noise of variance 1.

  Args:
    C: Strategy.
    A: Workload; None for prefix sums.
    scan_fn: Function called as `jax.lax.scan`; see
      `StreamingMatrix.row_norms_squared`.
  """
  A = streaming_matrix.prefix_sum() if A is None else A  # noqa: N806
  decoder = A @ C.inverse_as_streaming_matrix()
  return decoder.row_norms_squared(C.n, scan_fn=scan_fn)


def mean_error(*args: Any, **kwargs: Any) -> jax.Array:
  """Returns the mean of `per_query_error`.

  Args:
    *args: Arguments of `per_query_error`.
    **kwargs: Arguments of `per_query_error`, by name.
  """
  return per_query_error(*args, **kwargs).mean()


def last_error(*args: Any, **kwargs: Any) -> jax.Array:
  """Returns the last of `per_query_error`.

  Args:
    *args: Arguments of `per_query_error`.
    **kwargs: Arguments of `per_query_error`, by name.
  """
  return per_query_error(*args, **kwargs)[-1]


def max_error(*args: Any, **kwargs: Any) -> jax.Array:
  """Returns the largest of `per_query_error`.

  Args:
    *args: Arguments of `per_query_error`.
    **kwargs: Arguments of `per_query_error`, by name.
  """
  return per_query_error(*args, **kwargs).max()


def optimize(
    n: int,
    *,
    bands: int,
    C: ColumnNormalizedBanded | None = None,  # noqa: N803
    A: streaming_matrix.StreamingMatrix | None = None,  # noqa: N803
    max_optimizer_steps: int = 100,
    reduction_fn: Callable[[jax.Array], jax.Array] = jnp.mean,
    scan_fn: Any = jax.lax.scan,
    callback: optimization.CallbackFnType = lambda _: None,
) -> ColumnNormalizedBanded:
  """Returns the best banded strategy, as nearly as steps allow.

  Args:
    n: Number of steps.
    bands: Number of bands.
    C: Strategy to begin at; None for `default`.
    A: Workload; None for prefix sums.
    max_optimizer_steps: Largest number of steps of L-BFGS.
    reduction_fn: Function of the queries' errors, [n] to a scalar.
    scan_fn: Function called as `jax.lax.scan`.
    callback: Function called after each step; see `optimization.optimize`.

  Source: McKenna 2024 (2405.15913).
  """
  start = ColumnNormalizedBanded.default(n, bands) if C is None else C
  return optimization.optimize(
      lambda params: reduction_fn(per_query_error(params, A, scan_fn)),
      start,
      max_optimizer_steps=max_optimizer_steps,
      callback=callback,
  )
