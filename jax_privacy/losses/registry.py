"""Finds a loss by its name.

The invariant: losses of logits are in this table, and those of one number in
`jax_privacy/regression_losses.py`. To add one, write its file and add its line.

Example:
  >>> names()
  ('softmax', 'sigmoid')
  >>> get("hinge")
  Traceback (most recent call last):
  ValueError: name must be one of softmax, sigmoid, got 'hinge'.
"""

from jax_privacy import _validate
from jax_privacy.losses import sigmoid, softmax
from jax_privacy.losses.loss import Loss

_LOSSES: tuple[Loss, ...] = (softmax.SOFTMAX, sigmoid.SIGMOID)


def names() -> tuple[str, ...]:
  """Returns the names of all losses."""
  return tuple(loss.name for loss in _LOSSES)


def get(name: str) -> Loss:
  """Returns the loss of that name.

  Args:
    name: One of `names()`.

  Raises:
    ValueError: If there is none.
  """
  for loss in _LOSSES:
    if loss.name == name:
      return loss
  _validate.fail("name", f"one of {', '.join(names())}", name)
