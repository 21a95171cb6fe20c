import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jax_privacy import noise_addition
from tests.support import float16, gaussian


def _privatizer(stddev=2.0, seed=0, **options):
  return noise_addition.gaussian_privatizer(
      stddev=stddev, prng_key=jax.random.key(seed), **options
  )


def _draws(privatizer, zeros, num_steps):
  state = privatizer.init(zeros)
  draws = []
  for _ in range(num_steps):
    noised, state = privatizer.update(zeros, state)
    draws.append(noised)
  return draws, state


def test_is_gaussian_of_the_given_scale():
  (draw,), _ = _draws(_privatizer(2.0), jnp.zeros(200_000), 1)
  assert gaussian.has_stddev(draw, 2.0)
  assert gaussian.is_normal(draw, 2.0)
  assert not gaussian.has_stddev(draw, 2.0 * 2 / 3)
  assert not gaussian.has_stddev(draw, 2.0 * 3 / 2)
  # The tails are there: of 200,000 draws 12.7 lie beyond 4 sigma on average
  # (none has probability 3e-6); short dtypes' draws stop before.
  assert np.abs(draw).max() > 4 * 2.0


def test_no_two_leaves_steps_or_keys_share_randomness():
  zeros = {
      "a": jnp.zeros(20_000),
      "b": jnp.zeros(20_000),
      "c": {"d": jnp.zeros(20_000)},
  }
  first, _ = _draws(_privatizer(seed=0), zeros, 3)
  second, _ = _draws(_privatizer(seed=1), zeros, 3)
  draws = [leaf for tree in first + second for leaf in jax.tree.leaves(tree)]
  assert len(draws) == 18
  for i, a in enumerate(draws):
    for b in draws[i + 1 :]:
      assert gaussian.are_uncorrelated(a, b)
  # The same check catches a key used twice.
  assert not gaussian.are_uncorrelated(draws[0], 0.5 * draws[0])


def test_entries_of_one_leaf_are_independent():
  (draw,), _ = _draws(_privatizer(), jnp.zeros((200, 200)), 1)
  assert gaussian.are_uncorrelated(draw[1:], draw[:-1])
  assert gaussian.are_uncorrelated(draw[:, 1:], draw[:, :-1])


def test_draw_t_is_a_function_of_key_and_t():
  zeros = jnp.zeros(50)
  draws, state = _draws(_privatizer(), zeros, 4)
  assert state.step == 4
  fresh = _privatizer()
  later = fresh.init(zeros)._replace(step=jnp.int32(2))
  resumed, _ = jax.jit(fresh.update)(zeros, later)
  np.testing.assert_array_equal(resumed, draws[2])
  again, _ = _draws(_privatizer(), zeros, 4)
  np.testing.assert_array_equal(again, draws)


def test_adds_to_the_update_and_composes():
  updates = {"w": jnp.arange(5.0), "b": jnp.float32(3)}
  noise = _privatizer(1e-3)
  noised, _ = noise.update(updates, noise.init(updates))
  difference = jax.tree.map(jnp.subtract, noised, updates)
  assert 0 < max(np.abs(x).max() for x in jax.tree.leaves(difference)) < 1e-2
  chained = optax.chain(noise, optax.sgd(0.5))
  stepped, _ = chained.update(updates, chained.init(updates))
  np.testing.assert_array_equal(stepped["w"], -0.5 * noised["w"])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_short_updates_get_float32_draws(dtype):
  float16.skip_if_missing(dtype)
  # 20,000 bfloat16 draws would take a few hundred values; these are float32
  # draws, rounded after they were added.
  (want,), _ = _draws(_privatizer(), jnp.zeros(20_000), 1)
  (got,), _ = _draws(_privatizer(), jnp.zeros(20_000, dtype), 1)
  assert got.dtype == dtype
  np.testing.assert_array_equal(got, want.astype(dtype))


def test_dtype_of_the_draw():
  with jax.enable_x64(True):
    (got,), _ = _draws(_privatizer(dtype=jnp.float64), jnp.zeros(9), 1)
    assert got.dtype == jnp.float64
    (got,), _ = _draws(
        _privatizer(dtype=jnp.float64), jnp.zeros(9, jnp.float32), 1
    )
    assert got.dtype == jnp.float32
  for dtype in (jnp.bfloat16, jnp.float16, jnp.int32):
    with pytest.raises(ValueError, match="dtype must be float32, float64"):
      _privatizer(dtype=dtype)
  noise = _privatizer()
  with pytest.raises(TypeError, match="floating point, got int32"):
    noise.update(jnp.arange(3), noise.init(None))


@pytest.mark.parametrize("stddev", [1e-45, 1e-39, 1e31, 1e300])
def test_a_stddev_that_float32_cannot_draw_is_refused(stddev):
  """1e-46 is 0 in float32: the sum would be released without any noise."""
  assert np.float32(1e-46) == 0
  with pytest.raises(ValueError, match="stddev must be in .* for float32"):
    _privatizer(stddev)


@pytest.mark.parametrize("stddev", [0.0, -1.0, np.nan, np.inf, True, "1", None])
def test_bad_stddev(stddev):
  with pytest.raises(ValueError, match="stddev must be a positive finite"):
    _privatizer(stddev)


@pytest.mark.parametrize(
    "key", [None, 1.5, True, np.zeros(2, np.uint32), jnp.zeros(2)]
)
def test_bad_key(key):
  with pytest.raises(ValueError, match="prng_key must be a PRNG key"):
    noise_addition.gaussian_privatizer(stddev=1.0, prng_key=key)


def test_key_is_required_and_comes_in_three_forms():
  with pytest.raises(TypeError, match="prng_key"):
    noise_addition.gaussian_privatizer(stddev=1.0)
  keys = [jax.random.key(7), jax.random.PRNGKey(7), 7]
  draws = []
  for key in keys:
    noise = noise_addition.gaussian_privatizer(stddev=1.0, prng_key=key)
    draws.append(noise.update(jnp.zeros(4), noise.init(None))[0])
  np.testing.assert_array_equal(draws[0], draws[1])
  np.testing.assert_array_equal(draws[0], draws[2])


@pytest.mark.parametrize(
    "noise",
    [
        noise_addition.gaussian_privatizer(stddev=1.0, prng_key=0),
        noise_addition.matrix_factorization_privatizer(
            np.eye(3), stddev=1.0, prng_key=0
        ),
    ],
    ids=["independent", "correlated"],
)
def test_update_is_called_by_jax_privacys_names(noise):
  grads = {"w": jnp.ones(3)}
  state = noise.init(grads)
  want, _ = noise.update(grads, state)
  got, _ = noise.update(sum_of_clipped_grads=grads, noise_state=state)
  np.testing.assert_array_equal(got["w"], want["w"])
