"""`check_noise`: planted bugs caught, sound noise passed.

Every bug is an optax transformation that claims N(0, 2^2) and is wrong in one
way. All keys are fixed, so a failure is no bad luck.
"""

import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from jax_privacy import noise_addition, testing
from jax_privacy.testing import noise, noise_path
from tests.support import float16

# Half a minute of draws; the sensitivity half stays in `make test`.
pytestmark = pytest.mark.slow

_STDDEV = 2.0
_PARAMS = {"w": jnp.zeros((40, 30)), "b": jnp.zeros(30), "scale": jnp.zeros(())}


def _noise(stddev=_STDDEV):
  return noise_addition.gaussian_privatizer(
      stddev=stddev, prng_key=jax.random.key(0)
  )


def _adding(draw_fn):
  """Adds `draw_fn(key, step, i, leaf)` to leaf i; sound if that is."""

  def update(updates, step, params=None):
    del params
    leaves, treedef = jax.tree.flatten(updates)
    key = jax.random.key(0)
    noised = [g + draw_fn(key, step, i, g) for i, g in enumerate(leaves)]
    return treedef.unflatten(noised), step + 1

  return optax.GradientTransformation(
      lambda params: jnp.zeros((), jnp.int32), update
  )


def _normal(key, shape):
  return _STDDEV * jax.random.normal(key, shape)


def _key(key, step, i):
  return jax.random.fold_in(jax.random.fold_in(key, step), i)


def _sound(key, step, i, g):
  return _normal(_key(key, step, i), g.shape)


def _times(factor):
  return lambda *args: factor * _sound(*args)


def _same_key_for_leaves(key, step, i, g):
  del i
  return _normal(jax.random.fold_in(key, step), g.shape)


def _same_key_for_steps(key, step, i, g):
  del step
  return _normal(jax.random.fold_in(key, i), g.shape)


def _keys_of_step_plus_leaf(key, step, i, g):
  """Array i at step t has the key of array i + 1 at step t - 1."""
  return _normal(jax.random.fold_in(key, step + i), g.shape)


def _table_that_ends(key, step, i, g):
  """A table of 100 rows, whose last one is used from then on."""
  return _sound(key, jnp.minimum(step, 99), i, g)


def _table_that_cycles(key, step, i, g):
  return _sound(key, step % 50, i, g)


def _one_draw_for_all_entries(key, step, i, g):
  del i
  return jnp.broadcast_to(_normal(jax.random.fold_in(key, step), ()), g.shape)


def _not_centred(key, step, i, g):
  return _sound(key, step, i, g) + 0.1


def _one_array_halved(key, step, i, g):
  return _sound(key, step, i, g) * (0.5 if g.ndim == 0 else 1.0)


def _fades(key, step, i, g):
  late = step >= 120
  return _sound(key, step, i, g) * jnp.where(late, 0.5, 1.0)


def _not_a_number(key, step, i, g):
  return _sound(key, step, i, g) * jnp.where(step == 7, jnp.nan, 1.0)


def _once_a_microbatch(num_microbatches):
  """Noises the sum as often as there are microbatches."""

  def update(updates, step, params=None):
    for m in range(num_microbatches):
      place = m + num_microbatches * step
      updates, _ = _adding(_sound).update(updates, place, params)
    return updates, step + 1

  return optax.GradientTransformation(
      lambda p: jnp.zeros((), jnp.int32), update
  )


def _after(scale, transformation):
  return optax.chain(optax.scale(scale), transformation)


def _leaves_one_out():
  """Noises all but the bias."""

  def update(updates, state, params=None):
    noised, state = _adding(_sound).update(updates, state, params)
    return {**noised, "b": updates["b"]}, state

  return optax.GradientTransformation(_adding(_sound).init, update)


def _keeps_the_gradient():
  """Remembers the gradient as it was, where a checkpoint will hold it."""

  def update(updates, state, params=None):
    noised, step = _adding(_sound).update(updates, state[0], params)
    return noised, (step, updates)

  def init(params):
    return _adding(_sound).init(params), params

  return optax.GradientTransformation(init, update)


def _scaled_by_the_gradient():
  """Adds noise in proportion to the private sum."""

  def update(updates, step, params=None):
    del params
    norm = optax.tree.norm(updates)
    key = jax.random.fold_in(jax.random.key(0), step)
    noised = jax.tree.map(lambda g: g + norm * _normal(key, g.shape), updates)
    return noised, step + 1

  return optax.GradientTransformation(_adding(_sound).init, update)


_BUGS = {
    "scale 5% too small": (_adding(_times(0.95)), "0.9[45]"),
    "scale 5% too large": (_adding(_times(1.05)), "1.0[45]"),
    "calibrated for a mean, added to a sum": (
        _adding(_times(1 / 16)),
        "standard deviation of all noise is 0.06",
    ),
    "sum scaled up before it is noised": (
        _after(16.0, _noise()),
        "standard deviation of all noise is 0.06",
    ),
    "a mean noised as if it were a sum": (
        _after(1 / 16, _noise()),
        "standard deviation of all noise is 1[56]",
    ),
    "none": (optax.sgd(0.1), "without a sum with noise"),
    "none on one array": (
        _leaves_one_out(),
        r"gradient of \['b'\] reaches the update\['b'\] without",
    ),
    "gradient kept in the state": (_keeps_the_gradient(), "the new state"),
    "scaled by the gradient": (_scaled_by_the_gradient(), "without a sum with"),
    "one key for two arrays": (
        _adding(_same_key_for_leaves),
        "0 steps later are correlated",
    ),
    # Its one draw of the scalar can be improbable enough already.
    "one key for all steps": (
        _adding(_same_key_for_steps),
        "deviation|mean|correlated",
    ),
    "keys of step + array": (
        _adding(_keys_of_step_plus_leaf),
        "[12] steps later are correlated",
    ),
    "a table that ends": (
        _adding(_table_that_ends),
        "1 steps later are correlated",
    ),
    "a table that cycles": (_adding(_table_that_cycles), "of steps 0 and 50"),
    "one draw for all entries": (
        _adding(_one_draw_for_all_entries),
        "standard deviation|mean|correlated",
    ),
    "not centred": (_adding(_not_centred), "mean of all noise is 0.05"),
    "one array's halved": (
        _adding(_one_array_halved),
        r"deviation of the noise of \['scale'\] is 0.[45]",
    ),
    "fades": (_adding(_fades), "deviation of .* is 0.[59]"),
    "not finite": (_adding(_not_a_number), "must be finite"),
    "once a microbatch": (_once_a_microbatch(4), "all noise is (2|1.99)"),
}


@pytest.mark.parametrize("name", _BUGS)
def test_planted_bug_is_caught(name):
  optimizer, message = _BUGS[name]
  with pytest.raises(testing.NoiseError, match=message):
    testing.check_noise(optimizer, _PARAMS, stddev=_STDDEV)


@pytest.mark.parametrize(
    "optimizer",
    [
        _noise(),
        _adding(_sound),  # The control: the bugs' code without a bug.
        _once_a_microbatch(1),
        optax.chain(_noise(), optax.sgd(0.1, momentum=0.9, nesterov=True)),
        optax.chain(_noise(), optax.MultiSteps(optax.sgd(0.1), 4)),
        # Noise for a sum / 16, added to a sum / 16.
        _after(1 / 16, _noise(_STDDEV / 16)),
        # An optimiser's own noise later is not counted.
        optax.chain(_noise(), optax.scale(0.1), optax.add_noise(1.0, 0.5, 1)),
    ],
    ids=["ours", "control", "once", "nesterov", "multi", "scaled", "langevin"],
)
def test_sound_noise_passes(optimizer):
  # optax's own transformations mix integers and floats.
  with jax.numpy_dtype_promotion("standard"):
    report = testing.check_noise(optimizer, _PARAMS, stddev=_STDDEV)
  assert report.num_draws == 128 * (1200 + 30 + 1)
  low, high = report.stddev_interval
  assert low < report.measured_stddev < high
  # 158k draws: relative deviation 1 / sqrt(2 n) = 0.18%, times 7 at this level.
  assert high - low < 0.03 * _STDDEV


def test_noise_is_seen_behind_adam_and_in_jit():
  optimizer = optax.chain(_noise(), optax.adamw(1e-3))
  jitted = optax.GradientTransformation(
      optimizer.init, jax.jit(optimizer.update)
  )
  with jax.numpy_dtype_promotion("standard"):
    reports = [
        testing.check_noise(o, _PARAMS, stddev=_STDDEV)
        for o in (optimizer, jitted)
    ]
  assert reports[0].measured_stddev == reports[1].measured_stddev


@pytest.mark.parametrize("size", [1, 2, 5])
def test_the_smallest_models_are_judged_too(size):
  # With more steps, one coordinate is enough.
  params = jnp.zeros(size)
  report = testing.check_noise(_adding(_sound), params, stddev=_STDDEV)
  assert report.num_draws >= 512
  for bug in (_same_key_for_steps, _times(0.5), _times(2.0)):
    with pytest.raises(testing.NoiseError):
      testing.check_noise(_adding(bug), params, stddev=_STDDEV)


def test_float16_gradients_are_noised_in_full():
  float16.skip_if_missing(jnp.float16)
  params = jnp.zeros(1000, jnp.float16)
  optimizer = _noise()
  testing.check_noise(optimizer, params, stddev=_STDDEV)


def test_the_same_noise_for_every_microbatch_size():
  other = noise_addition.gaussian_privatizer(
      stddev=_STDDEV, prng_key=jax.random.key(1)
  )
  check = lambda same: testing.check_noise(
      _noise(), _PARAMS, stddev=_STDDEV, same_noise=[same]
  )
  check(_noise())
  with pytest.raises(testing.NoiseError, match="depends on the layout"):
    check(other)


def test_sound_noise_fails_as_seldom_as_is_said():
  # At significance 0.5 over all tests together, at most half of sound samples
  # may fail: of 200, more than 135 do with probability below 1e-6.
  assert stats.binom(200, 0.5).sf(135) < 1e-6
  rng = np.random.default_rng(0)
  failures = 0
  for _ in range(200):
    arrays = [rng.normal(size=(20, size)) for size in (50, 5, 1)]
    sample = types.SimpleNamespace(
        names=list("abc"), noise=arrays, steps=np.concatenate(arrays, axis=1)
    )
    tests = noise._Tests(sample, 0.5)
    try:
      for test in (
          tests.check_scale,
          tests.check_mean,
          tests.check_arrays,
          tests.check_steps,
          tests.check_neighbours,
      ):
        test()
    except testing.NoiseError:
      failures += 1
  # And the tests are not void: a bound that no sample ever exceeds would be.
  assert 1 <= failures <= 135


def test_a_path_reports_signal_and_noise():
  grads = jnp.arange(3.0)
  optimizer = _after(3.0, _adding(lambda key, step, i, g: _normal(key, (1,))))
  (draw,), _ = noise_path.run(optimizer, grads, optimizer.init(grads), grads)
  np.testing.assert_array_equal(draw.signal, 3 * grads)
  want = _normal(jax.random.key(0), (1,))
  np.testing.assert_array_equal(draw.noise, np.broadcast_to(want, 3))


def test_arguments_are_checked():
  with pytest.raises(ValueError, match="stddev must be a positive"):
    testing.check_noise(_noise(), _PARAMS, stddev=float("nan"))
  with pytest.raises(ValueError, match="num_steps must be an integer of at"):
    testing.check_noise(_noise(), _PARAMS, stddev=1.0, num_steps=1)
  with pytest.raises(ValueError, match="params must be arrays with at least"):
    testing.check_noise(_noise(), {}, stddev=1.0)
  with pytest.raises(ValueError, match="significance must be in"):
    testing.check_noise(_noise(), _PARAMS, stddev=1.0, significance=0.0)
