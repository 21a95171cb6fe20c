"""Toeplitz strategies: coefficients, sensitivities, losses and optimisers.

A loss is an error times a squared sensitivity: the squared error of a query, in
units of the noise that one clip norm needs. Papers print its root.

Invariant: sensitivities are exact where the docstring says so, and upper bounds
elsewhere.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy.matrix_factorization import toeplitz
  >>> c = toeplitz.optimal_max_error_strategy_coefs(16)
  >>> mean = toeplitz.mean_loss(strategy_coef=c)
  >>> sgd = toeplitz.mean_loss(strategy_coef=jnp.ones(1), n=16)
  >>> print(f"{mean ** 0.5:.3f} {sgd ** 0.5:.3f}")
  1.797 2.915
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jax_privacy.matrix_factorization import (
    optimization,
    sensitivity,
    toeplitz_coefs,
)
from jax_privacy.matrix_factorization.toeplitz_coefs import (
    inverse_as_streaming_matrix as inverse_as_streaming_matrix,
)
from jax_privacy.matrix_factorization.toeplitz_coefs import (
    inverse_coef as inverse_coef,
)
from jax_privacy.matrix_factorization.toeplitz_coefs import (
    lambda_cgd_noising_coefs as lambda_cgd_noising_coefs,
)
from jax_privacy.matrix_factorization.toeplitz_coefs import (
    materialize_lower_triangular as materialize_lower_triangular,
)
from jax_privacy.matrix_factorization.toeplitz_coefs import multiply as multiply
from jax_privacy.matrix_factorization.toeplitz_coefs import (
    optimal_max_error_noising_coefs as optimal_max_error_noising_coefs,
)
from jax_privacy.matrix_factorization.toeplitz_coefs import (
    optimal_max_error_strategy_coefs as optimal_max_error_strategy_coefs,
)
from jax_privacy.matrix_factorization.toeplitz_coefs import (
    pad_coefs_to_n as pad_coefs_to_n,
)
from jax_privacy.matrix_factorization.toeplitz_coefs import (
    reconcile as _reconcile,
)
from jax_privacy.matrix_factorization.toeplitz_coefs import (
    sgd_workload_coef as sgd_workload_coef,
)
from jax_privacy.matrix_factorization.toeplitz_coefs import (
    solve_banded as solve_banded,
)
from jax_privacy.matrix_factorization.toeplitz_coefs import (
    square_root_coefs as square_root_coefs,
)

# A name too long for `X as X` on a line.
banded_inverse_square_root_noising_coefs = (
    toeplitz_coefs.banded_inverse_square_root_noising_coefs
)
ReductionFn = Callable[[jax.Array], jax.Array]


def sensitivity_squared(
    coef: jax.typing.ArrayLike, n: int | None = None
) -> jax.Array:
  """Returns the squared sensitivity to one participation: exact.

  Args:
    coef: Coefficients of the strategy.
    n: Number of steps; None for as many as coefficients.
  """
  coef, _ = _reconcile(coef, n)
  return jnp.sum(coef * coef)


def minsep_sensitivity_squared(
    strategy_coef: jax.typing.ArrayLike,
    min_sep: int,
    max_participations: int | None = None,
    n: int | None = None,
    skip_checks: bool = False,
) -> jax.Array:
  """Returns the squared sensitivity to participations min_sep steps apart.

  Exact for coefficients that are not negative and do not increase: the worst
  pattern is then 0, min_sep, 2 min_sep, ... For others, an upper bound: each
  coefficient is replaced by the largest absolute value from it on.

  Args:
    strategy_coef: Coefficients of the strategy.
    min_sep: Least distance of two participations; 1 allows every step.
    max_participations: Most participations; None for as many as fit.
    n: Number of steps; None for as many as coefficients.
    skip_checks: Ignored; nothing here needs concrete values.

  Raises:
    ValueError: If `min_sep` is not positive.

  Source: Kalinin and Lampert 2024 (2405.13763), theorem 2.
  """
  del skip_checks
  if not min_sep > 0:
    raise ValueError(f"min_sep must be positive, got {min_sep}.")
  coef, n = _reconcile(strategy_coef, n)
  coef = jax.lax.cummax(jnp.abs(coef), reverse=True)
  k = sensitivity.minsep_true_max_participations(n, min_sep, max_participations)
  # Rows of one length: participation j adds the rows from the j-th on.
  rows = jnp.pad(coef, (0, -(-n // min_sep) * min_sep - len(coef)))
  rows = rows.reshape(-1, min_sep)
  # Sums, and no differences of sums: these could fall below the true value.
  total = jax.lax.reduce_window(
      rows, 0.0, jax.lax.add, (k, 1), (1, 1), ((k - 1, 0), (0, 0))
  )
  total = total.reshape(-1)[:n]
  return jnp.sum(total * total)


def compute_banded_inverse_sensitivity_squared(
    n: int,
    noising_coef: jax.typing.ArrayLike,
    min_sep: int,
    max_participations: int | None = None,
    use_matrix_upper_bound: bool = False,
) -> jax.Array:
  """Returns the squared sensitivity of the inverse of a noising matrix.

  Exact where the strategy's coefficients are not negative and do not increase;
  with `use_matrix_upper_bound`, where they are not negative. Else an upper
  bound.

  Args:
    n: Number of steps.
    noising_coef: Coefficients of the noising matrix C^-1.
    min_sep: Least distance of two participations.
    max_participations: Most participations; None for as many as fit.
    use_matrix_upper_bound: Whether to bound the matrix [n, n] of absolute
      values, which is closer and costs more.
  """
  coef = inverse_coef(noising_coef, n)
  if not use_matrix_upper_bound:
    return minsep_sensitivity_squared(coef, min_sep, max_participations, n)
  matrix = materialize_lower_triangular(jnp.abs(coef), n)
  bound = sensitivity.get_min_sep_sensitivity_upper_bound(
      matrix, min_sep, max_participations
  )
  return jnp.asarray(bound**2)


def compute_banded_inverse_sensitivity(*args: Any, **kwargs: Any) -> float:
  """Returns the root of `compute_banded_inverse_sensitivity_squared`.

  Args:
    *args: Arguments of that function.
    **kwargs: Arguments of that function, by name.
  """
  squared = compute_banded_inverse_sensitivity_squared(*args, **kwargs)
  return float(jnp.sqrt(squared))


def per_query_error(
    *,
    strategy_coef: jax.typing.ArrayLike | None = None,
    noising_coef: jax.typing.ArrayLike | None = None,
    n: int | None = None,
    workload_coef: jax.typing.ArrayLike | None = None,
    skip_checks: bool = False,
) -> jax.Array:
  """Returns the squared error of each query, [n], for noise of variance 1.

  The last is the largest.

  Args:
    strategy_coef: Coefficients of C; or None.
    noising_coef: Coefficients of C^-1, in place of those of C.
    n: Number of steps; None for as many as coefficients.
    workload_coef: Coefficients of the workload; None for prefix sums.
    skip_checks: Ignored; nothing here needs concrete values.

  Raises:
    ValueError: If not exactly one of C and C^-1 is given.
  """
  del skip_checks
  if strategy_coef is not None and noising_coef is None:
    coef, n = _reconcile(strategy_coef, n)
    workload = jnp.ones(n) if workload_coef is None else workload_coef
    decoder = solve_banded(coef, pad_coefs_to_n(workload, n))
  elif noising_coef is not None and strategy_coef is None:
    coef, n = _reconcile(noising_coef, n)
    if workload_coef is None:
      decoder = jnp.cumsum(pad_coefs_to_n(coef, n))
    else:
      decoder = multiply(pad_coefs_to_n(workload_coef, n), coef, n)
  else:
    raise ValueError(
        "Exactly one of strategy_coef and noising_coef must be given, got"
        f" {'neither' if strategy_coef is None else 'both'}."
    )
  return jnp.cumsum(decoder**2)


def mean_error(**kwargs: Any) -> jax.Array:
  """Returns the mean over queries of `per_query_error`.

  Args:
    **kwargs: Arguments of `per_query_error`.
  """
  return per_query_error(**kwargs).mean()


def max_error(**kwargs: Any) -> jax.Array:
  """Returns the largest of `per_query_error`, which is the last.

  Args:
    **kwargs: Arguments of `per_query_error`.
  """
  return per_query_error(**kwargs)[-1]


def loss(
    strategy_coef: jax.typing.ArrayLike,
    n: int | None = None,
    reduction_fn: ReductionFn = jnp.mean,
    workload_coef: jax.typing.ArrayLike | None = None,
) -> jax.Array:
  """Returns error x squared sensitivity, for one participation.

  The same for every multiple of the coefficients.

  Args:
    strategy_coef: Coefficients of the strategy.
    n: Number of steps; None for as many as coefficients.
    reduction_fn: Function of the queries' errors, [n] to a scalar.
    workload_coef: Coefficients of the workload; None for prefix sums.
  """
  errors = per_query_error(
      strategy_coef=strategy_coef, n=n, workload_coef=workload_coef
  )
  error = errors[-1] if reduction_fn is jnp.max else reduction_fn(errors)
  return error * sensitivity_squared(strategy_coef, n)


def mean_loss(
    strategy_coef: jax.typing.ArrayLike, n: int | None = None
) -> jax.Array:
  """Returns `loss` of the mean error of prefix sums.

  Args:
    strategy_coef: Coefficients of the strategy.
    n: Number of steps; None for as many as coefficients.
  """
  return loss(strategy_coef, n)


def max_loss(
    strategy_coef: jax.typing.ArrayLike, n: int | None = None
) -> jax.Array:
  """Returns `loss` of the largest error of prefix sums.

  Args:
    strategy_coef: Coefficients of the strategy.
    n: Number of steps; None for as many as coefficients.
  """
  return loss(strategy_coef, n, jnp.max)


def optimize_banded_toeplitz(
    n: int,
    bands: int,
    strategy_coef: jax.Array | None = None,
    max_optimizer_steps: int = 250,
    reduction_fn: ReductionFn = jnp.mean,
    workload_coef: jax.typing.ArrayLike | None = None,
) -> jax.Array:
  """Returns the best banded Toeplitz strategy (BandMF), [bands], of norm 1.

  It is the best for one participation, and for several that are at least
  `bands` steps apart: sensitivity multiplies the loss by their number.

  Args:
    n: Number of steps.
    bands: Number of bands.
    strategy_coef: First coefficients, [bands]; None for those of the square
      root.
    max_optimizer_steps: Largest number of steps of L-BFGS.
    reduction_fn: Function of the queries' errors, [n] to a scalar.
    workload_coef: Coefficients of the workload; None for prefix sums.

  Raises:
    ValueError: If there are not `bands` first coefficients.

  Source: McKenna 2024 (2405.15913).
  """
  if strategy_coef is None:
    strategy_coef = optimal_max_error_strategy_coefs(bands)
  if strategy_coef.shape[0] != bands:
    got = strategy_coef.shape[0]
    raise ValueError(f"strategy_coef must have {bands} bands, got {got}.")
  found = optimization.optimize(
      lambda coef: loss(coef, n, reduction_fn, workload_coef),
      strategy_coef,
      max_optimizer_steps=max_optimizer_steps,
  )
  return found / jnp.linalg.norm(found)


def optimize_banded_inverse_toeplitz(
    n: int,
    min_sep: int,
    num_bands: int,
    *,
    noising_coef: jax.typing.ArrayLike | None = None,
    strategy_coef: jax.typing.ArrayLike | None = None,
    workload_coef: jax.typing.ArrayLike | None = None,
    max_participations: int | None = None,
    max_optimizer_steps: int = 1000,
    reduction_fn: ReductionFn = jnp.mean,
) -> jax.Array:
  """Returns the best noising coefficients (BandInvMF), [num_bands].

  The first is 1.

  Args:
    n: Number of steps.
    min_sep: Least distance of two participations.
    num_bands: Number of noising coefficients.
    noising_coef: First coefficients; None for BISR's, or the inverse of
      `strategy_coef`.
    strategy_coef: First coefficients of C, in place of those of C^-1.
    workload_coef: Coefficients of the workload; None for prefix sums.
    max_participations: Most participations; None for as many as fit.
    max_optimizer_steps: Largest number of steps of L-BFGS.
    reduction_fn: Function of the queries' errors, [n] to a scalar.

  Source: Kalinin, McKenna, Upadhyay and Lampert 2025 (2505.12128).
  """

  def loss_fn(coef):
    errors = per_query_error(
        noising_coef=coef, n=n, workload_coef=workload_coef
    )
    squared = compute_banded_inverse_sensitivity_squared(
        n, coef, min_sep, max_participations
    )
    return reduction_fn(errors) * squared

  if noising_coef is None and strategy_coef is not None:
    noising_coef = inverse_coef(strategy_coef, num_bands)
  if noising_coef is None:
    noising_coef = banded_inverse_square_root_noising_coefs(
        num_bands, workload_coef
    )
  found = optimization.optimize(
      loss_fn,
      pad_coefs_to_n(noising_coef, num_bands),
      max_optimizer_steps=max_optimizer_steps,
  )
  return found / found[0]
