"""A batch that carries its mask cannot be read without it."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jax_privacy import clipping, dp_sgd, padded_batch

_MECHANISM = types.SimpleNamespace(
    noise_multiplier=1.0,
    num_steps=3,
    sampling="poisson",
    sampling_prob=0.5,
    num_examples=64,
    max_batch_size=None,
)
_REMEDY = r"take.*is_padding_example"


def _private(**options):
  return dp_sgd.make_private(
      lambda w, x: jnp.sum(x @ w),
      optax.sgd(1.0),
      _MECHANISM,
      key=0,
      **{"l2_clip_norm": 1.0} | options,
  )


def _batch(indices=(2, 0, -1, 1, -1), num_examples=3):
  return padded_batch.PaddedBatch(np.array(indices, np.int8), num_examples)


@pytest.mark.parametrize(
    "misuse",
    [
        lambda batch: np.arange(3.0)[batch],
        lambda batch: jnp.arange(3.0)[batch],
        lambda batch: [1, 2, 3][batch],
        np.asarray,
        jnp.asarray,
        list,
        len,
        lambda batch: batch < 0,
        lambda batch: batch >= 0,
        lambda batch: batch[0],
        lambda batch: np.take(np.arange(3.0), batch),
        lambda batch: jax.jit(lambda x, b: x[b])(jnp.arange(3.0), batch),
    ],
)
def test_it_is_no_array(misuse):
  # IndexError is JAX's own.
  with pytest.raises((TypeError, IndexError), match=_REMEDY):
    misuse(_batch())


def test_the_loop_without_a_mask_is_refused():
  private = _private()
  batch = private.sampler.batch(0)
  x = jnp.ones((64, 3))
  with pytest.raises(IndexError, match=_REMEDY):
    x[batch]
  for grad_fn in (private.grad_fn, jax.jit(private.grad_fn)):
    message = "is_padding_example must be batch.is_padding_example.*got None"
    with pytest.raises(ValueError, match=message):
      grad_fn(jnp.zeros(3), batch.take(x))
    with pytest.raises(ValueError, match=message):
      grad_fn(jnp.zeros(3), batch.take(x), is_padding_example=None)


def test_no_record_is_read_for_padding():
  # A sum over a batch without the last record must not move with that record.
  private = _private()
  batch = private.sampler.batch(0)
  assert batch.is_padding_example.any()
  rest = padded_batch.PaddedBatch(
      np.where(batch.indices == 63, np.int8(-1), batch.indices), 64
  )
  x = np.ones((64, 3), np.float32)
  without = np.array(x)
  without[63] = -1.0
  grad_fn = jax.jit(private.grad_fn)
  sums = [
      grad_fn(
          jnp.zeros(3),
          rest.take(records),
          is_padding_example=rest.is_padding_example,
      )
      for records in (x, without)
  ]
  np.testing.assert_array_equal(*sums)
  # What the mask is for: with -1 as an index, and no mask, they are as many
  # clip norms apart as there are rows of padding, twice.
  unmasked_fn = jax.jit(
      clipping.clipped_grad(lambda w, x: jnp.sum(x @ w), l2_clip_norm=1.0)
  )
  planted = [unmasked_fn(jnp.zeros(3), r[rest.indices]) for r in (x, without)]
  moved = np.linalg.norm(planted[0] - planted[1])
  num_padding = rest.is_padding_example.sum()
  assert abs(moved - 2 * num_padding) < 1e-4 * num_padding
  # And if a mask is forgotten behind `take`, that record is still not there.
  taken = [unmasked_fn(jnp.zeros(3), rest.take(r)) for r in (x, without)]
  np.testing.assert_array_equal(*taken)


@pytest.mark.parametrize("to", [np.asarray, jnp.asarray])
def test_take(to):
  examples = {
      "x": to(np.arange(6, dtype=np.float16).reshape(3, 2)),
      "is_new": to([True, True, False]),
      "id": to(np.array([7, 8, 9], np.uint8)),
  }
  for batch in (_batch(), jax.tree.map(jnp.asarray, _batch())):
    got = batch.take(examples)
    np.testing.assert_array_equal(
        got["x"], [[4, 5], [0, 1], [0, 0], [2, 3], [0, 0]]
    )
    np.testing.assert_array_equal(got["is_new"], [0, 1, 0, 1, 0])
    np.testing.assert_array_equal(got["id"], [9, 7, 0, 8, 0])
    for name, leaf in got.items():
      assert leaf.dtype == examples[name].dtype
  jitted = jax.jit(lambda b, e: (b.take(e), b.is_padding_example))
  again, is_padding = jitted(_batch(), examples)
  jax.tree.map(np.testing.assert_array_equal, again, got)
  np.testing.assert_array_equal(is_padding, [0, 0, 1, 0, 1])


def test_take_of_keys_and_of_nothing():
  keys = jax.random.split(jax.random.key(0), 3)
  got = _batch().take(keys)
  assert (got[jnp.array([0, 1, 3])] == keys[jnp.array([2, 0, 1])]).all()
  empty = _batch((-1, -1)).take({"x": np.ones((3, 2))})
  np.testing.assert_array_equal(empty["x"], np.zeros((2, 2)))


@pytest.mark.parametrize("to", [np.asarray, jnp.asarray])
@pytest.mark.parametrize("num_examples", [3, None])
def test_too_few_records_are_refused(to, num_examples):
  # JAX would read the last record for every index beyond it.
  batch = _batch(num_examples=num_examples)
  message = r"examples\['y'\] must be arrays of 3 rows at least.*\(2,\)"
  with pytest.raises(ValueError, match=message):
    batch.take({"x": to(np.ones((3, 4))), "y": to(np.ones(2))})
  with pytest.raises(ValueError, match="examples must be arrays of 3 rows"):
    batch.take(to(1.0))


def test_the_sampler_knows_how_many_records_there_must_be():
  for sampling in ("poisson", "fixed_without_replacement"):
    mechanism = types.SimpleNamespace(
        **{**vars(_MECHANISM), "sampling": sampling}
    )
    batch = dp_sgd.make_sampler(mechanism, key=0).batch(0)
    with pytest.raises(ValueError, match="64 rows at least"):
      batch.take(np.ones((63, 2)))


def test_nothing_of_it_is_shown():
  batch = _private().sampler.batch(0)
  assert repr(batch) == str(batch) == repr(_batch())
