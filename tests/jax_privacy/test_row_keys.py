"""Keys by example keep the guarantee for removal; keys by position do not."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jax_privacy
from jax_privacy import dp_sgd

_SIZE, _WIDTH = 12, 64
_INDICES = np.array([5, 3, 8, 0, 11, 7, 2, 9, 4, 10, 1, 6], np.int8)


def _loss(w, x, key):
  """Its gradient is a direction that the key alone draws: as bad as can be."""
  return jnp.sum(x) * jnp.dot(jax.random.normal(key, (_WIDTH,)), w)


def _grad_fn(**options):
  return jax_privacy.clipped_grad(
      _loss,
      l2_clip_norm=1.0,
      prng_argnum=2,
      keep_batch_dim=False,
      **options,
  )


def _keys(indices):
  return jax_privacy.example_keys(
      jax.random.key(0), step=3, indices=jnp.asarray(indices)
  )


def _moved(a, b):
  return float(jnp.linalg.norm(a - b))


def test_removing_a_row_moves_the_sum_by_one_share():
  grad_fn = _grad_fn(keys_by_example=True)
  bound = grad_fn.sensitivity("add_or_remove_one")
  run = jax.jit(grad_fn)
  w, x = jnp.zeros(_WIDTH), jnp.ones(_SIZE)
  # Float32 sums of 12 unit vectors are right to 12 x 12 x 2^-24 < 1e-5.
  total = run(w, x, _keys(_INDICES))
  for row in (0, _SIZE - 1):
    rest = np.delete(_INDICES, row)
    removed = run(w, x[1:], _keys(rest))
    assert 0.99 < _moved(total, removed) <= bound + 1e-5
    # And where the batch is padded, with no key of an example.
    padded = np.append(rest, -1)
    removed = run(w, x, _keys(padded), is_padding_example=padded < 0)
    assert _moved(total, removed) <= bound + 1e-5
    replaced = np.array(_INDICES)
    replaced[row] = 12
    other = run(w, x, _keys(replaced))
    assert _moved(total, other) <= grad_fn.sensitivity("replace_one") + 1e-5


def test_keys_by_position_claim_no_removal():
  grad_fn = _grad_fn()
  run = jax.jit(grad_fn)
  # Rows of either sign in turn. Without the first, each key meets the other
  # sign: the sum moves by twice 11 unit vectors and one more, about sqrt(45).
  w, x = jnp.zeros(_WIDTH), jnp.asarray((-1.0) ** np.arange(_SIZE))
  x, key = x.astype(jnp.float32), jax.random.key(0)
  total = run(w, x, key)
  assert _moved(total, run(w, x[1:], key)) > 4
  with pytest.raises(
      ValueError, match="relation must be .*keys go by position"
  ):
    grad_fn.sensitivity("add_or_remove_one")
  # The planted bug: such keys, passed off as those of examples.
  keys = jax.random.split(key, _SIZE)
  planted = _grad_fn(keys_by_example=True)
  run_planted = jax.jit(planted)
  np.testing.assert_array_equal(run_planted(w, x, keys), total)
  moved = _moved(run_planted(w, x[1:], jax.random.split(key, _SIZE - 1)), total)
  assert moved > 4 * planted.sensitivity("add_or_remove_one")
  # What is claimed holds: rows stay where they are.
  assert grad_fn.sensitivity() == grad_fn.sensitivity("replace_special") == 1.0
  for row in (0, _SIZE - 1):
    gone = run(w, x, key, is_padding_example=np.arange(_SIZE) == row)
    assert _moved(total, gone) <= 1.0 + 1e-5
    other = run(w, x.at[row].set(-x[row]), key)
    assert _moved(total, other) <= grad_fn.sensitivity("replace_one") + 1e-5


@pytest.mark.parametrize(
    "key",
    [
        jax.random.key(0),
        jax.random.PRNGKey(0),
        jax.random.split(jax.random.key(0), 3),
        jnp.zeros((4, 2)),
        np.arange(4),
    ],
)
def test_one_key_for_all_is_refused_where_keys_are_by_example(key):
  grad_fn = _grad_fn(keys_by_example=True)
  message = "argument at prng_argnum must be 4 keys.*example_keys"
  with pytest.raises(ValueError, match=message):
    grad_fn(jnp.zeros(_WIDTH), jnp.ones(4), key)


def test_raw_keys_are_keys():
  keys = _keys(_INDICES)
  args = jnp.zeros(_WIDTH), jnp.ones(_SIZE)
  grad_fn = jax.jit(_grad_fn(keys_by_example=True))
  np.testing.assert_array_equal(
      grad_fn(*args, jax.random.key_data(keys)), grad_fn(*args, keys)
  )


def test_a_key_is_a_function_of_run_step_and_index_alone():
  data = lambda keys: np.asarray(jax.random.key_data(keys))
  want = data(_keys(_INDICES))
  for dtype in (np.int16, np.int32):
    np.testing.assert_array_equal(data(_keys(_INDICES.astype(dtype))), want)
  padded = np.append(_INDICES, -1)
  np.testing.assert_array_equal(data(_keys(padded))[:-1], want)
  other = jax_privacy.example_keys(
      jax.random.key(0), step=4, indices=jnp.asarray(padded)
  )
  assert len(np.unique(np.r_[data(_keys(padded)), data(other)], axis=0)) == 26


def test_make_private_takes_keys_by_example_alone():
  mechanism = types.SimpleNamespace(
      noise_multiplier=1.0,
      num_steps=3,
      sampling="poisson",
      sampling_prob=0.5,
      num_examples=_SIZE,
      max_batch_size=None,
  )

  def make(**options):
    return dp_sgd.make_private(
        _loss,
        optax.sgd(0.1),
        mechanism,
        l2_clip_norm=1.0,
        key=0,
        prng_argnum=2,
        keep_batch_dim=False,
        **options,
    )

  private = make()
  batch = private.sampler.batch(0)
  x, w = batch.take(jnp.ones(_SIZE)), jnp.zeros(_WIDTH)
  mask = batch.is_padding_example
  with pytest.raises(ValueError, match="one for each row"):
    private.grad_fn(w, x, jax.random.key(1), is_padding_example=mask)
  keys = _keys(batch.indices)
  grads = jax.jit(private.grad_fn)(w, x, keys, is_padding_example=mask)
  assert np.isfinite(grads).all() and np.any(grads)
  make(keys_by_example=True)
  with pytest.raises(ValueError, match="keys_by_example must be True"):
    make(keys_by_example=False)


def test_keys_by_example_need_an_argument():
  with pytest.raises(ValueError, match="keys_by_example must be False without"):
    jax_privacy.clipped_grad(_loss, l2_clip_norm=1.0, keys_by_example=True)
