"""Covariances over an example's views.

Example:
  >>> import jax.numpy as jnp
  >>> x = jnp.array([[1.0], [3.0]])
  >>> print(over_views(x, x))
  [2.]
"""

import jax
import jax.numpy as jnp

from jax_privacy import _validate


def over_views(x: jax.Array, y: jax.Array) -> jax.Array:
  """Returns sample covariances over the views.

  Times two, one is the mean of (x_j - x_k) (y_j - y_k) over pairs j != k.

  Args:
    x: Numbers [num_views, n].
    y: Numbers [num_views, n].

  Returns:
    Covariances [n].

  Raises:
    ValueError: If there are fewer than two views.
  """
  num_views = x.shape[0]
  if num_views < 2:
    _validate.fail("num_views", "at least 2 to be compared", num_views)
  x = x - jnp.mean(x, axis=0, keepdims=True)
  y = y - jnp.mean(y, axis=0, keepdims=True)
  return jnp.sum(x * y, axis=0) / (num_views - 1)
