"""Sensitivity of a strategy C: how far one example can move C G.

G has a row a step: the clipped gradients, of norm 1 at most, of the example
that joins or leaves. Which rows may be other than zero is the participation
pattern. With X = C^T C, one pattern moves C G by at most the root of the sum of
|X_ij| over its pairs of steps, whatever the signs and directions of the rows.

Invariant: no function returns less than the sensitivity. Each says whether it
is exact. Sensitivity to one participation is never given for several.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy.matrix_factorization import sensitivity
  >>> C = jnp.eye(4)
  >>> print(sensitivity.single_participation_sensitivity(C))
  1.0
  >>> sensitivity.fixed_epoch_sensitivity(C, epochs=4)
  2.0
"""

import functools

import jax
import jax.numpy as jnp

from jax_privacy.matrix_factorization import _checks, streaming_matrix


def single_participation_sensitivity(C: jax.Array) -> jax.Array:  # noqa: N803
  """Returns the largest L2 norm of a column: exact for one participation.

  Args:
    C: Strategy [k, n].
  """
  _checks.check(C=C)
  return jnp.linalg.norm(jnp.asarray(C), axis=0).max()


def minsep_true_max_participations(
    n: int, min_sep: int, max_participations: int | None = None
) -> int:
  """Returns how often an example can take part in n steps.

  Args:
    n: Number of steps.
    min_sep: Least distance of two participations; 1 allows every step.
    max_participations: Limit from elsewhere; None for none.
  """
  most = -(-n // min_sep)
  return most if max_participations is None else min(max_participations, most)


def max_participation_for_linear_fn(
    x: jax.Array, min_sep: int = 1, max_participations: int | None = None
) -> jax.Array:
  """Returns the largest sum of entries of x that one pattern can pick.

  With F[i, k] the most that k picks from x[i:] give, F[i, k] is the larger of
  x[i] + F[i + min_sep, k - 1] and F[i + 1, k]. Picking nothing gives 0.

  Args:
    x: Values [n], of any sign.
    min_sep: Least distance of two picks.
    max_participations: Largest number of picks; None for as many as fit.

  Source: Choquette-Choo et al. 2023 (2306.08153), algorithm 3.
  """
  x = jnp.asarray(x)
  n = len(x)
  picks = minsep_true_max_participations(n, min_sep, max_participations)
  best = jnp.zeros(n + min_sep, streaming_matrix.float_dtype(x.dtype))
  for _ in range(picks):
    best = best.at[:n].set(x.astype(best.dtype) + best[min_sep:])
    best = jax.lax.cummax(best, reverse=True)
  return best[0]


def banded_lower_triangular_mask(n: int, num_bands: int) -> jax.Array:
  """Returns int32 [n, n] with ones on the diagonal and the bands below it.

  Args:
    n: Number of rows.
    num_bands: Number of bands, the diagonal included.

  Raises:
    ValueError: If there is no band.
  """
  _check_num_bands(num_bands)
  return (jnp.tri(n) - jnp.tri(n, k=-num_bands)).astype(jnp.int32)


def banded_symmetric_mask(n: int, num_bands: int) -> jax.Array:
  """Returns int32 [n, n] with ones where |i - j| < num_bands.

  Args:
    n: Number of rows.
    num_bands: Number of bands on one side, the diagonal included.

  Raises:
    ValueError: If there is no band.
  """
  _check_num_bands(num_bands)
  mask = jnp.tri(n, k=num_bands - 1) - jnp.tri(n, k=-num_bands)
  return mask.astype(jnp.int32)


def get_min_sep_sensitivity_upper_bound_for_X(  # noqa: N802
    X: jax.Array,  # noqa: N803
    min_sep: int = 1,
    max_participations: int | None = None,
) -> float:
  """Returns an upper bound of the sensitivity, for any strategy.

  Each row of |X| picks its own columns, and then rows are picked: a larger set
  than the patterns. Exact where X is zero at distances of min_sep and more.

  Args:
    X: Gram matrix C^T C, [n, n].
    min_sep: Least distance of two participations.
    max_participations: Most participations; None for as many as fit.

  Source: Choquette-Choo et al. 2023 (2306.08153), algorithm 4.
  """
  _checks.check(X=X)
  most = functools.partial(
      max_participation_for_linear_fn,
      min_sep=min_sep,
      max_participations=max_participations,
  )
  return float(jnp.sqrt(most(jax.vmap(most)(jnp.abs(X)))))


def get_min_sep_sensitivity_upper_bound(
    C: jax.Array,  # noqa: N803
    min_sep: int = 1,
    max_participations: int | None = None,
) -> float:
  """Returns `get_min_sep_sensitivity_upper_bound_for_X` of C^T C.

  Args:
    C: Strategy [k, n].
    min_sep: Least distance of two participations.
    max_participations: Most participations; None for as many as fit.
  """
  return get_min_sep_sensitivity_upper_bound_for_X(
      _gram(C), min_sep, max_participations
  )


def get_sensitivity_banded_for_X(  # noqa: N802
    X: jax.Array,  # noqa: N803
    min_sep: int = 1,
    max_participations: int | None = None,
) -> float:
  """Returns the exact sensitivity, where participations are orthogonal.

  Args:
    X: Gram matrix C^T C, [n, n], zero where |i - j| >= min_sep.
    min_sep: Least distance of two participations, in [1, n].
    max_participations: Most participations; None for as many as fit.

  Raises:
    ValueError: If X is not zero there, or min_sep is out of range.

  Source: Choquette-Choo et al. 2023 (2306.08153), theorem 2.
  """
  _checks.check(X=X)
  X = jnp.asarray(X)  # noqa: N806
  n = len(X)
  if not 1 <= min_sep <= n:
    raise ValueError(f"min_sep must be in [1, {n}], got {min_sep}.")
  far = banded_symmetric_mask(n, min_sep) == 0
  if jnp.any(far & (X != 0)):
    raise ValueError(
        f"Columns of C {min_sep} or more steps apart must be orthogonal, got"
        " others (use get_min_sep_sensitivity_upper_bound)."
    )
  value = max_participation_for_linear_fn(
      jnp.diag(X), min_sep, max_participations
  )
  return float(jnp.sqrt(value))


def get_sensitivity_banded(
    C: jax.Array,  # noqa: N803
    min_sep: int = 1,
    max_participations: int | None = None,
) -> float:
  """Returns `get_sensitivity_banded_for_X` of C^T C.

  Args:
    C: Strategy [k, n].
    min_sep: Least distance of two participations, in [1, n].
    max_participations: Most participations; None for as many as fit.
  """
  return get_sensitivity_banded_for_X(_gram(C), min_sep, max_participations)


def fixed_epoch_sensitivity_for_X(X: jax.Array, epochs: int) -> float:  # noqa: N802, N803
  """Returns the sensitivity where an example joins step i of every epoch.

  Exact where X has no negative entry within a pattern; else an upper bound.

  Args:
    X: Gram matrix C^T C, [n, n].
    epochs: Number of epochs, a divisor of n.

  Raises:
    ValueError: If `epochs` is no positive divisor of n.

  Source: Choquette-Choo et al. 2022 (2211.06530), section 2.
  """
  X = jnp.asarray(X)  # noqa: N806
  _checks.check(X=X)
  n = len(X)
  if epochs <= 0:
    raise ValueError(f"epochs must be positive, got {epochs}.")
  if n % epochs:
    raise ValueError(f"epochs must divide n = {n}, got {epochs}.")
  # [epoch, step of the epoch] twice: pairs of epochs, at the same step.
  blocks = jnp.abs(X).reshape(epochs, n // epochs, epochs, n // epochs)
  totals = jnp.einsum("aibi->i", blocks, precision=jax.lax.Precision.HIGHEST)
  return float(jnp.sqrt(totals.max()))


def fixed_epoch_sensitivity(C: jax.Array, epochs: int) -> float:  # noqa: N803
  """Returns `fixed_epoch_sensitivity_for_X` of C^T C.

  Args:
    C: Strategy [k, n].
    epochs: Number of epochs, a divisor of n.
  """
  return fixed_epoch_sensitivity_for_X(_gram(C), epochs)


def _gram(C: jax.Array) -> jax.Array:  # noqa: N803
  _checks.check(C=C)
  C = jnp.asarray(C)  # noqa: N806
  return jnp.matmul(C.T, C, precision=jax.lax.Precision.HIGHEST)


def _check_num_bands(num_bands: int) -> None:
  if num_bands < 1:
    raise ValueError(f"num_bands must be at least 1, got {num_bands}.")
