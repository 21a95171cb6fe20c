"""Noise without a last band: made as accounted for, or refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import accounting
from jax_privacy import dp_sgd, strategies, testing
from tests.support import patterns

_LAMBDA = {"noising_coef": (1.0, -0.7)}
_BISR = {"noising_coef": (1.0, -0.5, -0.125, -0.0625)}
_BLT = {"buf_decay": (0.9, 0.4), "output_scale": (0.2, 0.25)}
_CASES = [("banded_inverse", _LAMBDA), ("banded_inverse", _BISR)]
_CASES += [("blt", _BLT)]
_SHUFFLE = accounting.Mechanism(
    noise_multiplier=2.0,
    num_steps=8,
    num_examples=64,
    sampling="shuffle",
    sampling_prob=0.125,
    neighboring_relation="replace_special",
)


def _of(noise, options, run=_SHUFFLE, **fields):
  return dataclasses.replace(run, noise=noise, noise_options=options, **fields)


def _private(mechanism):
  return dp_sgd.make_private(
      lambda w, x: jnp.sum(jnp.sin(x @ w)),
      optax.identity(),
      mechanism,
      l2_clip_norm=0.5,
      key=7,
      check_loss=False,
  )


def _noise(private, num_steps, size=40):
  """The noise of each step, over one example's share."""
  zeros, rows = jnp.zeros(size), []
  state = private.optimizer.init(zeros)
  for _ in range(num_steps):
    updates, state = private.optimizer.update(zeros, state, zeros)
    rows.append(np.asarray(updates, np.float64))
  return np.stack(rows) / private.grad_fn.sensitivity("add_or_remove_one")


@pytest.mark.parametrize("noise, options", _CASES)
def test_c_times_the_noise_is_that_of_dp_sgd(noise, options):
  mechanism = _of(noise, options)
  coef = strategies.strategy_coef(mechanism, 8)
  # Of one clip norm: the strategy's columns have norm 1, and none is longer.
  strategy = patterns.toeplitz(coef, 8)
  norms = np.linalg.norm(strategy, axis=0)
  assert 1 - 1e-8 < norms[0] <= 1 and norms.max() == norms[0]
  moved = patterns.furthest(strategy, patterns.moves(8, max_participations=1))
  assert moved <= 1
  found = strategy @ _noise(_private(mechanism), 8)
  independent = _noise(_private(_SHUFFLE), 8)
  # Float32 rounds noise of some 2 sigma, in sums of a few terms.
  np.testing.assert_allclose(found, independent, rtol=0, atol=1e-5)


@pytest.mark.parametrize("noise, options", _CASES)
def test_a_run_that_goes_on_draws_the_same_noise(noise, options):
  private, zeros = _private(_of(noise, options)), jnp.zeros(3)
  states, found = [private.optimizer.init(zeros)], []
  for _ in range(3):
    updates, state = private.optimizer.update(zeros, states[-1], zeros)
    found.append(updates)
    states.append(state)
  again = jax.tree.map(jnp.array, states[2])
  updates, _ = private.optimizer.update(zeros, again, zeros)
  np.testing.assert_array_equal(updates, found[2])
  leaves = jax.tree.leaves(states[0][0].buffers)
  # Buffers, or no state at all.
  assert len(leaves) == (noise == "blt")


def test_check_private_learns_the_covariance():
  mechanism = _of("banded_inverse", _LAMBDA)
  private, x, w = _private(mechanism), jnp.ones((4, 30)), jnp.zeros(30)
  report = testing.check_private(
      private, w, x, mechanism=mechanism, max_examples=2
  )
  assert report.noise.stddev == pytest.approx(2.0 * 0.5 / 8)
  other = _of("banded_inverse", {"noising_coef": (1.0, -0.3)})
  for claimed in (_SHUFFLE, other):
    with pytest.raises(testing.NoiseError):
      testing.check_noise(
          private.optimizer,
          w,
          stddev=2.0 * 0.5 / 8,
          strategy_coef=strategies.strategy_coef(claimed, 200),
      )


@pytest.mark.parametrize("noise, options", _CASES)
@pytest.mark.parametrize(
    "fields",
    [
        {"num_steps": 9},  # More than one epoch.
        {"sampling": "poisson", "neighboring_relation": "add_or_remove_one"},
        {"sampling": "balls_in_bins"},
        {
            "sampling": "cyclic_poisson",
            "sampling_options": {"cycle_length": 7},
            "neighboring_relation": "add_or_remove_one",
        },
    ],
)
def test_steps_that_may_be_near_are_refused_by_both(noise, options, fields):
  name = next(iter(options))
  with pytest.raises(ValueError, match=f"{name} must be at most . numbers"):
    _of(noise, options, **fields)
  # And by what draws the noise, of a record that no accountant has checked.
  plain = dataclasses.replace(_SHUFFLE, **fields)
  unchecked = dataclasses.replace(plain)
  object.__setattr__(unchecked, "noise", noise)
  object.__setattr__(unchecked, "noise_options", tuple(options.items()))
  with pytest.raises(ValueError, match=f"{name} must be (one|at most) "):
    _private(unchecked)


def test_one_coefficient_is_dp_sgd_to_the_bit():
  one = _of("banded_inverse", {"noising_coef": (1.0,)}, num_steps=20)
  plain = dataclasses.replace(_SHUFFLE, num_steps=20)
  np.testing.assert_array_equal(
      _noise(_private(one), 2), _noise(_private(plain), 2)
  )
