"""Optimises buffered Toeplitz strategies.

`buffered_toeplitz.py` has these under the names of jax-privacy.

The decays of C and of C^-1 alternate: 1 > t_1 > s_1 > t_2 > s_2 > ... > 0
exactly where C has positive output scales and a Pillutla score below 1. So the
search runs over the gaps between them on a logarithmic scale, where every
number is allowed, and needs no barrier.

Example:
  >>> import jax
  >>> from jax_privacy.matrix_factorization import blt_optimizers
  >>> with jax.enable_x64():
  ...   blt = blt_optimizers.optimize(n=32, min_buffers=1, max_buffers=1)
  ...   print(len(blt.buf_decay))
  1
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_privacy.matrix_factorization import (
    blt_closed_forms,
    blt_matrix,
    sensitivity,
    toeplitz,
)


@dataclasses.dataclass(frozen=True)
class LossFn:
  """A loss of a strategy and its inverse.

  Attributes:
    error_for_inv: Function of the inverse: the squared error.
    sensitivity_squared: Function of the strategy.
    n: Number of steps.
    min_sep: Least distance of two participations.
    max_participations: Number of participations that can happen.
  """

  error_for_inv: Callable[[Any], jax.Array]
  sensitivity_squared: Callable[[Any], jax.Array]
  n: int
  min_sep: int = 1
  max_participations: int = 1

  @classmethod
  def build_closed_form_single_participation(cls, n: int) -> "LossFn":
    """Returns the largest error's loss for one participation, for any n.

    Args:
      n: Number of steps.
    """
    return cls(
        error_for_inv=lambda inverse: blt_closed_forms.max_error(inverse, n),
        sensitivity_squared=lambda blt: blt_closed_forms.sensitivity_squared(
            blt, n
        ),
        n=n,
    )

  @classmethod
  def build_min_sep(
      cls,
      n: int,
      error: str = "max",
      min_sep: int = 1,
      max_participations: int | None = None,
  ) -> "LossFn":
    """Returns a loss for participations min_sep steps apart.

    Args:
      n: Number of steps.
      error: Name of the error, "max" or "mean".
      min_sep: Least distance of two participations.
      max_participations: Most participations; None for as many as fit.

    Raises:
      ValueError: If there is no error of that name.
    """
    errors = {"max": toeplitz.max_error, "mean": toeplitz.mean_error}
    if error not in errors:
      raise ValueError(f"error must be max or mean, got {error}.")
    k = sensitivity.minsep_true_max_participations(
        n, min_sep, max_participations
    )
    return cls(
        error_for_inv=lambda inverse: errors[error](
            noising_coef=inverse.toeplitz_coefs(n)
        ),
        sensitivity_squared=lambda blt: toeplitz.minsep_sensitivity_squared(
            blt.toeplitz_coefs(n), min_sep, k
        ),
        n=n,
        min_sep=min_sep,
        max_participations=k,
    )

  def loss(self, blt: Any, skip_checks: bool = False) -> jax.Array:
    """Returns error x squared sensitivity.

    Args:
      blt: Strategy.
      skip_checks: Whether to leave out checks, which need concrete values.
    """
    inverse = blt.inverse(skip_checks=skip_checks)
    return self.error_for_inv(inverse) * self.sensitivity_squared(blt)


def get_init_blt(num_buffers: int = 3, init_blt: Any = None) -> Any:
  """Returns the strategy that a search begins at.

  Args:
    num_buffers: Number of buffers.
    init_blt: Strategy of one's own, of that number of buffers; None for a
      rational approximation of the square root.

  Raises:
    ValueError: If the strategy has another number of buffers.
  """
  if init_blt is None and num_buffers == 0:
    init_blt = blt_matrix.BufferedToeplitz.build([], [])
  elif init_blt is None:
    init_blt = blt_matrix.BufferedToeplitz.from_rational_approx_to_sqrt_x(
        num_buffers, max_buf_decay=1 - 1e-6, max_pillutla_score=1 - 1e-6
    )
  if len(init_blt.buf_decay) != num_buffers:
    got = len(init_blt.buf_decay)
    raise ValueError(f"init_blt must have {num_buffers} buffers, got {got}.")
  return init_blt


def optimize_loss(
    loss_fn: LossFn,
    num_buffers: int = 1,
    init_blt: Any = None,
    *,
    max_optimizer_steps: int = 600,
) -> tuple[Any, jax.Array]:
  """Returns the best strategy of `num_buffers` buffers, and its loss.

  Args:
    loss_fn: Loss.
    num_buffers: Number of buffers.
    init_blt: Strategy to begin at; see `get_init_blt`.
    max_optimizer_steps: Largest number of steps of L-BFGS.
  """
  from scipy import optimize as scipy_optimize  # Costs an import.

  with jax.enable_x64():
    blt = get_init_blt(num_buffers, init_blt)
    if num_buffers == 0:
      return blt, loss_fn.loss(blt)

    @jax.jit
    @jax.value_and_grad
    def value_and_grad(gaps):
      strategy, inverse = _pair_of_gaps(gaps)
      error = loss_fn.error_for_inv(inverse)
      return jnp.log(error * loss_fn.sensitivity_squared(strategy))

    found = scipy_optimize.minimize(
        lambda gaps: [np.asarray(x) for x in value_and_grad(jnp.asarray(gaps))],
        np.asarray(_gaps_of(blt)),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": max_optimizer_steps, "ftol": 1e-15, "gtol": 1e-10},
    )
    blt, _ = _pair_of_gaps(jnp.asarray(found.x))
    return blt, jnp.exp(found.fun)


def optimize(
    *,
    n: int,
    min_sep: int = 1,
    max_participations: int | None = 1,
    error: str = "max",
    min_buffers: int = 0,
    max_buffers: int = 10,
    rtol: float = 1.01,
    max_optimizer_steps: int = 600,
) -> Any:
  """Returns a good strategy, with as many buffers as are worth it.

  Args:
    n: Number of steps.
    min_sep: Least distance of two participations.
    max_participations: Most participations; None for as many as fit.
    error: Name of the error, "max" or "mean".
    min_buffers: Least number of buffers.
    max_buffers: Largest number of buffers, at most 15.
    rtol: Factor by which one more buffer must lower the loss.
    max_optimizer_steps: Largest number of steps of L-BFGS for each number of
      buffers.

  Raises:
    ValueError: If an argument breaks its rule.
  """
  if not 0 <= min_buffers <= max_buffers <= 15:
    raise ValueError(
        "min_buffers and max_buffers must be ascending, in [0, 15], got"
        f" {min_buffers} and {max_buffers}."
    )
  loss_fn = LossFn.build_min_sep(n, error, min_sep, max_participations)
  if loss_fn.max_participations == 1 and error == "max":
    loss_fn = LossFn.build_closed_form_single_participation(n)
  best, least = optimize_loss(
      loss_fn, min_buffers, max_optimizer_steps=max_optimizer_steps
  )
  for num_buffers in range(min_buffers + 1, max_buffers + 1):
    blt, loss = optimize_loss(
        loss_fn, num_buffers, max_optimizer_steps=max_optimizer_steps
    )
    if not rtol * loss < least:
      break
    best, least = blt, loss
  return best


def _gaps_of(blt: Any) -> jax.Array:
  """The first logit of 1 - t_1, 1 - s_1, ..., and the logs of their steps."""
  theta, theta_hat = blt.buf_decay, blt.inverse(skip_checks=True).buf_decay
  ordered = jnp.stack([theta, theta_hat], axis=1).reshape(-1)
  ordered = jnp.clip(ordered, 1e-6, 1 - 1e-12)
  logits = jnp.log1p(-ordered) - jnp.log(ordered)
  steps = jnp.maximum(jnp.diff(logits), 1e-3)
  return jnp.concatenate([logits[:1], jnp.log(steps)])


def _pair_of_gaps(gaps: jax.Array) -> tuple[Any, Any]:
  logits = jnp.cumsum(jnp.concatenate([gaps[:1], jnp.exp(gaps[1:])]))
  ordered = jax.nn.sigmoid(-logits)  # No digit of a decay near 0 is lost.
  return blt_matrix.blt_pair_from_theta_pair(ordered[0::2], ordered[1::2])
