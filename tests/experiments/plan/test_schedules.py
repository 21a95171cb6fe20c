"""Schedules in fractions of the run, against optax's own in steps."""

import json

import numpy as np
import optax
import pytest

from experiments.plan import optimizer as optimizer_lib
from experiments.plan import schedules
from tests.support import fuzz, launch

_N = 40


def _rates(name, options, num_steps=_N, learning_rate=2.0):
  schedule = schedules.build(
      name, options, learning_rate=learning_rate, num_steps=num_steps
  )
  return [float(schedule(t)) for t in range(num_steps)]


# By name: options, and the same in steps of a run of 40.
_CASES = [
    ("constant", {}, optax.constant_schedule(2.0)),
    ("cosine", {}, optax.cosine_decay_schedule(2.0, 40)),
    ("cosine", {"end_value": 0.5}, optax.cosine_decay_schedule(2.0, 40, 0.25)),
    ("linear", {"end_value": 0.2}, optax.linear_schedule(2.0, 0.2, 40)),
    ("polynomial", {"power": 3.0}, optax.polynomial_schedule(2.0, 0.0, 3, 40)),
    (
        "exponential",
        {"decay_rate": 0.5, "transition": 0.25, "staircase": True},
        optax.exponential_decay(2.0, 10, 0.5, staircase=True),
    ),
    (
        "step",
        {"boundaries": (0.5, 0.75), "scales": (0.1, 0.5)},
        optax.piecewise_constant_schedule(2.0, {20: 0.1, 30: 0.5}),
    ),
    (
        "warmup_constant",
        {"warmup": 0.1, "init_value": 0.4},
        optax.warmup_constant_schedule(0.4, 2.0, 4),
    ),
    (
        "warmup_cosine",
        {"warmup": 0.1, "end_value": 0.02},
        optax.warmup_cosine_decay_schedule(0.0, 2.0, 4, 40, 0.02),
    ),
    (
        "warmup_exponential",
        {"warmup": 0.1, "decay_rate": 0.5, "transition": 0.25},
        optax.warmup_exponential_decay_schedule(0.0, 2.0, 4, 10, 0.5),
    ),
]


@pytest.mark.parametrize(
    "name, options, want", _CASES, ids=lambda x: str(x)[:9]
)
def test_is_optax_s_schedule_in_steps(name, options, want):
  got = _rates(name, options)
  np.testing.assert_allclose(got, [want(t) for t in range(_N)], rtol=1e-6)


def test_boundaries_count_from_the_start_of_the_run_also_after_a_warm_up():
  options = {"warmup": 0.1, "boundaries": (0.5,), "scales": (0.1,)}
  got = _rates("warmup_step", options)
  np.testing.assert_allclose(got[:5], [0.0, 0.5, 1.0, 1.5, 2.0])
  np.testing.assert_allclose(got[19:21], [2.0, 0.2], rtol=1e-6)


def test_a_linear_decay_after_a_warm_up_ends_with_the_run():
  got = _rates("warmup_linear", {"warmup": 0.5})
  # From 2.0 at step 20 to 0.0 at step 40, which is not taken.
  np.testing.assert_allclose(got[20:], 2.0 - 0.1 * np.arange(20), atol=1e-6)


def test_the_shape_does_not_depend_on_the_number_of_steps():
  options = {"warmup": 0.2, "end_value": 0.3}
  short, long = (_rates("warmup_cosine", options, n) for n in (20, 200))
  np.testing.assert_allclose(short, long[::10], atol=1e-6)


@pytest.mark.parametrize("name", schedules.names())
@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_the_shortest_runs_have_finite_rates_and_one_behind_the_warm_up(
    name, num_steps
):
  options = {"boundaries": (0.5, 0.6), "scales": (0.5, 0.5)}
  options = options if "step" in name else {}
  if "exponential" in name:
    options = {"decay_rate": 0.5}
  if name.startswith("warmup_"):
    options |= {"warmup": 0.3}
  rates = _rates(name, options, num_steps)
  assert all(np.isfinite(rates)) and max(rates) > 0


def test_two_boundaries_that_a_short_run_rounds_to_one_step_both_count():
  options = {"boundaries": (0.5, 0.51), "scales": (0.5, 0.1)}
  assert _rates("step", options, 4)[-1] == pytest.approx(2.0 * 0.05)


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("sgdr", {}, "schedule must be one of constant, cosine.*got 'sgdr'"),
        (
            "cosine",
            {"warmup": 0.1},
            r"options of cosine \(end_value\), got war",
        ),
        ("constant", {"x": 1}, r"constant \(there are none\), got x"),
        ("warmup_cosine", {}, "warmup must be in .0, 1., got None"),
        ("warmup_cosine", {"warmup": 1.0}, "warmup must be in .0, 1., got 1.0"),
        ("warmup_cosine", {"warmup": 200}, "warmup must be in .0, 1., got 200"),
        ("warmup_cosine", {"warmup": True}, "warmup must be .* got True"),
        ("cosine", {"end_value": -0.1}, "end_value must be at least 0, got"),
        ("cosine", {"end_value": "0"}, "end_value must be at least 0, got '0'"),
        ("polynomial", {"power": 0.0}, "power must be positive, got 0.0"),
        ("exponential", {}, "decay_rate must be positive, got None"),
        (
            "exponential",
            {"decay_rate": 0.5, "transition": 0.0},
            "transition must be in .0, 1.. got 0.0",
        ),
        ("step", {"scales": (1.0,)}, "boundaries must be ascending.*got None"),
        (
            "step",
            {"boundaries": (0.5, 0.2), "scales": (0.1, 0.1)},
            "boundaries must be ascending fractions",
        ),
        (
            "step",
            {"boundaries": (0.5, 0.7), "scales": (0.1,)},
            "scales must be one for each boundary, got 1 for 2",
        ),
        (
            "warmup_step",
            {"warmup": 0.5, "boundaries": (0.2,), "scales": (0.1,)},
            "boundaries must be after the warm-up",
        ),
    ],
)
def test_wrong_options_are_named(name, options, message):
  with pytest.raises(ValueError, match=message) as raised:
    _rates(name, options)
  fuzz.assert_clear(raised.value, "train.schedule")


def test_the_config_s_schedule_reaches_the_update():
  config = launch.config(
      train__learning_rate=2.0,
      train__schedule="warmup_linear",
      train__schedule_options={"warmup": 0.5},
  )
  # As a config that was read from a file has it.
  assert json.loads(config.to_json())["train"]["schedule_options"]
  params = {"linear": np.float32(0.0)}
  optimizer = optimizer_lib.build_optimizer(config.train, 4, params)
  state, got = optimizer.init(params), []
  for _ in range(4):
    update, state = optimizer.update({"linear": np.float32(1.0)}, state, params)
    got.append(-float(update["linear"]))
  assert got == [0.0, 1.0, 2.0, 1.0]
