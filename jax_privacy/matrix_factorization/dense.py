"""Dense strategies: any lower-triangular matrix, for up to some thousand steps.

The search is over X = C^T C, in which the error is convex and sensitivity is
linear. C is the Cholesky factor of X from the last step backwards: the one
lower-triangular C with that X.

Invariant: the optimised X is zero where one example can take part twice, so
sensitivity is read off its diagonal, and is 1.

Example:
  >>> from jax_privacy.matrix_factorization import dense, sensitivity
  >>> C = dense.optimize(8, epochs=2, max_optimizer_steps=50)
  >>> print(f"{sensitivity.fixed_epoch_sensitivity(C, 2):.4f}")
  1.0000
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jax_privacy.matrix_factorization import (
    _checks,
    optimization,
    sensitivity,
)


def per_query_error(
    *,
    strategy_matrix: jax.Array | None = None,
    noising_matrix: jax.Array | None = None,
    workload_matrix: jax.Array | None = None,
    skip_checks: bool = False,
) -> jax.Array:
  """Returns the squared error of each query, [n], for noise of variance 1.

  Args:
    strategy_matrix: Strategy C, [n, n]; or None.
    noising_matrix: Noising matrix C^-1, [n, k], in place of C.
    workload_matrix: Workload A, [n, n]; None for prefix sums.
    skip_checks: Whether to leave out checks, which need concrete values.

  Raises:
    ValueError: If not exactly one of C and C^-1 is given, or a matrix is not as
      it must be.
  """
  if (strategy_matrix is None) == (noising_matrix is None):
    raise ValueError(
        "Exactly one of strategy_matrix and noising_matrix must be given, got"
        f" {'neither' if strategy_matrix is None else 'both'}."
    )
  if strategy_matrix is not None:
    strategy_matrix = jnp.asarray(strategy_matrix)
    _checks.check_square(strategy_matrix, "strategy_matrix")
    workload = _workload(workload_matrix, strategy_matrix.shape[0])
    decoder = jnp.linalg.solve(strategy_matrix.T, workload.T).T
  else:
    noising_matrix = jnp.asarray(noising_matrix)
    workload = _workload(workload_matrix, noising_matrix.shape[0])
    decoder = jnp.matmul(
        workload, noising_matrix, precision=jax.lax.Precision.HIGHEST
    )
  if not skip_checks:
    _checks.check(A=workload, B=decoder, C=strategy_matrix)
  return jnp.sum(decoder * decoder, axis=1)


def mean_error(**kwargs: Any) -> jax.Array:
  """Returns the mean of `per_query_error`.

  Args:
    **kwargs: Arguments of `per_query_error`.
  """
  return per_query_error(**kwargs).mean()


def max_error(**kwargs: Any) -> jax.Array:
  """Returns the largest of `per_query_error`.

  Args:
    **kwargs: Arguments of `per_query_error`.
  """
  return per_query_error(**kwargs).max()


def get_orthogonal_mask(n: int, epochs: int = 1) -> jax.Array:
  """Returns [n, n] with zeros where one example takes part in both steps.

  Args:
    n: Number of steps.
    epochs: Number of epochs: steps n / epochs apart have the same examples.
  """
  i = jnp.arange(n)
  same = (i[:, None] - i[None, :]) % (n // epochs) == 0
  return jnp.where(same, jnp.eye(n), jnp.ones((n, n)))


def strategy_from_X(X: jax.Array) -> jax.Array:  # noqa: N802, N803
  """Returns the lower-triangular C with C^T C = X.

  Args:
    X: Gram matrix, symmetric and positive definite.
  """
  return jnp.linalg.cholesky(X[::-1, ::-1]).T[::-1, ::-1]


def pg_tol_termination_fn(step_info: optimization.CallbackArgs) -> bool:
  """Returns whether no entry of the projected gradient is above 1e-3.

  Args:
    step_info: Last step.
  """
  return bool(jnp.abs(step_info.grad).max() <= 1e-3)


def optimize(
    n: int,
    *,
    epochs: int = 1,
    bands: int | None = None,
    equal_norm: bool = False,
    A: jax.Array | None = None,  # noqa: N803
    max_optimizer_steps: int = 10000,
    reduction_fn: Callable[[jax.Array], jax.Array] = jnp.mean,
    callback: optimization.CallbackFnType = pg_tol_termination_fn,
) -> jax.Array:
  """Returns the best strategy of sensitivity 1, [n, n].

  Args:
    n: Number of steps.
    epochs: Number of epochs, a divisor of n; an example is in the same step of
      each.
    bands: Number of bands of C; None for any.
    equal_norm: Whether columns have one norm, as BandMF's must.
    A: Workload [n, n]; None for prefix sums.
    max_optimizer_steps: Largest number of steps of L-BFGS.
    reduction_fn: Function of the queries' errors, [n] to a scalar.
    callback: Function called after each step; a true result ends the search.

  Raises:
    ValueError: If `epochs` is no divisor of n.

  Guarantee: The sum of |X_ij| over the steps of any example is 1.

  Source: Denisov et al. 2022 (2202.08312); Choquette-Choo et al. 2022
    (2211.06530) for several epochs.
  """
  if epochs < 1 or n % epochs:
    raise ValueError(f"epochs must divide n = {n}, got {epochs}.")
  with jax.enable_x64():
    workload = _workload(A, n).astype(jnp.float64)
    mask = get_orthogonal_mask(n, epochs).astype(jnp.float64)
    if bands is not None:
      mask = mask * sensitivity.banded_symmetric_mask(n, bands).astype(float)

    def loss_and_projected_grad(gram):
      if reduction_fn is jnp.mean:
        value, grad = _mean_loss_and_gradient(gram, workload)
      else:
        value, grad = jax.value_and_grad(_loss)(gram, workload, reduction_fn)
      return value, _projected(grad, epochs, equal_norm) * mask

    gram = optimization.optimize(
        loss_and_projected_grad,
        jnp.eye(n) / epochs,
        max_optimizer_steps=max_optimizer_steps,
        grad=True,
        callback=callback,
    )
    strategy = strategy_from_X(gram)
  dtype = jax.dtypes.canonicalize_dtype(jnp.float64)
  return strategy.astype(dtype)


def _projected(grad: jax.Array, epochs: int, equal_norm: bool) -> jax.Array:
  """Leaves the diagonal's sum over each example's steps as it is."""
  n = len(grad)
  diagonal = jnp.diag(grad).reshape(epochs, -1)
  centred = (diagonal - diagonal.mean(axis=0, keepdims=True)).reshape(-1)
  new = jnp.zeros_like(centred) if equal_norm else centred
  return grad.at[jnp.diag_indices(n)].set(new)


def _loss(gram, workload, reduction_fn):
  solved = jax.scipy.linalg.solve(gram, workload.T, assume_a="pos")
  return reduction_fn(jnp.sum(workload * solved.T, axis=1))


def _mean_loss_and_gradient(X, A):  # noqa: N803
  """The trace of A^T A X^-1 over n, and -X^-1 A^T A X^-1 over n."""
  X, A = jnp.asarray(X), jnp.asarray(A)  # noqa: N806
  n = len(X)
  solved = jax.scipy.linalg.solve(X, A.T, assume_a="pos")
  value = jnp.sum(solved.T * A) / n
  return value, -jnp.matmul(solved, solved.T) / n


def _workload(workload: Any, n: int) -> jax.Array:
  return jnp.tri(n) if workload is None else jnp.asarray(workload)
