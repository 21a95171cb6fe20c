"""Lower-triangular Toeplitz matrices as the coefficients of their first column.

`toeplitz.py` has all of these under the names of jax-privacy. A product or an
inverse of two such matrices is one again: nothing here is [n, n] but
`materialize_lower_triangular`.

Invariant: coefficients beyond those given are zero, and those beyond n are left
out.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy.matrix_factorization import toeplitz_coefs
  >>> c = toeplitz_coefs.optimal_max_error_strategy_coefs(4)
  >>> print(c, toeplitz_coefs.multiply(c, c))
  [1.     0.5    0.375  0.3125] [1. 1. 1. 1.]
"""

import jax
import jax.numpy as jnp
import numpy as np

from jax_privacy.matrix_factorization import streaming_matrix


def reconcile(
    coef: jax.typing.ArrayLike, n: int | None = None
) -> tuple[jax.Array, int]:
  """Returns the coefficients of the first n rows, and n.

  Args:
    coef: Coefficients [bands].
    n: Number of rows; None for as many as coefficients.
  """
  coef = jnp.asarray(coef)
  coef = coef.astype(streaming_matrix.float_dtype(coef.dtype))
  n = coef.shape[0] if n is None else n
  return coef[:n], n


def pad_coefs_to_n(
    coef: jax.typing.ArrayLike, n: int | None = None
) -> jax.Array:
  """Returns exactly n coefficients.

  Args:
    coef: Coefficients [bands].
    n: Number of rows; None for as many as coefficients.
  """
  coef, n = reconcile(coef, n)
  return jnp.pad(coef, (0, n - coef.shape[0]))


def materialize_lower_triangular(
    coef: jax.typing.ArrayLike, n: int | None = None
) -> jax.Array:
  """Returns the matrix [n, n].

  Args:
    coef: Coefficients [bands].
    n: Number of rows; None for as many as coefficients.
  """
  coef = pad_coefs_to_n(coef, n)
  i = jnp.arange(len(coef))
  distance = i[:, None] - i[None, :]
  return jnp.where(distance >= 0, coef[distance], jnp.zeros((), coef.dtype))


def multiply(
    lhs_coef: jax.typing.ArrayLike,
    rhs_coef: jax.typing.ArrayLike,
    n: int | None = None,
    skip_checks: bool = False,
) -> jax.Array:
  """Returns the coefficients of the product.

  Args:
    lhs_coef: Coefficients of the one matrix.
    rhs_coef: Coefficients of the other.
    n: Number of rows; None for as many as coefficients, which must then be
      equally many.
    skip_checks: Whether to let different lengths pass.

  Raises:
    ValueError: If there is no n and the lengths differ.
  """
  lengths = np.shape(lhs_coef)[0], np.shape(rhs_coef)[0]
  if n is None and lengths[0] != lengths[1] and not skip_checks:
    raise ValueError(
        "lhs_coef and rhs_coef must have the same length where n is None, got"
        f" {lengths[0]} and {lengths[1]}."
    )
  lhs, n = reconcile(lhs_coef, n)
  rhs, _ = reconcile(rhs_coef, n)
  dtype = streaming_matrix.float_dtype(lhs.dtype, rhs.dtype)
  product = jnp.convolve(
      lhs.astype(dtype), rhs.astype(dtype), precision=jax.lax.Precision.HIGHEST
  )
  return product[:n]


def solve_banded(
    coef: jax.typing.ArrayLike, rhs: jax.typing.ArrayLike
) -> jax.Array:
  """Returns x with T x = rhs; it can be differentiated.

  Args:
    coef: Coefficients of T, [bands].
    rhs: Right-hand side [n, ...].
  """
  return inverse_as_streaming_matrix(coef) @ jnp.asarray(rhs)


def inverse_coef(coef: jax.typing.ArrayLike, n: int | None = None) -> jax.Array:
  """Returns the n coefficients of the inverse.

  Args:
    coef: Coefficients [bands], the first of them not zero.
    n: Number of rows; None for as many as coefficients.
  """
  coef, n = reconcile(coef, n)
  return solve_banded(coef, jnp.zeros(n, coef.dtype).at[0].set(1))


def inverse_as_streaming_matrix(
    coef: jax.typing.ArrayLike, column_normalize_for_n: int | None = None
) -> streaming_matrix.StreamingMatrix:
  """Returns C^-1, one row at a time; its state is the last bands - 1 outputs.

  Args:
    coef: Coefficients of C, [bands].
    column_normalize_for_n: Number of rows for which each column of C is scaled
      to norm 1; `coef` must have norm 1 then. None to leave C as it is, of any
      number of rows.

  Guarantee: C has as many bands as there are coefficients, and no column of
    norm above 1, or above the norm of `coef` where columns are not scaled.

  Source: Choquette-Choo et al. 2023 (2306.08153), algorithm 9.
  """
  coef, _ = reconcile(coef, column_normalize_for_n)
  bands = coef.shape[0]

  def init(value):
    dtype = streaming_matrix.float_dtype(value.dtype, coef.dtype)
    return jnp.zeros((bands - 1, *value.shape), dtype)

  def multiply_next(value, outputs):
    own = coef.astype(outputs.dtype)
    value = value.astype(outputs.dtype)
    if bands > 1:
      value = value - jnp.tensordot(
          own[1:], outputs, axes=1, precision=jax.lax.Precision.HIGHEST
      )
    value = value / own[0]
    return value, jnp.concatenate([value[None], outputs])[: bands - 1]

  inverse = streaming_matrix.StreamingMatrix.from_array_implementation(
      init, multiply_next
  )
  if column_normalize_for_n is None:
    return inverse
  # The columns of C over their norms: the rows of C^-1 times them.
  squares = pad_coefs_to_n(coef, column_normalize_for_n) ** 2
  norms = jnp.sqrt(jnp.cumsum(squares))[::-1]
  return inverse.scale_rows_and_columns(row_scale=norms)


def square_root_coefs(workload_coef: jax.typing.ArrayLike) -> jax.Array:
  """Returns the coefficients of C with C C = A, as many as are given.

  The first b of them are the strategy "banded square root" (BSR).

  Args:
    workload_coef: Coefficients of the workload A, the first positive.

  Source: Kalinin and Lampert 2024 (2405.13763).
  """
  w, n = reconcile(workload_coef)
  first = jnp.sqrt(w[0])

  def step(j, tail):  # s[1:j] are known; the rest, and s[0], are zero here.
    inner = jnp.sum(tail * jnp.roll(tail[::-1], j + 1))
    return tail.at[j].set((w[j] - inner) / (2 * first))

  tail = jax.lax.fori_loop(1, n, step, jnp.zeros(n, w.dtype))
  return tail.at[0].set(first)


def optimal_max_error_strategy_coefs(n: int) -> jax.Array:
  """Returns the square root of the prefix sums' matrix, [n].

  It is optimal for the largest error where an example takes part once.

  Args:
    n: Number of coefficients.

  Source: Fichtenberger, Henzinger and Upadhyay 2022 (2202.11205); Dvijotham et
    al. 2024 (2404.16706) for the optimality.
  """
  return _binomial_coefs(n, 0.5)


def optimal_max_error_noising_coefs(n: int) -> jax.Array:
  """Returns the inverse of `optimal_max_error_strategy_coefs`, [n].

  Args:
    n: Number of coefficients.
  """
  return _inverse_root_coefs(n)


def banded_inverse_square_root_noising_coefs(
    num_bands: int,
    workload_coef: jax.typing.ArrayLike | None = None,
    *,
    weight_decay: float = 1.0,
    momentum: float = 0.0,
) -> jax.Array:
  """Returns the noising coefficients of BISR, [num_bands].

  They are the first of the inverse of the workload's square root.

  Args:
    num_bands: Number of noising coefficients.
    workload_coef: Coefficients of the workload; None for SGD with the
      two factors below, by default prefix sums.
    weight_decay: Factor by which a step keeps the parameters.
    momentum: Factor by which a step keeps the momentum.

  Source: Kalinin, McKenna, Upadhyay and Lampert 2025 (2505.12128).
  """
  if workload_coef is not None:
    root = square_root_coefs(pad_coefs_to_n(workload_coef, num_bands))
    return inverse_coef(root, num_bands)
  root = _inverse_root_coefs(num_bands)
  k = jnp.arange(num_bands, dtype=float)
  return multiply(root * weight_decay**k, root * momentum**k, num_bands)


def lambda_cgd_noising_coefs(correlation: float) -> jax.Array:
  """Returns (1, -correlation): noise of which the next step takes a part back.

  Its strategy has the coefficients correlation**k.

  Args:
    correlation: Factor of the last step's noise, in [0, 1).

  Raises:
    ValueError: If it is out of range.

  Source: DP-lambda-CGD 2026 (2601.22334).
  """
  if not 0 <= correlation < 1:
    raise ValueError(f"correlation must be in [0, 1), got {correlation}.")
  return jnp.array([1.0, -correlation])


def sgd_workload_coef(
    n: int, *, weight_decay: float = 1.0, momentum: float = 0.0
) -> jax.Array:
  """Returns the workload of SGD: the iterates as sums of gradients, [n].

  Args:
    n: Number of steps.
    weight_decay: Factor by which a step keeps the parameters.
    momentum: Factor by which a step keeps the momentum.
  """
  k = jnp.arange(n, dtype=float)
  return multiply(weight_decay**k, momentum**k, n)


def _inverse_root_coefs(n: int) -> jax.Array:
  """Of sqrt(1 - x): 1, -1/2, -1/8, ..."""
  return _binomial_coefs(n, 1.5)


def _binomial_coefs(n: int, shift: float) -> jax.Array:
  """Of (1 - x)^(shift - 1): each is (k - shift) / k times the one before."""
  k = jnp.maximum(jnp.arange(n, dtype=float), 1.0)
  return jnp.cumprod(((k - shift) / k).at[:1].set(1.0))
