"""Refuses losses that mix examples, at the first call of a gradient function.

The invariant: only a fault that was seen is refused. A loss that cannot be run
or compared passes: a loss of one example, traced values in its closure, a
gradient that is not finite, very many parameters. `testing.check_loss` is
stricter.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy import mixing, together
  >>> centred = lambda w, x: jnp.mean(((x - x.mean(0, keepdims=True)) @ w) ** 2)
  >>> args = (jnp.ones(2), jnp.array([[1.0, 2.0], [3.0, 5.0]]))
  >>> print(mixing.quick_fault(together.Loss(centred), args)[:35])
  The loss must not mix examples: the
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from jax_privacy import batch_statistics, together
from jax_privacy.sensitivity import BoundedSensitivityCallable

_MAX_PARAMS = 20_000_000
_NUM_ROWS = 6
_ZERO = (
    "the gradient of one example alone is zero, or not finite, for every"
    " example: nothing would be learnt"
)
_MIXED_REMEDY = (
    "Batch norm, in-batch negatives (InfoNCE), centring, and losses of pairs or"
    " triplets have nothing to compare one example with. Use group or layer"
    " norm; make pairs and negatives part of an example (a row that holds all"
    " that are compared); take means from public data"
)


def checked(
    grad_fn: BoundedSensitivityCallable,
    loss_fn: Callable[..., Any],
    options: Mapping[str, Any],
) -> BoundedSensitivityCallable:
  """Returns `grad_fn`, which looks at its loss once, when first called.

  Args:
    grad_fn: Function of `clipped_grad`.
    loss_fn: Loss of `grad_fn`.
    options: Options of `clipped_grad` that `grad_fn` was made with.

  Returns:
    The same function, which raises ValueError if the loss mixes examples. It
    runs the loss forward and backward on 6 rows: the batch's own, or, where it
    is traced, made ones; with more than 2e7 parameters it does not.
  """
  names = [field.name for field in dataclasses.fields(together.Loss)]
  used = {name: options[name] for name in names if name in options}
  loss = together.Loss(loss_fn, **used)
  return dataclasses.replace(grad_fn, fun=_Once(grad_fn.fun, loss))


class _Once:
  """A function that checks its loss before it returns for the first time."""

  def __init__(self, fun, loss):
    self._fun, self._loss, self._is_checked = fun, loss, False

  def __call__(self, *args, **kwargs):
    out = self._fun(*args, **kwargs)  # First: its errors name arguments.
    if not self._is_checked:
      found = quick_fault(self._loss, args, kwargs.get("is_padding_example"))
      if found is not None:
        raise ValueError(f"{found} If this is meant, pass check_loss=False.")
      self._is_checked = True
    return out


def quick_fault(
    loss: together.Loss, args: Sequence[Any], is_padding_example: Any = None
) -> str | None:
  """Returns what is wrong with a loss, or None; never raises.

  Args:
    loss: A loss.
    args: Its arguments; may be traced.
    is_padding_example: Rows not to be looked at, or None.
  """
  try:
    found = statistics(loss, args)
    if found is not None or not loss.keep_batch_dim:
      return found
    sizes = [np.size(x) for x in jax.tree.leaves(loss.params(args))]
    if sum(sizes) > _MAX_PARAMS:
      logging.info(
          "The loss was not compared: it has %d parameters.", sum(sizes)
      )
      return None
    with jax.ensure_compile_time_eval():
      trials = list(_trials(loss, args, is_padding_example))
    for trial in trials:
      seen = together.compare(loss, trial)
      if seen.verdict not in ("zero", "unknown"):
        return fault(seen)
    return None
  except Exception as error:  # Nothing was seen, so nothing is refused.
    logging.debug("The loss was not compared: %s", error)
    return None


def statistics(loss: together.Loss, args: Sequence[Any]) -> str | None:
  """Returns what is wrong if batch norm takes means, or holds parameters.

  Args:
    loss: A loss.
    args: Its arguments; may be traced.
  """
  paths = batch_statistics.in_params(loss.params(args))
  if paths:
    return (
        "The parameters must not hold running statistics, which are not"
        f" trained, got {', '.join(paths[:4])}: pass them by closure."
        f" {batch_statistics.REMEDY}"
    )
  row = jax.tree.map(lambda x: _shape_of(x, 1), loss.rows(args))
  closed = jax.make_jaxpr(loss.bind(args))(loss.params(args), row)
  layers = batch_statistics.in_loss(closed)
  if layers:
    return (
        "The loss must not mix examples: it takes the means of a batch,"
        f" by {', '.join(layers[:4])}, and an example alone is normalised by"
        f" itself. {batch_statistics.REMEDY}"
    )
  return None


def fault(seen: together.Comparison, is_strict: bool = False) -> str | None:
  """Returns what is wrong by a comparison, or None.

  Args:
    seen: Comparison of examples alone and together.
    is_strict: Whether to name two more faults: a loss that trains, but not as
      in a batch, and one that shows nothing.
  """
  together_differ = (
      f"the gradient of {seen.num_examples} examples together is no"
      f" combination of those of each alone (it is {seen.gap:.0%} off)"
  )
  if seen.verdict == "mixed":
    what = together_differ
    if seen.num_silent == seen.num_examples:
      what = _ZERO
    return f"The loss must not mix examples: {what}. {_MIXED_REMEDY}."
  if not is_strict:
    return None
  if seen.verdict == "zero":
    return f"The loss must have a gradient: {_ZERO}. {_MIXED_REMEDY}."
  if seen.verdict == "weighted":
    weights = ", ".join(f"{w:.3g}" for w in seen.weights)
    return (
        "The loss must not mix examples: it weighs each example by what the"
        " batch shares (it divides by its number of tokens or the sum of its"
        " weights, or takes a root, a log or a maximum over it): examples count"
        f" {weights} together, and 1 each alone. Take the mean of losses that"
        " are each example's own."
    )
  if seen.verdict == "unknown":
    return (
        "The loss must have finite gradients, together and alone, for the"
        " examples given: nothing could be compared."
    )
  return None


def _shape_of(x, size):
  is_key = hasattr(x, "dtype") and _is_key(x)
  dtype = x.dtype if is_key else jnp.result_type(x)
  return jax.ShapeDtypeStruct((size, *jnp.shape(x)[1:]), dtype)


def _is_traced(tree):
  leaves = jax.tree.leaves(tree)
  return any(isinstance(x, jax.core.Tracer) for x in leaves)


def _trials(loss, args, is_padding_example):
  """Yields arguments without tracers: with real rows, then with made ones."""
  rng = np.random.default_rng(0)
  args = list(args)
  batched = (*loss.batched, loss.prng_argnum)
  rows = loss.rows(args)
  for i, arg in enumerate(args):
    if i == loss.prng_argnum:
      args[i] = jax.tree.map(_one_key, arg)
    elif i not in batched and _is_traced(arg):
      args[i] = jax.tree.map(lambda x: _made(rng, x), arg)
  if not _is_traced((rows, is_padding_example)):
    real = _real_rows(rows, is_padding_example)
    if len(real) > 1:
      yield _with_rows(loss, args, together.take(rows, real))
  made = jax.tree.map(lambda x: _made_rows(rng, x), rows)
  yield _with_rows(loss, args, made)


def _with_rows(loss, args, rows):
  args = list(args)
  for i, row in zip(loss.batched, rows, strict=True):
    args[i] = row
  return args


def _real_rows(rows, is_padding_example):
  size = len(jax.tree.leaves(rows)[0])
  if is_padding_example is None:
    return range(min(size, _NUM_ROWS))
  return np.flatnonzero(~np.asarray(is_padding_example))[:_NUM_ROWS]


def _is_key(x):
  return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _one_key(x):
  """A key of the same kind as one example's."""
  if _is_key(x):
    return jax.random.key(0, impl=jax.random.key_impl(x))
  return jax.random.PRNGKey(0)


def _made(rng, x):
  """Made values for traced parameters and the like."""
  if not isinstance(x, jax.core.Tracer):
    return x
  if _is_key(x):
    return jnp.broadcast_to(_one_key(x), x.shape)
  if not jnp.issubdtype(x.dtype, jnp.floating):
    return jnp.zeros(x.shape, x.dtype)
  values = rng.standard_normal(x.shape).astype(np.float32)
  if len(x.shape) > 1:
    values /= np.float32(max(1.0, np.prod(x.shape[:-1])) ** 0.5)
  else:
    values = 1 + values / 10
  return jnp.asarray(values).astype(x.dtype)


def _made_rows(rng, x):
  """Rows that are valid for most losses: labels and ids are 0 and 1."""
  x = _shape_of(x, _NUM_ROWS)
  if _is_key(x):
    return jax.random.split(jax.random.key(0, impl=x.dtype._impl), x.shape)
  if not jnp.issubdtype(x.dtype, jnp.floating):
    values = rng.integers(0, 2, x.shape)
    if len(x.shape) == 1:
      values = np.arange(_NUM_ROWS) % 2
  elif len(x.shape) == 1:
    values = np.arange(_NUM_ROWS) % 2
  else:
    values = rng.standard_normal(x.shape)
  return jnp.asarray(values.astype(np.float32)).astype(x.dtype)
