"""A loss, and which of its arguments are parameters, examples and keys.

The invariant: positions mean what they mean for `clipped_grad`, wherever a loss
is called: clipped, compared, or explained.

Example:
  >>> from jax_privacy import loss_call
  >>> call = loss_call.LossCall(lambda x, w: x @ w, argnums=1, batch_argnums=0)
  >>> call.param_argnums, call.batched
  ((1,), (0,))
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class LossCall:
  """A loss and how it is called; see `clipped_grad`.

  Attributes:
    fun: Loss function.
    argnums: Positions to differentiate; an int or several, as for `jax.grad`.
    batch_argnums: Positions of the arguments with a row an example.
    keep_batch_dim: Whether rows keep a leading axis of size 1.
    prng_argnum: Position of the argument for keys; None for none.
  """

  fun: Callable[..., Any]
  argnums: int | Sequence[int] = 0
  batch_argnums: int | Sequence[int] = 1
  keep_batch_dim: bool = True
  prng_argnum: int | None = None

  @property
  def param_argnums(self) -> tuple[int, ...]:
    """What to differentiate, as a tuple."""
    return _tuple(self.argnums)

  @property
  def batched(self) -> tuple[int, ...]:
    """Positions of the batch arguments, as a tuple."""
    return _tuple(self.batch_argnums)


def _tuple(numbers: int | Sequence[int]) -> tuple[int, ...]:
  return (numbers,) if isinstance(numbers, int) else tuple(numbers)
