"""Ghost clipping of tables read by ids of any integer dtype, in any mode.

Two ids that are cut to one give two rows of the sum one norm. vmap, which makes
every gradient, is the oracle; ids go to both ends of their dtype.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_privacy
from jax_privacy.ghost import rules
from tests.support import zoo

_ROWS = 100  # JAX's own modes want it to fit int8.
_DTYPES = ("int8", "uint32", "int64", "uint64")
_MODES = jax.lax.GatherScatterMode
_NUMBERS = jax.lax.GatherDimensionNumbers(
    offset_dims=(1,), collapsed_slice_dims=(0,), start_index_map=(0,)
)


def _gather(mode):
  return lambda table, ids: jax.lax.gather(
      table, ids[:, None], _NUMBERS, (1, 2), mode=mode
  )


# jnp.take's modes, and all other indexing, are these with ids moved before.
_WAYS = [
    *map(_gather, (_MODES.CLIP, _MODES.FILL_OR_DROP, _MODES.PROMISE_IN_BOUNDS)),
    lambda table, ids: jnp.take(table, ids, 0, mode="wrap"),
    lambda table, ids: table[ids],
]


def _extremes(dtype):
  """Pairs of ids that narrowing to 32, 16 or 8 bits would make one or move."""
  limits = np.iinfo(dtype)
  near = [0, 1, _ROWS - 1, _ROWS, -1, -_ROWS, -_ROWS - 1]
  near += [sign * 2**k + i for sign in (1, -1) for k in (7, 8, 15, 16, 31, 32)
           for i in (-1, 0, 1)]  # fmt: skip
  near += [limits.min, limits.min + 1, limits.max - 1, limits.max]
  fitting = sorted({i for i in near if limits.min <= i <= limits.max})
  # Each example reads two: one after the other, and one from either end.
  pairs = [*zip(fitting, fitting[1:], strict=False),
           *zip(fitting, reversed(fitting), strict=True)]  # fmt: skip
  return np.array(pairs, dtype)


def _both_methods(dtype):
  """What differs, in the norms and in the sum's, of ghost from vmap."""
  ids = jnp.asarray(_extremes(dtype))

  def loss(tables, ids, weight):
    rows = [way(table, ids) for way, table in zip(_WAYS, tables, strict=True)]
    rows = jnp.stack(rows)  # Those that are filled are NaN.
    return jnp.sum(jnp.where(jnp.isfinite(rows), rows, 0) * weight)

  weight = jnp.full((len(ids), len(_WAYS), 2, 2), 8.0, "float32")
  # A table and a clip norm of its own for each way: none hides another.
  tables = [jnp.zeros((_ROWS, 2), "float32") for _ in _WAYS]
  results = []
  for method in ("ghost", "vmap"):
    grad_fn = jax_privacy.clipped_grad(
        loss,
        l2_clip_norm=[1.0] * len(_WAYS),
        batch_argnums=(1, 2),
        keep_batch_dim=False,
        method=method,
        return_grad_norms=True,
    )
    total, aux = jax.jit(grad_fn, compiler_options=zoo.UNOPTIMISED)(
        tables, ids, weight
    )
    results.append((np.stack(total), np.stack(aux.grad_norms)))
  return results


@pytest.mark.few(1)
@pytest.mark.parametrize("dtype", _DTYPES)
def test_ids_of_any_dtype_at_any_extreme(dtype):
  with jax.enable_x64(True):
    (total, norms), (want, want_norms) = _both_methods(dtype)
  np.testing.assert_allclose(norms, want_norms, rtol=1e-5, atol=1e-12)
  np.testing.assert_allclose(total, want, rtol=1e-5, atol=1e-5)


def test_a_clamp_on_one_side_is_caught(monkeypatch):
  def from_above(ids):
    limit = min(jnp.iinfo(ids.dtype).max, jnp.iinfo("int32").max)
    return jnp.minimum(ids, jnp.asarray(limit, ids.dtype)).astype("int32")

  monkeypatch.setattr(rules.embedding, "_as_int32", from_above)
  with jax.enable_x64(True):
    (total, norms), (want, want_norms) = _both_methods("int64")
  assert not np.allclose(norms, want_norms, rtol=1e-5)
  assert not np.allclose(total, want, rtol=1e-5, atol=1e-5)
