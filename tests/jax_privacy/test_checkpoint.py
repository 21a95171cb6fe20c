import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jax_privacy import checkpoint, noise_addition


def _state(scale=1.0):
  params = {
      "w": scale * jnp.arange(6.0).reshape(2, 3),
      "b": jnp.bfloat16(scale),
  }
  optimizer = optax.chain(
      noise_addition.gaussian_privatizer(stddev=1.0, prng_key=3),
      optax.adam(1e-3),
  )
  return {
      "params": params,
      "opt_state": optimizer.init(params),
      "step": jnp.int32(4),
      "key": jax.random.key(5),
  }


def _bits(tree):
  def data(x):
    is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(x) if is_key else x)

  return [(data(x).dtype, data(x).tobytes()) for x in jax.tree.leaves(tree)]


def test_comes_back_to_the_bit(tmp_path):
  state = _state()
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.restore_latest(state) is None
    checkpoints.save(1, _state(0.5))
    checkpoints.save(7, state)
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    step, restored = checkpoints.restore_latest(jax.eval_shape(_state))
  assert step == 7
  assert _bits(restored) == _bits(state)
  assert jax.tree.structure(restored) == jax.tree.structure(state)
  assert jnp.issubdtype(restored["key"].dtype, jax.dtypes.prng_key)


def test_a_part_can_be_read(tmp_path):
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(7, _state())
    _, part = checkpoints.restore_latest({"params": _state()["params"]})
  assert set(part) == {"params"}


def test_only_the_newest_are_kept(tmp_path):
  with checkpoint.Checkpoints(tmp_path, keep=2) as checkpoints:
    for step in range(1, 6):
      checkpoints.save(step, {"step": jnp.int32(step)})
    step, _ = checkpoints.restore_latest({"step": jnp.int32(0)})
  assert step == 5
  assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["4", "5"]


def test_another_structure_is_refused(tmp_path):
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, {"params": {"w": jnp.ones(3)}})
    for like in ({"w": jnp.ones(3), "extra": jnp.ones(1)}, {"v": jnp.ones(3)}):
      with pytest.raises(ValueError):
        checkpoints.restore_latest({"params": like})


def test_bad_keep(tmp_path):
  with pytest.raises(ValueError, match="keep must be an integer"):
    checkpoint.Checkpoints(tmp_path, keep=0)
