"""Checks that a loss means the same for one example as for a batch.

The invariant: a report is returned only if some example alone has a gradient,
and the examples' gradients make up the batch's.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy import testing
  >>> loss_fn = lambda w, batch: jnp.mean((batch["x"] @ w - batch["y"]) ** 2)
  >>> batch = {"x": jnp.eye(3), "y": jnp.array([1.0, -2.0, 3.0])}
  >>> testing.check_loss(loss_fn, jnp.zeros(3), batch).reduction
  'mean'
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from jax_privacy import _validate, arguments, mixing, together
from jax_privacy.testing.errors import LossError


@dataclasses.dataclass(frozen=True)
class LossReport:
  """What was seen of a loss that passed.

  Attributes:
    reduction: Name of how the loss combines its examples: "mean", "sum",
      "first" (it reads the first row alone), or "alone" (it takes one example).
    num_examples: Number of examples that were compared.
    num_silent: Number of these without a gradient of their own.
    gap: Relative distance of the gradient of all from the examples' mean or
      sum.
  """

  reduction: str
  num_examples: int
  num_silent: int
  gap: float


def check_loss(
    loss_fn: Callable[..., Any],
    *args: Any,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    batch_argnums: int | Sequence[int] = 1,
    keep_batch_dim: bool = True,
    prng_argnum: int | None = None,
    max_examples: int = 8,
) -> LossReport:
  """Checks that a loss can be trained one example at a time.

  `clipped_grad` gives a loss one example at a time. Compares the gradient of
  examples together with the gradients of each alone, at the parameters given
  and at others near them, without the loss's randomness (dropout keeps all).

  Args:
    loss_fn: Loss, as for `clipped_grad`.
    *args: Arguments of the loss: parameters, then a batch of real examples; at
      least 2, of several labels, or losses of pairs have none to compare.
    argnums: Positions of the parameters; see `clipped_grad` for this and the
      next four.
    has_aux: Whether the loss returns (loss, aux).
    batch_argnums: Positions of the arguments with a batch axis.
    keep_batch_dim: Whether the loss takes a batch of one. If False, it takes
      one example and cannot take several: the check then looks only for a zero
      gradient and for batch norm.
    prng_argnum: Position of the loss's PRNG key; None if it takes none.
    max_examples: Number of rows to use, the first ones; at least 2.

  Returns:
    A `LossReport`.

  Raises:
    LossError: If the loss mixes examples (batch norm of any library, in-batch
      negatives, centring, pairs), divides by what the batch shares (its number
      of tokens, the sum of its weights), or has no gradient for any example
      alone; if it takes the means of a batch norm, which is named, or running
      statistics are among the parameters.
    ValueError, TypeError: If an argument breaks its rule.

  Guarantee: Evidence for the rows and parameters tried, to 1% of a gradient's
    norm (25% where it is bfloat16 or float16), not a proof. It protects what
    is learnt, not privacy: `clipped_grad` gives a loss one example at a time,
    whatever this check finds.
  """
  arguments.check_function("loss_fn", loss_fn)
  _validate.integer("max_examples", max_examples, at_least=2)
  loss = together.Loss(
      arguments.explained(loss_fn),
      argnums=argnums,
      batch_argnums=batch_argnums,
      keep_batch_dim=keep_batch_dim,
      prng_argnum=prng_argnum,
      has_aux=has_aux,
  )
  arguments.check_params(args, argnums)
  size = arguments.batch_size(args, loss.batched)
  if size < 2:
    _validate.fail("the number of examples", "at least 2", size)
  rows = together.take(loss.rows(args), range(min(size, max_examples)))
  tried = list(args)
  for i, row in zip(loss.batched, rows, strict=True):
    tried[i] = row
  fault = mixing.statistics(loss, tried)
  if fault is not None:
    raise LossError(fault)
  seen = together.compare(loss, tried)
  fault = mixing.fault(seen, is_strict=True)
  if fault is not None:
    raise LossError(fault)
  return LossReport(seen.verdict, seen.num_examples, seen.num_silent, seen.gap)
