"""Runs a sum over a batch in pieces: less memory, the same numbers.

Microbatch i holds rows [i m, (i + 1) m). A batch padded at its end then has its
empty microbatches last, and these are never run. The cost follows the realised
batch size while the compiled shape does not.

`optax.microbatching` is close, but deals rows out in strides. This spreads
padding at a batch's end over every microbatch. It also needs a size that
divides the batch.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy import microbatching
  >>> def sum_fn(args, is_padding):
  ...   return jnp.where(is_padding, 0, args[0]).sum(), args[0] * 2
  >>> total, doubled = microbatching.sum_over_microbatches(
  ...     sum_fn, (jnp.arange(5.0),), (0,), jnp.zeros(5, bool), 2)
  >>> print(total, doubled)
  10.0 [0. 2. 4. 6. 8.]
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp


def sum_over_microbatches(
    sum_fn: Callable[..., tuple[Any, ...]],
    args: Sequence[Any],
    batch_argnums: Sequence[int | None],
    is_padding_example: jax.Array,
    microbatch_size: int | None,
    axis_names: Sequence[str] = (),
) -> tuple[Any, ...]:
  """Calls `sum_fn` on microbatches, sums its first output, joins the others.

  Args:
    sum_fn: `sum_fn(args, is_padding_example)` returning `(total, *rest)`: total
      a sum over the batch, every leaf of rest with a leading batch axis.
    args: Arguments; leaves of those in `batch_argnums` have a leading axis
      of batch_size.
    batch_argnums: Positions of the batch arguments.
    is_padding_example: Mask of padding rows, bool [batch_size].
    microbatch_size: Number of rows at a time; None for all at once. Need not
      divide the batch: the last microbatch is filled up with padding.
    axis_names: Names of a mesh's axes over which `sum_fn` communicates: all its
      devices then run as many microbatches, or they would wait for each other.

  Returns:
    What `sum_fn` returns for the whole batch, with rows of padding set to 0 in
    rest: False for Booleans, the key of zeros for PRNG keys.
  """
  batch_size = is_padding_example.shape[0]
  if batch_size == 0:
    return _empty(sum_fn, args, batch_argnums, is_padding_example)
  if microbatch_size is None or microbatch_size >= batch_size:
    total, *rest = sum_fn(args, is_padding_example)
    return total, *_zero_padding(rest, is_padding_example)

  missing = -batch_size % microbatch_size
  args = _map_batched(args, batch_argnums, lambda x: _repeat_last(x, missing))
  is_padding_example = jnp.pad(
      is_padding_example, (0, missing), constant_values=True
  )

  def rows_of(index, x):
    start = index * microbatch_size
    return jax.lax.dynamic_slice_in_dim(x, start, microbatch_size)

  def run(index):
    take = functools.partial(rows_of, index)
    rows = _map_batched(args, batch_argnums, take)
    return sum_fn(rows, take(is_padding_example))

  def body(index, carry):
    def put(joined, part):
      start = index * microbatch_size
      return jax.lax.dynamic_update_slice_in_dim(joined, part, start, axis=0)

    total, *rest = run(index)
    return (
        jax.tree.map(jnp.add, carry[0], total),
        *jax.tree.map(put, carry[1:], tuple(rest)),
    )

  shapes = jax.eval_shape(run, 0)
  num_real = _num_real_microbatches(is_padding_example, microbatch_size)
  if axis_names:
    num_real = jax.lax.pmax(num_real, tuple(axis_names))
  init = _zeros(shapes, batch_size + missing)
  total, *rest = jax.lax.fori_loop(0, num_real, body, init)
  rest = _zero_padding(rest, is_padding_example)
  return total, *jax.tree.map(lambda x: x[:batch_size], tuple(rest))


def _zero_padding(rest, is_padding_example):
  """Sets rows of padding to 0, whatever was computed there, NaN included."""

  def one(x):
    mask = jnp.expand_dims(is_padding_example, range(1, x.ndim))
    return jnp.where(mask, jnp.zeros_like(x), x)

  return jax.tree.map(one, tuple(rest))


def _num_real_microbatches(is_padding_example, microbatch_size):
  """Returns one more than the index of the last one with a real example."""
  has_real = ~is_padding_example.reshape(-1, microbatch_size).all(axis=1)
  numbers = jnp.arange(1, has_real.size + 1)
  return jnp.max(jnp.where(has_real, numbers, 0))


def _map_batched(args, batch_argnums, fn):
  return tuple(
      jax.tree.map(fn, arg) if i in batch_argnums else arg
      for i, arg in enumerate(args)
  )


def _repeat_last(x, missing):
  """Appends copies of the last row: values a loss is sure to accept."""
  if missing == 0:
    return x
  return jnp.concatenate([x, jnp.repeat(x[-1:], missing, axis=0)])


def _empty(sum_fn, args, batch_argnums, is_padding_example):
  """The result for no rows: zeros of the shapes that one row would give."""

  def one_row(x):
    return jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)

  args = _map_batched(args, batch_argnums, one_row)
  return _zeros(jax.eval_shape(sum_fn, args, one_row(is_padding_example)), 0)


def _zeros(shapes, batch_size):
  """Zeros like `(total, *rest)`, with `batch_size` rows in rest."""

  def rows(x):
    return jnp.zeros((batch_size, *x.shape[1:]), x.dtype)

  total, *rest = shapes
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), total)
  return zeros, *jax.tree.map(rows, tuple(rest))
