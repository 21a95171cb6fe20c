"""`dp.auto_tune`: one quantity from the budget, the largest or least that fits.

Each property is checked against `accounting.epsilon` of what was found, and of
its next neighbour, which must not fit.
"""

import dataclasses

import pytest

import accounting
from experiments.plan import experiment as experiment_lib
from experiments.plan import mechanism as mechanism_lib
from experiments.plan import optimizer as optimizer_lib
from tests.support import launch

_DELTA = 1e-4
_NUM_EXAMPLES = 1437
# What is given, but for the quantity that is to be found.
_GIVEN = {
    "noise_multiplier": {"dp__noise_multiplier": None},
    "num_steps": {"train__num_steps": None},
    "batch_size": {"train__expected_batch_size": 0.0},
    "stopping_step": {},
}


def _config(tuned, make=launch.config, **fields):
  given = {
      "dp__auto_tune": tuned,
      "dp__epsilon": 2.0,
      "dp__delta": _DELTA,
      "dp__noise_multiplier": 2.0,
      "train__num_steps": 400,
      "train__num_epochs": None,
      "train__expected_batch_size": 100,
      **_GIVEN.get(tuned, {}),
  }
  return make(**given | fields)


def _plan(tuned, **fields):
  config = _config(tuned, **fields)
  return mechanism_lib.build_plan(config.dp, config.train, _NUM_EXAMPLES)


def _epsilon(mechanism, accountant="pld", **changes):
  changed = dataclasses.replace(mechanism, **changes)
  return accounting.epsilon(changed, delta=_DELTA, accountant=accountant)


def _next(tuned, mechanism):
  """The neighbour on the side of less privacy."""
  if tuned == "batch_size":
    size = mechanism.expected_batch_size + 1
    return {"sampling_prob": size / _NUM_EXAMPLES}
  return {"num_steps": mechanism.num_steps + 1}


@pytest.mark.few(5)
@pytest.mark.parametrize(
    "epsilon, accountant, sampling",
    [
        (0.7, "pld", "poisson"),
        (2.0, "rdp", "poisson"),
        (3.0, "pld", "deterministic"),
    ],
)
@pytest.mark.parametrize("tuned", ["num_steps", "batch_size", "stopping_step"])
def test_what_is_found_fits_and_the_next_does_not(
    tuned, epsilon, accountant, sampling
):
  found, _ = _plan(
      tuned,
      dp__epsilon=epsilon,
      dp__accountant=accountant,
      dp__sampling=sampling,
      **({"train__num_steps": 10**5} if tuned == "stopping_step" else {}),
  )
  assert _epsilon(found, accountant) <= epsilon
  assert _epsilon(found, accountant, **_next(tuned, found)) > epsilon


@pytest.mark.parametrize("epsilon", [0.3, 2.0, 9.0])
def test_the_least_noise_is_found(epsilon):
  found, steps = _plan("noise_multiplier", dp__epsilon=epsilon)
  assert found.num_steps == steps == 400
  assert _epsilon(found) <= epsilon
  # The search's own tolerance is a thousandth of epsilon, and epsilon falls at
  # least as fast as one over the noise multiplier.
  less = found.noise_multiplier * (1 - 1.1e-3)
  assert _epsilon(found, noise_multiplier=less) > epsilon


def test_noise_is_found_as_without_a_name():
  named = _plan("noise_multiplier")
  assert named == _plan(None, dp__noise_multiplier=None)


def test_the_schedule_keeps_the_length_asked_for_or_stretches():
  found, steps = _plan("num_steps", dp__epsilon=0.7)
  assert steps == found.num_steps > 1
  stopped, asked = _plan("stopping_step", dp__epsilon=0.7, train__num_steps=900)
  assert (asked, stopped) == (900, found)
  cut = _plan(None, dp__epsilon=0.7, train__num_steps=900)
  assert cut == (found, found.num_steps)


def test_a_run_that_fits_is_not_stopped():
  stopped, asked = _plan("stopping_step", dp__epsilon=20.0)
  assert stopped.num_steps == asked == 400


def test_epochs_are_those_of_the_given_batch_size():
  found, steps = _plan(
      "noise_multiplier", train__num_steps=None, train__num_epochs=2.0
  )
  assert found.num_steps == steps == 29  # 2 x 1437 / 100, rounded up.


@pytest.mark.parametrize("task", launch.EACH_TASK)
def test_learning_rates_span_what_was_asked_for(task, monkeypatch):
  told, real = [], optimizer_lib.build_optimizer
  monkeypatch.setattr(
      optimizer_lib, "build_optimizer", lambda *a: told.append(a) or real(*a)
  )
  make = launch.TASKS[task]
  experiment = experiment_lib.build(
      _config("stopping_step", make, dp__epsilon=0.7)
  )
  assert experiment.mechanism.num_steps < experiment.schedule_steps == 400
  assert [num_steps for _, num_steps, *_ in told] == [400]


@pytest.mark.parametrize(
    "tuned, fields, text",
    [
        ("noise", {}, "dp.auto_tune must be None or one of noise_mult"),
        ("num_steps", {"dp__epsilon": None}, "dp.epsilon must be given with"),
        (
            "noise_multiplier",
            {"dp__noise_multiplier": 2.0},
            "dp.noise_multiplier must be None with dp.auto_tune 'noise_mult",
        ),
        (
            "noise_multiplier",
            {"train__num_steps": None},
            "one of train.num_steps and train.num_epochs must be given",
        ),
        (
            "num_steps",
            {"dp__noise_multiplier": None},
            "dp.noise_multiplier must be given with dp.auto_tune 'num_steps'",
        ),
        (
            "num_steps",
            {"train__num_epochs": 2.0},
            "train.num_epochs must be None with dp.auto_tune 'num_steps'",
        ),
        (
            "num_steps",
            {"train__num_steps": 5},
            "train.num_steps must be None with dp.auto_tune 'num_steps'",
        ),
        (
            "batch_size",
            {"train__expected_batch_size": 64},
            "expected_batch_size must be 0 with dp.auto_tune 'batch_size'",
        ),
        (
            "batch_size",
            {"train__num_steps": None, "train__num_epochs": 2.0},
            "train.num_epochs must be None with dp.auto_tune 'batch_size'",
        ),
        (
            "stopping_step",
            {"train__num_steps": None},
            "one of train.num_steps and train.num_epochs must be given",
        ),
        ("num_steps", {"dp__epsilon": 1e-5}, "epsilon of one step"),
        ("stopping_step", {"dp__epsilon": 1e-5}, "epsilon of one step"),
        ("batch_size", {"dp__epsilon": 1e-5}, "epsilon of a batch of one"),
    ],
)
def test_a_clear_error_where_nothing_can_be_found(tuned, fields, text):
  with pytest.raises(ValueError, match=text):
    _plan(tuned, **fields)
