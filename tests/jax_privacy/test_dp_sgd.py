"""`make_private`: what it returns fits the mechanism, through the pipeline."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from accounting import Mechanism
from jax_privacy import dp_sgd, noise_addition, root_key, sensitivity
from tests.support import gaussian, oracle

_NUM_PARAMS = 20_000
_BATCH_SIZE = 16
_MECHANISM = Mechanism.for_batch_size(
    noise_multiplier=1.5,
    num_steps=6,
    num_examples=64,
    expected_batch_size=_BATCH_SIZE,
)


def _flat_loss(params, batch):
  """Its gradient is zero: an update is noise and nothing else."""
  return 0.0 * jnp.sum(params) + 0.0 * jnp.sum(batch)


def _updates(private, num_steps):
  """What sgd(1.0) is told to add, step by step, through the whole pipeline."""
  params = jnp.zeros(_NUM_PARAMS)
  state = private.optimizer.init(params)
  update = jax.jit(private.optimizer.update)
  grad_fn = jax.jit(private.grad_fn)
  updates = []
  for step in range(num_steps):
    indices = private.sampler.batch(step).indices
    data = jnp.zeros((len(indices), 2))
    grads = grad_fn(params, data, is_padding_example=indices < 0)
    change, state = update(grads, state, params)
    updates.append(np.asarray(change))
  return updates


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "microbatch_size, rescale, relation, secure",
    [
        (*case, False)
        for case in itertools.product(
            [None, 4], [False, True], ["add_or_remove_one", "replace_one"]
        )
    ]
    + [
        (None, False, "add_or_remove_one", True),
        (4, True, "replace_one", True),
    ],
)
def test_noise_through_the_pipeline(microbatch_size, rescale, relation, secure):
  private = dp_sgd.make_private(
      _flat_loss,
      optax.sgd(1.0),
      dataclasses.replace(_MECHANISM, neighboring_relation=relation),
      l2_clip_norm=0.1,
      key=jax.random.key(0),
      rescale_to_unit_norm=rescale,
      microbatch_size=microbatch_size,
      secure_random=secure,
      check_loss=False,
  )
  # Noise multiplier x clip norm, over the EXPECTED batch size.
  want = 1.5 * (1.0 if rescale else 0.1) / _BATCH_SIZE
  updates = _updates(private, 6)
  for update in updates:
    assert gaussian.has_stddev(update, want)
    assert not gaussian.has_stddev(update, want * 2 / 3)
    assert not gaussian.has_stddev(update, want * 3 / 2)
  for i, a in enumerate(updates):
    for b in updates[i + 1 :]:
      assert gaussian.are_uncorrelated(a, b)


def test_secure_random_is_keyed_by_all_of_the_root():
  root = root_key.RootKey.from_seed(2**100 + 1)
  make = lambda key: dp_sgd.make_private(
      _flat_loss,
      optax.sgd(1.0),
      _MECHANISM,
      l2_clip_norm=1.0,
      key=key,
      secure_random=True,
  )
  private = make(root)
  # Both are the cipher's, each with a key of its own.
  state = private.optimizer.init(jnp.zeros(9))[0]
  noise_key = root.derive("secure noise", 32)
  assert np.asarray(state.key).astype("<u4").tobytes() == noise_key
  sampler_key = private.sampler.batches.seed
  assert sampler_key.secret == root.derive("secure sampler", 32) != noise_key
  # A root that differs in a bit that a key of 64 bits has no room for.
  other = make(root_key.RootKey.from_seed(1))
  steps = range(len(private.sampler))
  batches = [private.sampler.batch(t).indices.tolist() for t in steps]
  assert batches != [other.sampler.batch(t).indices.tolist() for t in steps]
  first, second = _updates(private, 1)[0], _updates(other, 1)[0]
  assert gaussian.are_uncorrelated(first, second)
  # And not what NumPy's generator draws from the same root.
  plain = dp_sgd.make_sampler(_MECHANISM, key=root)
  assert batches != [plain.batch(t).indices.tolist() for t in steps]


def _noise(stddev):
  return noise_addition.gaussian_privatizer(
      stddev=stddev, prng_key=jax.random.key(0)
  )


@pytest.mark.parametrize(
    "factor, why",
    [
        (1 / _BATCH_SIZE, "a mean noised as if it were divided again"),
        (_BATCH_SIZE, "a mean noised as a sum is"),
        (2.0, "once per microbatch of four"),
        (1 / 0.1, "the clip norm forgotten"),
        (math.sqrt(8), "once per device of eight"),
    ],
)
def test_planted_scales_are_caught(factor, why):
  del why
  want = 1.5 * 0.1 / _BATCH_SIZE
  noise = _noise(want * factor)
  zeros = jnp.zeros(_NUM_PARAMS)
  update, _ = noise.update(zeros, noise.init(zeros))
  assert not gaussian.has_stddev(update, want)


def test_three_parts_come_from_one_mechanism():
  private = dp_sgd.make_private(
      lambda params, batch: jnp.mean((batch @ params) ** 2),
      optax.sgd(1.0),
      _MECHANISM,
      l2_clip_norm=2.0,
      key=0,
  )
  assert isinstance(private.grad_fn, sensitivity.BoundedSensitivityCallable)
  assert private.grad_fn.sensitivity() == 2.0 / 16
  assert len(private.sampler) == 6
  with pytest.raises(IndexError, match="step must be in"):
    private.sampler.batch(6)
  sizes = [(private.sampler.batch(t).indices >= 0).sum() for t in range(6)]
  assert len(set(sizes)) > 1  # Poisson.


def test_an_empty_batch_is_a_real_step():
  mechanism = dataclasses.replace(_MECHANISM, sampling_prob=1e-9)
  private = dp_sgd.make_private(
      _flat_loss, optax.sgd(1.0), mechanism, l2_clip_norm=1.0, key=0
  )
  indices = private.sampler.batch(0).indices
  assert len(indices) >= 1 and (indices == -1).all()
  first, second = _updates(private, 2)
  assert np.abs(first).min() > 0 and gaussian.are_uncorrelated(first, second)


def test_one_run_by_hand():
  # Two steps without the library's sums: same indices, same noise.
  x = jax.random.normal(jax.random.key(3), (64, 3))

  def loss(params, batch):
    return jnp.sum((batch @ params - 1.0) ** 2)

  private = dp_sgd.make_private(
      loss, optax.sgd(0.5), _MECHANISM, l2_clip_norm=0.7, key=jax.random.key(1)
  )
  params = want = jnp.zeros(3)
  state = private.optimizer.init(params)
  noise_key = state[0].prng_key
  grad_fn, update = jax.jit(private.grad_fn), jax.jit(private.optimizer.update)
  for step in range(2):
    indices = private.sampler.batch(step).indices
    grads = grad_fn(params, x[indices], is_padding_example=indices < 0)
    updates, state = update(grads, state, params)
    params = optax.apply_updates(params, updates)

    total, _ = oracle.clipped_sum(loss, want, x[indices[indices >= 0]], 0.7)
    leaf_key = jax.random.fold_in(jax.random.fold_in(noise_key, step), 0)
    noise = 1.5 * 0.7 * np.asarray(jax.random.normal(leaf_key, (3,)))
    want = want - 0.5 * jnp.asarray(total + noise, jnp.float32) / 16
    np.testing.assert_allclose(params, want, rtol=1e-5, atol=1e-7)


def test_keys():
  def run(key):
    private = dp_sgd.make_private(
        _flat_loss,
        optax.sgd(1.0),
        _MECHANISM,
        l2_clip_norm=1.0,
        key=key,
        check_loss=False,
    )
    batches = [private.sampler.batch(t).indices.tolist() for t in range(6)]
    return batches, _updates(private, 1)[0]

  batches, noise = run(root_key.RootKey.from_seed(0))
  same_batches, same_noise = run(0)
  assert batches == same_batches
  np.testing.assert_array_equal(noise, same_noise)
  for key in (1, 2**64, 2**127, jax.random.key(0)):
    other_batches, other_noise = run(key)
    assert batches != other_batches
    assert gaussian.are_uncorrelated(noise, other_noise)


def test_the_sampler_gets_all_128_bits():
  root = root_key.RootKey.from_seed(2**100)
  sampler = dp_sgd.make_sampler(_MECHANISM, key=root)
  assert sampler.batches.seed == root.seed("sampler")
  assert str(sampler.batches.seed) not in repr(sampler)  # A log's line.


@pytest.mark.parametrize(
    "changes, sizes",
    [
        ({"sampling": "truncated_poisson", "max_batch_size": 17}, {17, 20}),
        ({"sampling": "fixed_without_replacement"}, {16}),
    ],
)
def test_other_samplers(changes, sizes):
  mechanism = dataclasses.replace(_MECHANISM, num_steps=200, **changes)
  private = dp_sgd.make_private(
      _flat_loss, optax.sgd(1.0), mechanism, l2_clip_norm=1.0, key=0
  )
  batches = [batch.indices for batch in private.sampler]
  assert {len(b) for b in batches} <= sizes
  realised = {int((b >= 0).sum()) for b in batches}
  if mechanism.sampling == "fixed_without_replacement":
    assert realised == {16}
  else:
    assert max(realised) == 17 and min(realised) < 16
  padded = dp_sgd.make_sampler(
      mechanism, key=jax.random.key(0), microbatch_size=5
  )
  assert {len(b.indices) % 5 for b in padded} == {0} and len(padded.sizes) == 1


def test_bad_arguments_are_named():
  def make(mechanism=_MECHANISM, **options):
    options = {"l2_clip_norm": 1.0, "key": 0} | options
    return dp_sgd.make_private(_flat_loss, optax.sgd(1.0), mechanism, **options)

  class Fields:
    """A mechanism that nobody checked."""

    noise_multiplier = 1.0
    num_steps = 5
    sampling = "poisson"
    sampling_prob = 0.5
    num_examples = 10
    max_batch_size = None

    def __init__(self, **changes):
      vars(self).update(changes)

  make(Fields())
  for name, value in [
      ("noise_multiplier", 0.0),
      ("noise_multiplier", math.nan),
      ("num_steps", 0),
      ("sampling", "shuffled"),
      ("sampling", "deterministic"),
      ("sampling_prob", 1.5),
      ("num_examples", None),
      ("max_batch_size", 7),
  ]:
    with pytest.raises(ValueError, match=f"^{name} must be .*got"):
      make(Fields(**{name: value}))
  with pytest.raises(ValueError, match="max_batch_size must be an integer"):
    make(Fields(sampling="truncated_poisson"))
  with pytest.raises(ValueError, match="expected_batch_size must be a whole"):
    make(Fields(sampling="fixed_without_replacement", sampling_prob=0.55))
  with pytest.raises(ValueError, match="l2_clip_norm must be"):
    make(l2_clip_norm=-1.0)
  with pytest.raises(ValueError, match="key must be a PRNG key"):
    make(key=None)
  with pytest.raises(ValueError, match="normalize_by must be left to"):
    make(normalize_by=3.0)
  with pytest.raises(ValueError, match="nan_safe must be left to"):
    make(nan_safe=False)
