"""There are as many noised updates as are accounted for, and not one more."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from accounting import Mechanism
from jax_privacy import dp_sgd, noise_addition, secure_noise, testing

_NUM_STEPS = 5
_MECHANISM = Mechanism.for_batch_size(
    noise_multiplier=1.0,
    num_steps=_NUM_STEPS,
    num_examples=8,
    expected_batch_size=4,
)
_SPENT = "number of updates must be at most num_steps = 5, .*got 6"


def _optimizer(inner=None, **options):
  return dp_sgd.make_private(
      lambda params, x: jnp.sum(x @ params),
      inner or optax.sgd(0.1, momentum=0.9),
      _MECHANISM,
      l2_clip_norm=1.0,
      key=0,
      **options,
  ).optimizer


@pytest.mark.parametrize("secure", [False, True])
def test_one_update_too_many_raises(secure):
  optimizer = _optimizer(secure_random=secure)
  state = optimizer.init(jnp.zeros(3))
  for _ in range(_NUM_STEPS):
    updates, state = optimizer.update(jnp.ones(3), state)
  assert np.isfinite(updates).all()
  with pytest.raises(ValueError, match=_SPENT):
    optimizer.update(jnp.ones(3), state)


@pytest.mark.parametrize("secure", [False, True])
def test_one_update_too_many_is_nan_where_it_is_traced(secure):
  optimizer = _optimizer(secure_random=secure)
  update = jax.jit(optimizer.update)
  state, seen = optimizer.init(jnp.zeros(3)), []
  for _ in range(_NUM_STEPS + 2):
    updates, state = update(jnp.ones(3), state)
    seen.append(np.asarray(updates))
  assert np.isfinite(seen[:_NUM_STEPS]).all()
  assert np.isnan(seen[_NUM_STEPS:]).all()
  # A resumed one too, and where updates are no longer traced.
  with pytest.raises(ValueError, match="num_steps = 5, .*got 8"):
    optimizer.update(jnp.ones(3), state)


def test_in_a_scan_too_many_leave_nothing_of_the_parameters():
  optimizer = _optimizer()

  def step(carry, _):
    params, state = carry
    updates, state = optimizer.update(jnp.ones(3), state, params)
    params = optax.apply_updates(params, updates)
    return (params, state), params

  first = jnp.zeros(3), optimizer.init(jnp.zeros(3))
  _, iterates = jax.jit(lambda c: jax.lax.scan(step, c, length=7))(first)
  assert np.isfinite(iterates[:_NUM_STEPS]).all()
  assert np.isnan(iterates[_NUM_STEPS:]).all()


@pytest.mark.parametrize(
    "inner",
    [
        optax.MultiSteps(optax.sgd(1.0), 3),
        optax.apply_if_finite(optax.sgd(1.0), 10),
        optax.chain(optax.zero_nans(), optax.sgd(1.0, momentum=0.9)),
    ],
    ids=["MultiSteps", "apply_if_finite", "zero_nans"],
)
def test_no_optimiser_gets_gradient_after_the_last_step(inner):
  # Some optimisers pass NaN over: even then, nothing depends on the sum.
  optimizer = _optimizer(inner)
  update = jax.jit(jax.numpy_dtype_promotion("standard")(optimizer.update))
  state = optimizer.init(jnp.zeros(3))
  for _ in range(_NUM_STEPS):
    _, state = update(jnp.ones(3), state)
  ends = []
  for grads in (jnp.ones(3), -7 * jnp.ones(3)):
    after = state
    for _ in range(3):
      updates, after = update(grads, after)
    ends.append((updates, after[1:]))  # Without the noise's own state.
  jax.tree.map(np.testing.assert_array_equal, *ends)


def _privatizer(secure, num_steps=None):
  if secure:
    return secure_noise.secure_gaussian_privatizer(
        stddev=1.0, key=bytes(32), num_steps=num_steps
    )
  return noise_addition.gaussian_privatizer(
      stddev=1.0, prng_key=0, num_steps=num_steps
  )


@pytest.mark.parametrize("secure", [False, True])
def test_a_counter_at_its_end_repeats_no_noise(secure):
  noise = _privatizer(secure)
  update = jax.jit(noise.update)
  state = noise.init(None)._replace(step=jnp.int32(2**31 - 2))
  last, state = update(jnp.zeros(3), state)
  assert np.isfinite(last).all() and state.step == 2**31 - 1
  after, state = update(jnp.zeros(3), state)
  assert np.isnan(after).all() and state.step == 2**31 - 1
  with pytest.raises(ValueError, match="number of updates must be at most"):
    noise.update(jnp.zeros(3), state)
  with pytest.raises(ValueError, match="number of updates must be at most"):
    noise.update(jnp.zeros(3), state._replace(step=jnp.int32(-1)))


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("num_steps", [0, -1, 2.5, True, "5"])
def test_bad_num_steps(secure, num_steps):
  with pytest.raises(ValueError, match="num_steps must be an integer"):
    _privatizer(secure, num_steps)


def test_noise_is_checked_beyond_the_last_step():
  # 128 updates of a mechanism of 5: the draws are looked at, not the updates.
  report = testing.check_noise(
      _optimizer(), jnp.zeros(30), stddev=1.0 / 4, num_steps=20
  )
  assert report.num_draws == 20 * 30


def test_noise_twice_is_seen_behind_the_last_step_s_select():
  twice = optax.chain(
      noise_addition.gaussian_privatizer(
          stddev=1.0, prng_key=0, num_steps=_NUM_STEPS
      ),
      noise_addition.gaussian_privatizer(stddev=1.0, prng_key=1),
  )
  with pytest.raises(testing.NoiseError, match="standard deviation of all noi"):
    testing.check_noise(twice, jnp.zeros(300), stddev=1.0, num_steps=8)
