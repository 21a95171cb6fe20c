"""Noise from the cipher: its law, its determinism, and no bits used twice."""

import socket
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import optax
import pytest
from scipy import stats

from jax_privacy import (
    checkpoint,
    secure_noise,
    secure_random,
    testing,
)
from jax_privacy.secure_noise import secure_gaussian_privatizer
from tests.support import float16, gaussian

_KEY = secure_random.SecureKey(bytes(range(32)))
_FALSE_ALARM = 1e-6


def _privatizer(stddev=2.0, key=_KEY):
  return secure_gaussian_privatizer(stddev=stddev, key=key)


def test_bulk_and_tails_are_normal():
  (draws,) = secure_noise.draw(_KEY, step=0, sizes=[1_000_000])
  assert gaussian.is_normal(draws, 1.0)
  assert gaussian.has_stddev(draws, 1.0)
  assert not gaussian.has_stddev(draws, 1.02)
  # Chi-square of counts in bins from -4.5 to 4.5 and both tails beyond, where
  # 3.4 draws are expected; scipy's p-value holds for such counts.
  edges = np.linspace(-4.5, 4.5, 37)
  cdf = np.concatenate([[0], stats.norm.cdf(edges), [1]])
  counts = np.bincount(np.searchsorted(edges, draws), minlength=38)
  expected = np.diff(cdf) * draws.size
  assert stats.chisquare(counts, expected).pvalue > _FALSE_ALARM
  # 1e12 / 2 pairs of 2^53 values: equal ones have probability 6e-5.
  assert len(np.unique(draws)) == draws.size
  # The same test sees what it is for: tails cut at 4 sigma, as short floats'
  # are, and a sum of twelve uniforms.
  twelve = np.random.default_rng(0).random((12, draws.size)).sum(axis=0) - 6
  for fault in (np.clip(draws, -4, 4), twelve):
    counts = np.bincount(np.searchsorted(edges, fault), minlength=38)
    assert stats.chisquare(counts, expected).pvalue < _FALSE_ALARM


def test_normals_are_the_inverse_of_the_distribution_function():
  # Against 40 digits. Words from the far tail (the first word small) to the
  # middle; 3.1e-16 x 8 is what SciPy's ndtri was measured to be off by.
  rng = np.random.default_rng(0)
  words = rng.integers(2**64, size=(300, 2), dtype=np.uint64)
  words[:200, 0] >>= rng.integers(64, size=200, dtype=np.uint64)
  words[0] = 0
  got = secure_noise.to_normals(words)
  with mpmath.workdps(40):
    for (high, low), z in zip(words.tolist(), got, strict=True):
      exact = (mpmath.mpf((high << 63) + (low >> 1)) + 0.5) / mpmath.mpf(2**128)
      want = -mpmath.sqrt(2) * mpmath.erfinv(1 - 2 * exact)
      want = -want if low & 1 else want
      # Near 0 a relative error means nothing: u is known to 2^-54.
      assert abs(z - want) <= 3e-15 * abs(want) + 3e-16
  assert got[0] == pytest.approx(-13.1, abs=0.05)
  # Tails reach beyond 8 sigma; JAX's float32 normals end at 5.42.
  beyond = np.array([[1, 0], [1, 1]], np.uint64)
  assert (np.abs(secure_noise.to_normals(beyond)) > 9).all()


def test_no_two_steps_leaves_or_keys_are_correlated():
  keys = (_KEY, secure_random.SecureKey(bytes(32)))
  draws = [
      leaf
      for key in keys
      for step in range(3)
      for leaf in secure_noise.draw(key, step=step, sizes=[20_000, 20_000])
  ]
  assert len(draws) == 12
  for i, a in enumerate(draws):
    for b in draws[i + 1 :]:
      assert gaussian.are_uncorrelated(a, b)
    for lag in (1, 2, 3, 4, 8, 2**14):  # 4 draws a block, 2^14 a chunk.
      assert gaussian.are_uncorrelated(a[lag:], a[:-lag])
    assert gaussian.are_uncorrelated(np.abs(a[1:]), np.abs(a[:-1]))
  assert not gaussian.are_uncorrelated(draws[0], 0.5 * draws[0])


def test_draws_are_a_function_of_key_step_leaf_and_position():
  sizes = [3, 40_000, 0, 2**14 + 1]
  first = secure_noise.draw(_KEY, step=7, sizes=sizes)
  again = secure_noise.draw(_KEY, step=7, sizes=[9, 100, 5, 2**15])
  for a, b in zip(first, again, strict=True):
    size = min(a.size, b.size)
    np.testing.assert_array_equal(a[:size], b[:size])
  # By the definition, for one entry in the second chunk: block, word, sign.
  position = 2**14 + 6
  block = secure_random.keystream(
      _KEY, (secure_random.NOISE, 1, 7), 64, first_block=position // 4
  )
  words = block.view("<u8").reshape(4, 2)[position % 4]
  want = secure_noise.to_normals(words[None])
  assert first[1][position] == want[0]


def test_threads_do_not_change_the_draws(monkeypatch):
  want = secure_noise.draw(_KEY, step=1, sizes=[100_000, 7])

  class InOrder:
    map = staticmethod(map)

  monkeypatch.setattr(secure_noise, "_threads", InOrder)
  got = secure_noise.draw(_KEY, step=1, sizes=[100_000, 7])
  for a, b in zip(want, got, strict=True):
    np.testing.assert_array_equal(a, b)


def test_no_block_of_the_cipher_is_used_twice(monkeypatch):
  seen = []
  real = secure_random.keystream

  def recorded(key, nonce, num_bytes, *, first_block=0):
    num_blocks = -(-num_bytes // 64)
    seen.extend((nonce, first_block + i) for i in range(num_blocks))
    return real(key, nonce, num_bytes, first_block=first_block)

  monkeypatch.setattr(secure_random, "keystream", recorded)
  for step in (0, 1, 2, 2**31 - 1):
    secure_noise.draw(_KEY, step=step, sizes=[1, 5, 2**14 - 1, 2**14 + 3, 0])
  # And the sampler's, under the same key, by mistake.
  from jax_privacy import batch_selection

  batches = batch_selection.CyclicPoissonSampling(0.3, 4, cycle_length=2).bind(
      500, _KEY
  )
  for step in range(4):
    batches.batch(step)
  assert len(seen) == len(set(seen)) > 4 * 2 * 2**12


def test_what_the_counter_has_no_room_for_is_refused(monkeypatch):
  with pytest.raises(ValueError, match="sizes must be at most 17179869184"):
    secure_noise.draw(_KEY, step=0, sizes=[2**34 + 1])
  for step in (-1, 2**32):
    with pytest.raises(ValueError, match="(step|nonce) must be"):
      secure_noise.draw(_KEY, step=step, sizes=[1])
  noise = _privatizer()
  state = noise.init(None)._replace(step=jnp.int32(-(2**31)))
  with pytest.raises(jax.errors.JaxRuntimeError, match="else noise repeats"):
    jax.block_until_ready(jax.jit(noise.update)(jnp.zeros(3), state))
  monkeypatch.setattr(secure_noise, "MAX_LEAF_SIZE", 10)
  with pytest.raises(ValueError, match="a leaf's size must be at most 10"):
    noise.update(jnp.zeros(11), noise.init(None))


def test_the_transformation_adds_the_draws():
  updates = {"a": jnp.arange(5.0), "b": (jnp.float32(3), jnp.zeros((2, 3)))}
  noise = _privatizer(0.5)
  state = noise.init(updates)
  update = jax.jit(noise.update)
  for step in range(3):
    noised, state = update(updates, state)
    draws = secure_noise.draw(_KEY, step=step, sizes=[5, 1, 6])
    pairs = zip(
        jax.tree.leaves(updates), jax.tree.leaves(noised), draws, strict=True
    )
    for before, after, want in pairs:
      want = (0.5 * want).astype(np.float32).reshape(before.shape)
      np.testing.assert_array_equal(after, before + want)
  assert state.step == 3
  eager, _ = noise.update(
      updates, noise.init(updates)._replace(step=state.step)
  )
  jitted, _ = update(updates, state)
  jax.tree.map(np.testing.assert_array_equal, eager, jitted)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_short_updates_are_rounded_after_the_sum(dtype):
  float16.skip_if_missing(dtype)
  noise = _privatizer()
  want, _ = noise.update(jnp.zeros(5000), noise.init(None))
  got, _ = noise.update(jnp.zeros(5000, dtype), noise.init(None))
  assert got.dtype == dtype
  np.testing.assert_array_equal(got, want.astype(dtype))


def test_float64_updates_get_float64_draws():
  with jax.enable_x64(True):
    noise = _privatizer(1.0)
    got, _ = noise.update(jnp.zeros(50, jnp.float64), noise.init(None))
    (want,) = secure_noise.draw(_KEY, step=0, sizes=[50])
    np.testing.assert_array_equal(got, want)


def test_a_saved_state_goes_on_with_the_same_bits(tmp_path):
  optimizer = optax.chain(_privatizer(), optax.sgd(0.1, momentum=0.9))
  params = {"w": jnp.ones(30)}
  update = jax.jit(optimizer.update)
  state = optimizer.init(params)
  for step in range(4):
    if step == 2:
      with checkpoint.Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(2, {"opt_state": state})
    _, state = update(params, state)
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    restored = checkpoints.restore_latest({"opt_state": state})
  resumed = restored.state["opt_state"]
  for _ in range(2):
    _, resumed = update(params, resumed)
  jax.tree.map(np.testing.assert_array_equal, resumed, state)


@pytest.mark.slow
def test_two_processes_draw_the_same_bits():
  program = textwrap.dedent("""
      import sys
      import jax, numpy as np
      jax.config.update("jax_num_cpu_devices", 2)
      jax.config.update("jax_cpu_collectives_implementation", "gloo")
      jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
      from jax_privacy import secure_noise, secure_random
      noise = secure_noise.secure_gaussian_privatizer(
          stddev=1.0, key=bytes(32))
      mesh = jax.make_mesh((4,), ("d",))

      def put(x, spec):
        return jax.make_array_from_callback(
            x.shape, jax.NamedSharding(mesh, spec), lambda i: np.asarray(x)[i])

      state = jax.tree.map(lambda x: put(x, jax.P()), noise.init(None))
      key = secure_random.SecureKey(bytes(32))
      (want,) = secure_noise.draw(key, step=0, sizes=[48])
      want = want.astype(np.float32).reshape(8, 6)
      for spec in (jax.P("d"), jax.P()):
        zeros = put(np.zeros((8, 6), np.float32), spec)
        update = jax.jit(noise.update, out_shardings=(zeros.sharding, None))
        noised, _ = update(zeros, state)
        for shard in noised.addressable_shards:
          np.testing.assert_array_equal(shard.data, want[shard.index])
      print("same")
      """)
  with socket.socket() as free:
    free.bind(("localhost", 0))
    address = f"localhost:{free.getsockname()[1]}"
  processes = [
      subprocess.Popen(
          [sys.executable, "-c", program, address, str(number)],
          stdout=subprocess.PIPE,
          stderr=subprocess.STDOUT,
          text=True,
      )
      for number in range(2)
  ]
  for process in processes:
    output, _ = process.communicate(timeout=300)
    assert output.strip().endswith("same"), output


def test_check_noise_accepts_it_and_still_catches_faults():
  params = {"w": jnp.zeros((50, 4)), "b": jnp.zeros(4)}
  noise = _privatizer(2.0)
  sound = optax.chain(noise, optax.sgd(0.1, momentum=0.9))
  report = testing.check_noise(sound, params, stddev=2.0)
  assert report.num_draws == 128 * 204

  def with_step(step_fn):
    def update(updates, state, params=None):
      noised, _ = noise.update(
          updates, state._replace(step=step_fn(state.step)), params
      )
      return noised, state._replace(step=state.step + 1)

    return optax.GradientTransformation(noise.init, update)

  def same_for_all_leaves(updates, state, params=None):
    noised = {}
    for name, leaf in updates.items():
      noised[name], new = noise.update(leaf, state, params)
    return noised, new

  faults = {
      "standard deviation": _privatizer(2.0 * 1.5),
      "a key was used twice": optax.GradientTransformation(
          noise.init, same_for_all_leaves
      ),
      "The noise of steps": with_step(lambda step: step // 100 * 0 + step % 16),
      "without a sum": optax.chain(optax.sgd(0.1)),
  }
  for message, fault in faults.items():
    with pytest.raises(testing.NoiseError, match=message):
      testing.check_noise(fault, params, stddev=2.0)


@pytest.mark.parametrize("stddev", [0.0, -1.0, np.nan, np.inf, True, "1", None])
def test_bad_stddev(stddev):
  with pytest.raises(ValueError, match="stddev must be a positive finite"):
    _privatizer(stddev)


def test_bad_arguments_are_named():
  with pytest.raises(ValueError, match="key must be a SecureKey"):
    _privatizer(key=3)
  with pytest.raises(TypeError, match="key"):
    secure_gaussian_privatizer(stddev=1.0)
  noise = _privatizer()
  with pytest.raises(TypeError, match="floating point, got int32"):
    noise.update(jnp.arange(3), noise.init(None))
