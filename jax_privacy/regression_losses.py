"""Losses of one number: squared, absolute, and Poisson.

Each takes one example's prediction and its target, both scalars, and returns a
scalar. Scale targets by PUBLIC bounds first: gradients grow with the target,
and what is longer than the clip norm is clipped.

The invariant: a loss sees one example and no other.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy import regression_losses
  >>> loss_fn = regression_losses.build("squared")
  >>> print(loss_fn(jnp.float32(1.0), jnp.float32(3.0)))
  2.0
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from jax_privacy import _validate, precision

LossFn = Callable[[jax.Array, jax.Array], jax.Array]


def squared(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """Returns (prediction - target)^2 / 2: its minimum is the mean.

  Args:
    prediction: Float, a scalar.
    target: Float, a scalar.
  """
  return jnp.square(prediction - target) / 2


def absolute(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """Returns |prediction - target|: its minimum is the median.

  Args:
    prediction: Float, a scalar.
    target: Float, a scalar.
  """
  return jnp.abs(prediction - target)


def poisson(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """Returns exp(prediction) - target x prediction.

  It is the negative log likelihood of a Poisson variable of rate
  exp(prediction), less what does not depend on the prediction.

  Args:
    prediction: Logarithm of the rate, a float scalar.
    target: Count, a float scalar of at least 0.
  """
  return jnp.exp(prediction) - target * prediction


_LOSSES = {"absolute": absolute, "poisson": poisson, "squared": squared}
NAMES = tuple(sorted(_LOSSES))


def build(name: str) -> LossFn:
  """Returns the loss of that name.

  Args:
    name: One of `NAMES`.

  Returns:
    `loss_fn(prediction, target)`, of scalars, in float32 at least.

  Raises:
    ValueError: If there is no such loss.
  """
  if name not in _LOSSES:
    _validate.fail("name", f"one of {', '.join(NAMES)}", name)

  def loss_fn(prediction, target):
    chex.assert_rank([prediction, target], 0)
    dtype = precision.at_least_float32(prediction.dtype)
    return _LOSSES[name](prediction.astype(dtype), target.astype(dtype))

  return loss_fn
