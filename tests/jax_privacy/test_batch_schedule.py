"""Batch-size schedules: larger batches, and the same noise on the sum."""

import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from accounting import Mechanism
from accounting.numerics import schedule as accountants_schedule
from jax_privacy import (
    batch_schedule,
    batch_selection,
    dp_sgd,
    noise_addition,
    secure_random,
    testing,
)
from tests.support import gaussian

_SCHEDULE = ((0, 1.0), (3, 4.0), (5, 0.5))
_MECHANISM = Mechanism.for_batch_size(
    noise_multiplier=1.5,
    num_steps=8,
    num_examples=64,
    expected_batch_size=16,
    batch_size_schedule=_SCHEDULE,
)
_NUM_PARAMS = 20_000
_CLIP_NORM = 2.0


def _factors(num_steps):
  return [batch_schedule.factor_at(_SCHEDULE, t) for t in range(num_steps)]


def _private(mechanism=_MECHANISM, **options):
  """Of a loss whose gradient is one half in every example's own place."""
  return dp_sgd.make_private(
      lambda w, x: 0.5 * jnp.sum(w * x),
      optax.sgd(1.0),
      mechanism,
      l2_clip_norm=_CLIP_NORM,
      key=7,
      keep_batch_dim=False,
      **options,
  )


def _seeds():
  return [11, secure_random.SecureKey(bytes(range(32)))]


@pytest.mark.parametrize("seed", _seeds(), ids=["numpy", "cipher"])
def test_realised_sizes_are_those_of_each_phase(seed):
  """A phase's draws are Binomial(examples x steps, probability).

  By Hoeffding, the sum of n coins is within sqrt(n log(2 / p) / 2) of its mean
  but for a probability p; at p = 1e-9, over 40,000 coins, that is 655.
  """
  schedule = ((0, 1.0), (40, 4.0), (80, 0.25))
  batches = batch_selection.CyclicPoissonSampling(
      0.2, 120, batch_size_schedule=schedule
  ).bind(1000, seed)
  sizes = [len(batches.batch(t)) for t in range(120)]
  for first, factor in schedule:
    drawn = sum(sizes[first : first + 40])
    assert abs(drawn - 40_000 * 0.2 * factor) < 655


@pytest.mark.parametrize("seed", _seeds(), ids=["numpy", "cipher"])
def test_a_batch_is_a_function_of_seed_and_step(seed):
  batches = batch_selection.CyclicPoissonSampling(
      0.2, 8, batch_size_schedule=_SCHEDULE
  ).bind(100, seed)
  in_order = list(batches)
  for step in (7, 0, 4, 5, 3):
    np.testing.assert_array_equal(batches.batch(step), in_order[step])
    assert len(set(in_order[step].tolist())) == len(in_order[step])


def test_a_constant_schedule_draws_the_batches_of_none():
  plain = batch_selection.CyclicPoissonSampling(0.2, 8).bind(100, 3)
  constant = batch_selection.CyclicPoissonSampling(
      0.2, 8, batch_size_schedule=((0, 1.0), (4, 1.0))
  ).bind(100, 3)
  for a, b in zip(plain, constant, strict=True):
    np.testing.assert_array_equal(a, b)


def test_everyone_is_drawn_where_the_probability_is_one():
  sampler = _private().sampler
  for step in (3, 4):  # 4 x 16 of 64.
    assert sorted(sampler.batch(step).indices) == list(range(64))


def test_padded_sizes_fit_every_phase():
  sizes = _private().sampler.sizes
  for factor in (1.0, 4.0, 0.5):
    own = batch_selection.poisson_sizes(
        num_examples=64, sampling_prob=0.25 * factor
    )
    assert set(own) <= set(sizes)
  assert _private(microbatch_size=8).sampler.sizes == (64,)


def test_noise_on_the_sum_is_the_same_in_every_phase():
  """The update's is that over the phase's own expected batch size."""
  private, params = _private(), jnp.zeros(_NUM_PARAMS)
  state, update = private.optimizer.init(params), jax.jit(
      private.optimizer.update
  )
  for factor in _factors(8):
    noise, state = update(jnp.zeros(_NUM_PARAMS), state, params)
    stddev = 1.5 * _CLIP_NORM / (16 * factor)
    assert gaussian.has_stddev(noise, stddev)


def test_the_update_is_the_mean_over_the_phase_s_expected_batch():
  """Without noise to speak of: a sum of 48 gradients, over 16 x factor."""
  quiet = dataclasses.replace(_MECHANISM, noise_multiplier=1e-6)
  private, params = _private(quiet), jnp.zeros(4)
  state = private.optimizer.init(params)
  batch = jnp.tile(jnp.eye(4), (12, 1))  # 12 examples have each coordinate.
  nobody = jnp.zeros(48, bool)
  grads = jax.jit(private.grad_fn)(params, batch, is_padding_example=nobody)
  step = jax.jit(private.optimizer.update)
  for factor in _factors(8):
    update, state = step(grads, state, params)
    np.testing.assert_allclose(
        update, -12 * 0.5 / (16 * factor) * jnp.ones(4), rtol=1e-4
    )


def test_a_mechanism_without_the_attribute_is_constant():
  fields = dataclasses.asdict(_MECHANISM)
  del fields["batch_size_schedule"]
  plain = _private(types.SimpleNamespace(**fields))
  none = _private(dataclasses.replace(_MECHANISM, batch_size_schedule=()))
  assert plain.sampler.sizes == none.sampler.sizes
  states = [p.optimizer.init(jnp.zeros(3)) for p in (plain, none)]
  assert jax.tree.structure(states[0]) == jax.tree.structure(states[1])
  update, _ = none.optimizer.update(jnp.zeros(3), states[1])
  scheduled = _private()
  same, _ = scheduled.optimizer.update(
      jnp.zeros(3), scheduled.optimizer.init(jnp.zeros(3))
  )
  np.testing.assert_array_equal(update, same)


# Phases that begin after the steps that a check of the first takes.
_LATE = dataclasses.replace(
    _MECHANISM,
    num_steps=900,
    batch_size_schedule=((0, 1.0), (300, 0.25), (600, 4.0)),
)


def _check(private, mechanism=_LATE):
  return testing.check_private(
      private, jnp.zeros(8), jnp.eye(8), mechanism=mechanism
  )


def test_the_replay_passes_what_is_right():
  report = _check(_private(_LATE))
  assert report.noise.stddev == pytest.approx(1.5 * _CLIP_NORM / 16)


def _scaled_before_noise():
  """Planted: the sum is divided first, and noise of the base size added.

  In a phase of small batches this is a fourth of the noise, next to the sum.
  """
  noise = noise_addition.gaussian_privatizer(
      stddev=1.5 * _CLIP_NORM / 16, prng_key=3
  )
  return optax.chain(
      batch_schedule.rescale(_LATE.batch_size_schedule), noise, optax.sgd(1.0)
  )


def _noise_of_the_phase():
  """Planted: noise shrinks where batches are large, and the sum does not."""
  noise = noise_addition.gaussian_privatizer(
      stddev=1.5 * _CLIP_NORM / 16, prng_key=3
  )
  shrink = batch_schedule.rescale(_LATE.batch_size_schedule)

  def update(updates, state, params=None):
    inner, counted = state
    zeros = jax.tree.map(jnp.zeros_like, updates)
    drawn, inner = noise.update(zeros, inner)
    drawn, counted = shrink.update(drawn, counted)
    return jax.tree.map(jnp.add, updates, drawn), (inner, counted)

  return optax.GradientTransformation(
      lambda params: (noise.init(params), shrink.init(params)), update
  )


@pytest.mark.few(1)
@pytest.mark.parametrize("plant", [_scaled_before_noise, _noise_of_the_phase])
def test_the_replay_catches_noise_of_another_scale(plant):
  faulty = _private(_LATE)._replace(optimizer=plant())
  with pytest.raises(testing.NoiseError, match="standard deviation"):
    _check(faulty)
  # And would not, had it looked at the first phase alone.
  _check(faulty, dataclasses.replace(_LATE, batch_size_schedule=()))


@pytest.mark.parametrize(
    "schedule, rule",
    [
        (((1, 1.0),), "ascending steps from 0"),
        (((0, 1.0), (0, 2.0)), "ascending steps from 0"),
        (((0, 1.0), (8, 2.0)), "before the last of 8 steps"),
        (((0, 5.0),), "factor must be in"),
        (((0, 1e-40),), "factor must be in .* for float32"),
        (((0, float("nan")),), "factor must be a positive finite number"),
        (((0.5, 1.0),), "step must be an integer"),
        ((3,), "pairs of a first step and a factor"),
    ],
)
def test_a_bad_schedule_is_refused(schedule, rule):
  fields = dataclasses.asdict(_MECHANISM) | {"batch_size_schedule": schedule}
  make = functools.partial(_private, types.SimpleNamespace(**fields))
  with pytest.raises(ValueError, match=f"batch_size_schedule.*{rule}"):
    make()


def test_truncated_batches_refuse_a_schedule():
  fields = dataclasses.asdict(_MECHANISM)
  fields |= {"sampling": "truncated_poisson", "max_batch_size": 20}
  with pytest.raises(ValueError, match=r"batch_size_schedule must be \(\)"):
    _private(types.SimpleNamespace(**fields))


_FIVE_PHASES = tuple((i, 1.0 + i) for i in range(5))


def _checked(check_fn, schedule):
  """What a checker gives, or that it names the schedule."""
  try:
    return check_fn(schedule, sampling_prob=0.1, num_steps=100)
  except ValueError as error:
    assert str(error).startswith(("batch_size_schedule", "sampling_prob x"))
    return "refused"


@pytest.mark.parametrize(
    "schedule",
    [
        *[(), [], _FIVE_PHASES, [[0, 1], [5, 2]], ((0, 10),)],
        *[((0, np.float32(2.0)),), ((np.int64(0), 1.0),)],
        *[((0, 1e-30),), ((0, 1e-31),), ((0, 0.0),), ((0, -1.0),)],
        *[((0, float("nan")),), ((0, float("inf")),), ((0, 10.1),)],
        *[((0, True),), ((True, 1.0),), ((0.0, 1.0),), (("0", 1.0),)],
        *[((0, "1"),), ((0, None),), ((0, 1e400),), ((0, 10**400),)],
        *[((1, 1.0),), ((0, 1.0), (0, 2.0)), ((0, 1.0), (9, 2.0), (5, 1.0))],
        *[((0, 1.0), (99, 2.0)), ((0, 1.0), (100, 2.0)), ((-1, 1.0),)],
        *[tuple((i, 1.0) for i in range(32)), ((0, 1.0, 2.0),), ((0,),)],
        *[tuple((i, 1.0) for i in range(33)), (3,), {"0": 1.0}, "01", None],
        *[((0, [1.0]),), (((0, 1), 1.0),), ((0, 1.0), (2**60, 1.0))],
    ],
    ids=lambda x: f"{x!r:.30}",
)
def test_the_accountant_and_the_sampler_take_the_same_schedules(schedule):
  # Neither package may import the other: each has its checker, of one rule.
  got = _checked(batch_schedule.check, schedule)
  want = _checked(accountants_schedule.check, schedule)
  assert got == want
  if got != "refused":
    assert [type(x) for pair in got for x in pair] == [int, float] * len(got)


def test_the_limits_of_schedules_are_the_same():
  for name in ("MAX_PHASES", "MIN_FACTOR", "MAX_FACTOR"):
    ours, theirs = batch_schedule, accountants_schedule
    assert getattr(ours, name) == getattr(theirs, name)
