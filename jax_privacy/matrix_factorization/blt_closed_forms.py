"""Errors and sensitivities of buffered Toeplitz matrices, for any n.

`buffered_toeplitz.py` has all of these under the names of jax-privacy. Sums of
n powers are made by doubling: the sum of 2 m terms is the sum of m of them,
plus the same sum shifted by m steps. So 10^7 steps cost 24 small products.

Invariant: where decays are not negative, no two numbers of unlike sign are
added, so no digit is lost for decays near 1, where the usual closed forms
divide by their distance from 1.

Example:
  >>> from jax_privacy.matrix_factorization import blt_closed_forms
  >>> print(blt_closed_forms.geometric_sum(1.0, 0.5, 3))
  1.75
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp


def geometric_sum(
    a: jax.typing.ArrayLike, r: jax.typing.ArrayLike, num: float = jnp.inf
) -> jax.Array:
  """Returns a (1 + r + ... + r^(num - 1)).

  Args:
    a: Factors, of the shape of r or scalars.
    r: Ratios, of any shape; below 1 in size where num is infinite.
    num: Number of terms, a whole number; or inf for the limit.
  """
  a, r = jnp.asarray(a), jnp.asarray(r)
  if num == jnp.inf:
    return a / (1 - r)
  # total has m terms, and power is r^m.
  total, _ = _by_doubling(
      num,
      (jnp.zeros_like(r), jnp.ones_like(r)),
      double=lambda total, power: (total * (1 + power), power * power),
      add_one=lambda total, power: (1 + r * total, power * r),
  )
  return a * total


@functools.partial(jax.jit, static_argnames="n")
def sensitivity_squared(blt: Any, n: float) -> jax.Array:
  """Returns the squared sensitivity to one participation: exact.

  Args:
    blt: Strategy, a `BufferedToeplitz`.
    n: Number of steps; or inf for the limit.

  Returns:
    A scalar; inf if a decay is above 1.

  Source: Dvijotham et al. 2024 (2404.16706), lemma 5.3.
  """
  scales = blt.output_scale[:, None] * blt.output_scale[None, :]
  decays = blt.buf_decay[:, None] * blt.buf_decay[None, :]
  squared = 1 + geometric_sum(scales, decays, n - 1).sum()
  return jnp.where(jnp.any(blt.buf_decay > 1), jnp.inf, squared)


@functools.partial(jax.jit, static_argnames="i")
def iteration_error(inv_blt: Any, i: float) -> jax.Array:
  """Returns the squared error of prefix sum i, for noise of variance 1.

  Args:
    inv_blt: Noising matrix, a `BufferedToeplitz`.
    i: Number of the step, from 0.

  Source: Dvijotham et al. 2024 (2404.16706), lemma 5.4.
  """
  inv_blt.check_dtype()
  decays, dtype = inv_blt.buf_decay, inv_blt.dtype
  size = decays.shape[0] + 1
  # The state (1, sums of powers) of step t gives the t-th coefficient of
  # A C^-1, and `shift` takes it to step t + 1.
  shift = jnp.diag(jnp.concatenate([jnp.ones(1, dtype), decays]))
  shift = shift.at[1:, 0].set(1)
  start = jnp.zeros((size, size), dtype).at[0, 0].set(1)
  total, _ = _by_doubling(
      i + 1,
      (jnp.zeros_like(start), jnp.eye(size, dtype=dtype)),
      double=lambda total, power: (
          total + _sandwich(power, total),
          _product(power, power),
      ),
      add_one=lambda total, power: (
          start + _sandwich(shift, total),
          _product(power, shift),
      ),
  )
  weights = jnp.concatenate([jnp.ones(1, dtype), inv_blt.output_scale])
  return weights @ (total @ weights)


def max_error(inv_blt: Any, n: float) -> jax.Array:
  """Returns the largest squared error of n prefix sums, which is the last.

  Args:
    inv_blt: Noising matrix, a `BufferedToeplitz`.
    n: Number of steps.
  """
  return iteration_error(inv_blt, n - 1)


@jax.jit
def limit_max_error(inv_blt: Any) -> jax.Array:
  """Returns the limit of max_error(inv_blt, n) / n.

  Args:
    inv_blt: Noising matrix, a `BufferedToeplitz` with decays below 1.
  """
  total = 1 + jnp.sum(inv_blt.output_scale / (1 - inv_blt.buf_decay))
  return total * total


def max_loss(blt: Any, n: float) -> jax.Array:
  """Returns max_error x squared sensitivity, for one participation.

  Args:
    blt: Strategy, a `BufferedToeplitz`.
    n: Number of steps.

  Returns:
    A scalar; inf if an output scale is not positive.
  """
  inverse = blt.inverse(skip_checks=True)
  loss = max_error(inverse, n) * sensitivity_squared(blt, n)
  return jnp.where(jnp.any(blt.output_scale <= 0), jnp.inf, loss)


def limit_max_loss(blt: Any) -> jax.Array:
  """Returns the limit of max_loss(blt, n) / n.

  Args:
    blt: Strategy, a `BufferedToeplitz` with decays below 1.
  """
  inverse = blt.inverse(skip_checks=True)
  loss = limit_max_error(inverse) * sensitivity_squared(blt, jnp.inf)
  return jnp.where(jnp.any(blt.output_scale <= 0), jnp.inf, loss)


def _by_doubling(num, pair, *, double, add_one):
  """Makes a pair for 0 terms into one for num, by the binary digits of num."""
  digits = f"{int(num):b}" if num > 0 else ""
  if not digits:
    return pair

  def step(pair, bit):
    doubled = double(*pair)
    more = add_one(*doubled)
    return jax.tree.map(lambda x, y: jnp.where(bit, x, y), more, doubled), None

  bits = jnp.array([digit == "1" for digit in digits])
  return jax.lax.scan(step, pair, bits)[0]


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
  return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _sandwich(a: jax.Array, b: jax.Array) -> jax.Array:
  return _product(_product(a, b), a.T)
