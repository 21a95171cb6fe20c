"""Makes batches that differ from a batch in one example.

The invariant: shapes and dtypes never change, and no row but the one named.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy.testing import neighbours
  >>> batch = (jnp.array([1.0, 2.0]),)
  >>> variants = list(neighbours.replacements(batch, 0))
  >>> print(*variants[:2])
  ('replaced by example 1', (Array([2., 2.], dtype=float32),))
  ('with [0] times 0', (Array([0., 2.], dtype=float32),))
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

# From where squares vanish to where they overflow, past float16's range on the
# way; 1e30 times a value of 1e9 is an infinity.
_SCALES = (0.0, -1.0) + tuple(
    sign * 10.0**power
    for power in (-30, -10, -5, -4, -3, -2, -1, 1, 2, 4, 10, 15, 20, 30)
    for sign in (1, -1)
)
_VALUES = (math.nan, math.inf, -math.inf)


def replacements(batch: Any, row: int) -> Iterator[tuple[str, Any]]:
  """Yields (description, batch) with one row replaced, adversarially.

  By each other row; by itself with one floating-point array, or all, scaled,
  negated, zeroed or not finite; or with an integer array at the least or the
  largest value that the batch holds (others may not be valid).

  Args:
    batch: A pytree of arrays with a leading batch axis. Key arrays stay.
    row: Which to replace.
  """
  size = len(jax.tree.leaves(batch)[0])
  for other in range(size):
    if other != row:
      indices = jnp.arange(size).at[row].set(other)
      yield f"replaced by example {other}", take(batch, indices)
  flat, treedef = jax.tree_util.tree_flatten_with_path(batch)
  names = [jax.tree_util.keystr(path) for path, _ in flat]
  leaves = [jnp.asarray(leaf) for _, leaf in flat]
  floats = [i for i, x in enumerate(leaves) if _is(x, jnp.floating)]
  groups = [[i] for i in floats]
  groups += [floats] if len(floats) > 1 else []
  for group in groups:
    name = ", ".join(names[i] for i in group)
    for what, edit in _edits():
      changed = list(leaves)
      for i in group:
        changed[i] = leaves[i].at[row].set(edit(leaves[i][row]))
      yield f"with {name} {what}", treedef.unflatten(changed)
  for i, x in enumerate(leaves):
    for what, pick in (("least", jnp.min), ("largest", jnp.max)):
      if _is(x, jnp.integer) and x.size:
        changed = list(leaves)
        changed[i] = x.at[row].set(pick(x))
        yield f"with {names[i]} at its {what}", treedef.unflatten(changed)


def take(batch: Any, indices: Sequence[int] | jax.Array) -> Any:
  """Returns the rows of a batch at `indices`, in that order."""
  indices = jnp.asarray(indices, dtype=jnp.int32)
  return jax.tree.map(lambda x: jnp.asarray(x)[indices], batch)


def fill(batch: Any, rows: jax.Array, value: float) -> Any:
  """Returns the batch with `value` in the floating-point arrays at `rows`.

  Args:
    batch: A pytree of arrays [batch_size, ...].
    rows: bool [batch_size].
    value: Any float.
  """

  def put(x):
    x = jnp.asarray(x)
    if not _is(x, jnp.floating):
      return x
    where = rows.reshape(-1, *[1] * (x.ndim - 1))
    return jnp.where(where, jnp.asarray(value, x.dtype), x)

  return jax.tree.map(put, batch)


def scale(batch: Any, factor: float) -> Any:
  """Returns the batch with its floating-point arrays times `factor`."""
  return jax.tree.map(lambda x: _times(jnp.asarray(x), factor), batch)


def _edits():
  for s in _SCALES:
    yield f"times {s:g}", lambda x, s=s: _times(x, s)
  for v in _VALUES:
    yield f"at {v}", lambda x, v=v: jnp.full_like(x, v)


def _times(x, factor):
  if not _is(x, jnp.floating):
    return x
  return x * jnp.asarray(factor).astype(x.dtype)


def _is(x, kind):
  return jnp.issubdtype(x.dtype, kind)
