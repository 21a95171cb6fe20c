"""Makes batches that differ from a batch in one example.

The invariant: shapes and dtypes never change, and no row but the one named.
Arrays are NumPy's: a check makes hundreds of batches, and JAX's own updates of
a row take longer than the gradient of a small model.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy.testing import neighbours
  >>> batch = (jnp.array([1.0, 2.0]),)
  >>> variants = list(neighbours.replacements(batch, 0))
  >>> print(*variants[:2])
  ('replaced by example 1', (array([2., 2.], dtype=float32),))
  ('with [0] times 0', (array([0., 2.], dtype=float32),))
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

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
    batch: Pytree of arrays with a leading batch axis. Key arrays stay.
    row: Index of the row to replace.
  """
  size = len(jax.tree.leaves(batch)[0])
  for other in range(size):
    if other != row:
      indices = np.arange(size)
      indices[row] = other
      yield f"replaced by example {other}", take(batch, indices)
  flat, treedef = jax.tree_util.tree_flatten_with_path(batch)
  names = [jax.tree_util.keystr(path) for path, _ in flat]
  leaves = [_host(leaf) for _, leaf in flat]
  floats = [i for i, x in enumerate(leaves) if _is(x, jnp.floating)]
  groups = [[i] for i in floats]
  groups += [floats] if len(floats) > 1 else []
  for group in groups:
    name = ", ".join(names[i] for i in group)
    for what, edit in _edits():
      changed = list(leaves)
      for i in group:
        changed[i] = _with_row(leaves[i], row, edit(leaves[i][row]))
      yield f"with {name} {what}", treedef.unflatten(changed)
  for i, x in enumerate(leaves):
    for what, pick in (("least", np.min), ("largest", np.max)):
      if _is(x, jnp.integer) and x.size:
        changed = list(leaves)
        changed[i] = _with_row(x, row, pick(x))
        yield f"with {names[i]} at its {what}", treedef.unflatten(changed)


def take(batch: Any, indices: Sequence[int] | np.ndarray) -> Any:
  """Returns the rows of a batch at `indices`, in that order.

  Args:
    batch: Pytree of arrays [batch_size, ...].
    indices: Indices of rows, [n].
  """
  indices = np.asarray(indices, dtype=np.int32)
  return jax.tree.map(lambda x: _host(x)[indices], batch)


def fill(batch: Any, rows: np.ndarray, value: float) -> Any:
  """Returns the batch with `value` in the floating-point arrays at `rows`.

  Args:
    batch: Pytree of arrays [batch_size, ...].
    rows: Mask of the rows, bool [batch_size].
    value: Any float.
  """

  def put(x):
    x = _host(x)
    return _with_row(x, rows, value) if _is(x, jnp.floating) else x

  return jax.tree.map(put, batch)


def scale(batch: Any, factor: float) -> Any:
  """Returns the batch with its floating-point arrays times `factor`.

  Args:
    batch: Pytree of arrays [batch_size, ...].
    factor: Any float.
  """
  return jax.tree.map(lambda x: _times(_host(x), factor), batch)


def _host(leaf):
  """The leaf as NumPy's array, of a dtype JAX has; keys stay as they are."""
  if hasattr(leaf, "dtype") and _is(leaf, jax.dtypes.prng_key):
    return leaf
  x = np.asarray(leaf)
  return x.astype(jax.dtypes.canonicalize_dtype(x.dtype), copy=False)


def _with_row(x, row, value):
  """A copy of `x` with the given row, or the rows of a mask, replaced."""
  x = x.copy()
  with np.errstate(over="ignore"):  # 1e30 is infinite in float16.
    x[row] = value
  return x


def _edits():
  for s in _SCALES:
    yield f"times {s:g}", lambda x, s=s: _times(x, s)
  for v in _VALUES:
    yield f"at {v}", lambda x, v=v: np.full_like(x, v)


def _times(x, factor):
  if not _is(x, jnp.floating):
    return x
  with np.errstate(all="ignore"):
    return x * np.asarray(factor).astype(x.dtype)


def _is(x, kind):
  return jnp.issubdtype(x.dtype, kind)
