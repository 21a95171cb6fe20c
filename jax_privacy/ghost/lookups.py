"""Rows of a table, made of rows of what the table is made of.

A row of a table that is masked, scaled, padded or put together of others is
made of rows of these: no table's gradient is made for each example.

The invariant: the rows are the same, bit for bit. An id that is out of range
reads what it read before.

Example:
  >>> from jax_privacy.ghost import lookups
  >>> "mul" in lookups.ELEMENTWISE
  True
"""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jax_privacy import jaxprs
from jax_privacy.ghost import tracing
from jax_privacy.ghost.making import Made
from jax_privacy.ghost.rules import axes

Move = Callable[[tracing.Env], jax.Array]

# Primitives of which each number depends on the numbers in its place.
ELEMENTWISE = frozenset(
    ("abs", "add", "clamp", "cos", "div", "exp", "integer_pow", "log")
    + ("logistic", "max", "min", "mul", "neg", "rsqrt", "select_n", "sign")
    + ("sin", "sqrt", "square", "sub", "tanh")
)
_FILL = jax.lax.GatherScatterMode.FILL_OR_DROP
_CLIP = jax.lax.GatherScatterMode.CLIP


def push(eqn: Any, at: int, made: Made) -> Move | None:
  """Returns a function from values to the rows, or None to leave them.

  Args:
    eqn: Equation of a lookup, `gather`.
    at: Number of its operand that is the weight.
    made: Equations that make the weight.
  """
  if at != 0 or made.chain or not _is_lookup(eqn):
    return None
  if made.name in ELEMENTWISE:
    return _elementwise(eqn, made)
  if made.name in ("concatenate", "pad"):
    return _joined(eqn, made)
  return None


def _is_lookup(eqn) -> bool:
  """Whether whole rows, along one axis, are looked up by their ids."""
  numbers, sizes = jaxprs.params(
      eqn, "dimension_numbers", "slice_sizes"
  ).values()
  table = eqn.invars[0].aval
  looked_up = tuple(numbers.collapsed_slice_dims)
  return (
      len(looked_up) == 1
      and tuple(numbers.start_index_map) == looked_up
      and not numbers.operand_batching_dims
      and all(
          sizes[i] == table.shape[i] for i in axes.others(table.ndim, looked_up)
      )
      and jnp.issubdtype(table.dtype, jnp.floating)
  )


def _axis(eqn) -> int:
  """The axis of the table that ids count along."""
  return jaxprs.param(eqn, "dimension_numbers").collapsed_slice_dims[0]


def _rows(eqn, table, ids):
  """Rows of a table with as many axes; ids are clipped."""
  axis = _axis(eqn)
  sizes = tuple(1 if i == axis else n for i, n in enumerate(table.shape))
  changes = {"slice_sizes": sizes, "mode": _CLIP, "fill_value": None}
  return jaxprs.bind(eqn, [table, ids], **changes)[0]


def _elementwise(eqn, made) -> Move | None:
  """Rows of f(A, B) are f of rows of A and of B."""
  axis, shape = _axis(eqn), made.shape
  atoms = made.maker.invars
  for atom in atoms:
    own = atom.aval.shape
    is_small = all(n in (1, m) for n, m in zip(own, shape, strict=False))
    if own and (len(own) != len(shape) or not is_small):
      return None
  out = eqn.outvars[0].aval.shape

  def move(env):
    ids = env[eqn.invars[1]]
    operands = []
    for atom in atoms:
      value = jnp.asarray(tracing.read(env, atom))
      if value.ndim:
        if value.shape[axis] == 1 != shape[axis]:
          value = jnp.broadcast_to(
              value,
              [
                  shape[axis] if i == axis else n
                  for i, n in enumerate(value.shape)
              ],
          )
        value = jnp.broadcast_to(_rows(eqn, value, ids), out)
      operands.append(value)
    (made_rows,) = jaxprs.bind(made.maker, operands)
    return _filled(eqn, made_rows, ids)

  return move


def _joined(eqn, made) -> Move | None:
  """Rows of tables after each other are rows of the one that has them."""
  axis, maker = _axis(eqn), made.maker
  if made.name == "concatenate":
    if jaxprs.param(maker, "dimension") != axis:
      return None
    tables, first, rest = list(maker.invars), 0, None
  else:
    pads = jaxprs.param(maker, "padding_config")
    others = [p for i, p in enumerate(pads) if i != axis]
    if any(p != (0, 0, 0) for p in map(tuple, others)):
      return None
    low, high, inner = pads[axis]
    if min(low, high) < 0 or inner:
      return None
    tables, first, rest = [maker.invars[0]], int(low), maker.invars[1]
  sizes = [v.aval.shape[axis] for v in tables]
  if 0 in sizes:
    return None
  ends = list(itertools.accumulate(sizes, initial=first))

  def move(env):
    ids = _clipped(eqn, env[eqn.invars[1]])
    shape = eqn.outvars[0].aval.shape
    found = None if rest is None else tracing.read(env, rest)
    made_rows = jnp.zeros(shape, eqn.outvars[0].aval.dtype)
    if found is not None:
      made_rows = jnp.broadcast_to(found, shape)
    for atom, start, end in zip(tables, ends[:-1], ends[1:], strict=True):
      rows = _rows(eqn, tracing.read(env, atom), ids - start)
      is_own = _per_row(eqn, (ids >= start) & (ids < end))
      made_rows = jnp.where(is_own, rows, made_rows)
    return _filled(eqn, made_rows, env[eqn.invars[1]])

  return move


def _clipped(eqn, ids):
  """Ids in range, of a dtype in which the table's size can be counted."""
  size = eqn.invars[0].aval.shape[_axis(eqn)]
  limits = jnp.iinfo(ids.dtype)
  if not jnp.issubdtype(ids.dtype, jnp.signedinteger) or limits.bits < 32:
    high = min(size - 1, limits.max)
    return jnp.clip(ids, 0, high).astype("int32")
  return jnp.clip(ids, 0, size - 1)


def _per_row(eqn, of_ids):
  """What is known of ids, in the axes of the output."""
  offsets = jaxprs.param(eqn, "dimension_numbers").offset_dims
  return jnp.expand_dims(of_ids[..., 0], offsets)


def _filled(eqn, made_rows, ids):
  """Rows, with what the lookup gives for an id that is out of range."""
  if jaxprs.param(eqn, "mode") != _FILL:
    return made_rows
  size = eqn.invars[0].aval.shape[_axis(eqn)]
  value = jaxprs.param(eqn, "fill_value")
  value = jnp.nan if value is None else value
  is_row = _per_row(eqn, _in_range(ids, size))
  return jnp.where(is_row, made_rows, jnp.asarray(value, made_rows.dtype))


def _in_range(ids, size):
  """Whether ids are in range, whatever their dtype."""
  limits = jnp.iinfo(ids.dtype)
  is_row = ids >= 0
  return is_row if limits.max < size else is_row & (ids < size)
