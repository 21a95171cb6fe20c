"""What NumPy does for the tests in place of JAX gives JAX's bits and types."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import eager_moves

_X = np.arange(6, dtype=np.float32).reshape(2, 3) - 2.5
_CASES = {
    "broadcast": lambda x: jax.lax.broadcast_in_dim(x, (2, 4, 3), (0, 2)),
    "concatenate": lambda x: jax.lax.concatenate([x, x + 1], 1),
    "convert": lambda x: jax.lax.convert_element_type(x < 0, jnp.float32),
    "convert_float": lambda x: jax.lax.convert_element_type(x, jnp.int32),
    "dynamic_slice": lambda x: jax.lax.dynamic_slice(x, (1, -9), (1, 2)),
    "iota": lambda x: x + jax.lax.broadcasted_iota(jnp.float32, (2, 3), 1),
    "reshape": lambda x: jax.lax.reshape(x, (3, 2)),
    "reshape_turned": lambda x: jax.lax.reshape(x, (6,), (1, 0)),
    "slice": lambda x: jax.lax.slice(x, (0, 1), (2, 3), (1, 2)),
    "squeeze": lambda x: jax.lax.squeeze(x[:1], (0,)),
    "transpose": lambda x: jax.lax.transpose(x, (1, 0)),
    "unstack": lambda x: jnp.unstack(x, axis=1),
    "weak": lambda x: jax.lax.full((2,), 0.1),
    "weak_slice": lambda x: jax.lax.dynamic_slice(
        jax.lax.full((3,), 0.1), (np.int32(1),), (1,)
    ),
}


@pytest.mark.parametrize("name", list(_CASES))
def test_moves_are_those_of_a_program(name):
  x = jnp.asarray(_X)
  got, want = _CASES[name](x), jax.jit(_CASES[name])(x)
  assert jax.tree.map(jax.typeof, got) == jax.tree.map(jax.typeof, want)
  jax.tree.map(np.testing.assert_array_equal, got, want)


@pytest.mark.skipif(bool(os.environ.get("FULL_XLA")), reason="not done then")
def test_no_program_is_compiled(caplog):
  with jax.log_compiles():
    x = jnp.asarray(np.zeros((3, 29)))
    x = jnp.concatenate([jnp.reshape(x, (29, 3)), jnp.zeros((5, 3))])[:, 1]
    assert "Compiling" not in caplog.text
    jnp.tanh(x)
  assert "Compiling" in caplog.text


def test_what_is_moved_shares_no_memory_and_can_be_donated():
  x = jnp.zeros((5, 7))
  y = jnp.reshape(x, (7, 5))
  jax.jit(lambda x: x + 1, donate_argnums=0)(x).block_until_ready()
  assert x.is_deleted() and not np.asarray(y).any()


def test_what_comes_often_is_compiled():
  x = jnp.arange(11.0)
  made = [jax.lax.reshape(x, (1, 11)) for _ in range(2 * eager_moves._OFTEN)]
  assert all((m == x[None]).all() for m in made)
