"""What `make_private` returns knows its run: mechanism, epsilon, text."""

import types

import jax.numpy as jnp
import optax
import pytest

import accounting
from jax_privacy import dp_sgd

_BUDGET = {
    "epsilon": 3.0,
    "delta": 1e-5,
    "num_examples": 1000,
    "batch_size": 200,
    "num_epochs": 4,
}


def _loss(w, batch):
  return jnp.mean((batch["x"] @ w) ** 2)


def _make(*args, **changes):
  options = {"l2_clip_norm": 2.0, "key": 0, **changes}
  return dp_sgd.make_private(_loss, optax.sgd(0.1), *args, **options)


@pytest.fixture(name="private", scope="module")
def _private():
  return _make(accountant=accounting.calibrated, **_BUDGET)


def test_the_accountant_makes_the_mechanism(private):
  want = accounting.calibrate_noise(
      accounting.Mechanism.for_batch_size(
          noise_multiplier=1.0,
          num_steps=20,
          num_examples=1000,
          expected_batch_size=200,
      ),
      epsilon=3.0,
      delta=1e-5,
  )
  assert private.mechanism == want
  assert len(private.sampler) == 20


def test_epsilon_is_the_accountants_at_every_step(private):
  run = private.mechanism
  assert private.epsilon() == accounting.epsilon(run, delta=1e-5) <= 3.0
  assert private.epsilon(0) == 0.0
  first = accounting.epsilon(run.with_num_steps(7), delta=1e-6)
  assert private.epsilon(7, delta=1e-6) == first


def test_it_is_a_tuple_of_three(private):
  sampler, grad_fn, optimizer = private
  assert sampler is private.sampler and grad_fn is private.grad_fn
  assert optimizer is private.optimizer
  other = private._replace(grad_fn=None)
  assert other.grad_fn is None and other.mechanism == private.mechanism


def test_its_text_explains_it(private):
  noise = private.mechanism.noise_multiplier
  assert repr(private) == (
      "PrivateTraining of 20 updates\n"
      "  sampler: poisson, 200 of 1000 examples expected in a batch\n"
      "  grad_fn: sum of gradients of L2 norm at most 2.0, over 200\n"
      "  optimizer: noise of standard deviation"
      f" {noise * 2 / 200:.6g} (noise multiplier {noise:g}), then yours\n"
      "  guarantee: private.epsilon(), at delta 1e-05"
  )


_RUN = accounting.Mechanism(
    noise_multiplier=1.0, num_steps=3, sampling_prob=0.1, num_examples=100
)
_OWN = types.SimpleNamespace(
    noise_multiplier=1.0,
    num_steps=3,
    sampling="poisson",
    sampling_prob=0.1,
    num_examples=100,
    max_batch_size=None,
)


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda: _make(), "mechanism must be an accounting.Mechanism"),
        (lambda: _make(**_BUDGET), "mechanism must be an accounting.Mechanism"),
        (
            lambda: _make(_RUN, epsilon=3.0),
            "epsilon must be left out where a mechanism is given",
        ),
        (
            lambda: _make(_RUN, num_steps=5),
            "num_steps must be left out where a mechanism is given",
        ),
        (
            lambda: _make(_RUN, accountant=accounting.calibrated, **_BUDGET),
            "accountant must be None where a mechanism is given",
        ),
        (
            lambda: _make(accountant=accounting, **_BUDGET),
            "accountant must be a function",
        ),
        (
            lambda: _make(
                accountant=accounting.calibrated, **_BUDGET, num_steps=5
            ),
            "num_epochs must be given where num_steps is not",
        ),
        (lambda: _make(_RUN).epsilon(2), "delta must be given here"),
        (
            lambda: _make(_RUN).epsilon(4, delta=1e-5),
            "step must be at most num_steps = 3, got 4",
        ),
        (
            lambda: _make(_RUN).epsilon(-1, delta=1e-5),
            "step must be an integer of at least 0",
        ),
        (
            lambda: _make(_OWN).epsilon(delta=1e-5),
            "mechanism must be an accounting.Mechanism, which knows",
        ),
        (
            lambda: dp_sgd.PrivateTraining(1, 2, 3).epsilon(delta=1e-5),
            "private must be one that make_private returned",
        ),
    ],
)
def test_what_is_not_known_is_refused(call, text):
  with pytest.raises(ValueError, match=text):
    call()


def test_a_delta_of_its_own_is_kept():
  assert _make(_RUN, delta=1e-4).epsilon() == _RUN.epsilon(delta=1e-4)
  assert "claims no guarantee" in repr(dp_sgd.PrivateTraining(1, 2, 3))


def test_its_text_says_that_noise_is_correlated():
  run = accounting.Mechanism(
      noise_multiplier=1.0,
      num_steps=4,
      sampling_prob=0.1,
      num_examples=100,
      sampling="cyclic_poisson",
      sampling_options={"cycle_length": 2},
      noise="banded",
      noise_options={"strategy_coef": (0.8, 0.6)},
  )
  # A step's noise has more than this.
  assert "optimizer: banded, from independent noise of" in repr(_make(run))
