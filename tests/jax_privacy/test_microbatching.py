import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_privacy import microbatching


def _sum_fn(args, is_padding):
  scale, x = args
  total = {"sum": jnp.sum(jnp.where(is_padding, 0.0, scale * x))}
  return total, x + 1, {"none": None, "twice": 2 * x}


@functools.cache
def _compiled(microbatch_size):
  return jax.jit(
      lambda args, is_padding: microbatching.sum_over_microbatches(
          _sum_fn, args, (1,), is_padding, microbatch_size
      )
  )


@settings(max_examples=30, deadline=None)
@given(
    batch_size=st.integers(0, 13),
    microbatch_size=st.one_of(st.none(), st.integers(1, 15)),
    num_real=st.integers(0, 13),
)
def test_is_the_whole_batch_at_once(batch_size, microbatch_size, num_real):
  x = np.arange(1, batch_size + 1, dtype=np.float32)
  is_padding = np.arange(batch_size) >= num_real
  total, plus, rest = _compiled(microbatch_size)((3.0, x), is_padding)
  real = x[:num_real]
  np.testing.assert_allclose(total["sum"], 3 * real.sum(), rtol=1e-6)
  is_real = ~is_padding
  np.testing.assert_allclose(plus, np.where(is_real, x + 1, 0))
  np.testing.assert_allclose(rest["twice"], np.where(is_real, 2 * x, 0))
  assert plus.shape == (batch_size,) and rest["none"] is None


def test_memory_does_not_grow_with_the_batch():
  # Per-row work of 4096 floats: at once it needs batch x 4096, in microbatches
  # of 2 only 2 x 4096, beside inputs and outputs.
  def sum_fn(args, is_padding):
    del is_padding
    wide = jnp.sin(args[0][:, None] + jnp.arange(4096.0)[None])
    wide = jnp.sort(wide, axis=1)  # Nothing that fuses the array away.
    return (jnp.sum(wide),)

  def temporary_bytes(microbatch_size):
    fn = jax.jit(
        lambda x: microbatching.sum_over_microbatches(
            sum_fn, (x,), (0,), jnp.zeros(64, bool), microbatch_size
        )
    )
    compiled = fn.lower(jnp.zeros(64)).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  assert temporary_bytes(2) < temporary_bytes(None) / 8


@pytest.mark.parametrize("num_real, want", [(0, 0), (1, 2), (2, 2), (5, 6)])
def test_padding_at_the_end_is_skipped(num_real, want):
  rows = []

  def sum_fn(args, is_padding):
    jax.debug.callback(lambda x: rows.extend(x.tolist()), args[0])
    return (jnp.sum(jnp.where(is_padding, 0.0, args[0])),)

  (total,) = microbatching.sum_over_microbatches(
      sum_fn, (jnp.arange(8.0),), (0,), jnp.arange(8) >= num_real, 2
  )
  jax.effects_barrier()
  assert len(rows) == want
  assert total == sum(range(num_real))
