"""One free number with other releases, for examples and for people."""

import warnings

import pytest

import accounting
from accounting import ApproximateDp, Laplace
from tests.support import mechanisms

_RUN = mechanisms.run(noise=2.0, prob=0.01, steps=100, num_examples=10_000)
_OTHERS = _RUN + 3 * Laplace(scale=10.0)
_GOAL = {"epsilon": 1.0, "delta": 1e-6}


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "release, free",
    [
        (Laplace(scale=1.0), "scale"),
        (Laplace(scale=30.0), "sensitivity"),
        (accounting.Gaussian(stddev=1.0), "stddev"),
        (accounting.DiscreteGaussian(stddev=1.0), "stddev"),
        (accounting.Exponential(epsilon=1.0), "epsilon"),
        (accounting.ZeroConcentratedDp(rho=0.1), "rho"),
        (_RUN, "noise_multiplier"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.described,
)
def test_a_number_is_found_with_others(release, free):
  found = accounting.calibrate_release(
      release, free=free, others=_OTHERS, **_GOAL
  )
  value = getattr(found, free)
  assert float(f"{value:.5e}") == value
  whole = _OTHERS + found
  assert 0.998 <= accounting.epsilon(whole, delta=1e-6) <= 1.0
  # Planted: alone it may have far less noise, and is beyond the target.
  alone = accounting.calibrate_release(release, free=free, **_GOAL)
  assert accounting.epsilon(_OTHERS + alone, delta=1e-6) > 1.05


@pytest.mark.few(1)
@pytest.mark.parametrize("free", ["num_steps", "sampling_prob", "count"])
def test_a_whole_number_is_the_largest(free):
  run = mechanisms.run(noise=3.0, prob=0.01, steps=20, num_examples=1000)
  found = accounting.calibrate_release(run, free=free, others=_OTHERS, **_GOAL)
  if free == "count":
    [(mechanism, count)] = found.releases
    more = (count + 1) * mechanism
  elif free == "num_steps":
    more = found.with_num_steps(found.num_steps + 1)
  else:
    more = mechanisms.run(
        3.0, found.sampling_prob + 1e-3, 20, num_examples=1000
    )
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", accounting.LargeDeltaWarning)
    assert accounting.epsilon(_OTHERS + found, delta=1e-6) <= 1.0
    assert accounting.epsilon(_OTHERS + more, delta=1e-6) > 1.0


def test_noise_is_found_for_people():
  run = mechanisms.run(noise=1.0, prob=0.02, steps=30)
  histogram = Laplace(scale=40.0)
  found = accounting.calibrate_noise(
      run, others=histogram, examples_per_user=10, **_GOAL
  )
  user = accounting.user_epsilon(
      found + histogram, examples_per_user=10, delta=1e-6
  )
  assert 0.998 <= user <= 1.0
  # The histogram moves ten times as far.
  assert accounting.user_epsilon(
      histogram, examples_per_user=10, delta=1e-6
  ) == accounting.epsilon(Laplace(scale=4.0), delta=1e-6)


def test_groups_of_stated_guarantees_grow():
  stated = ApproximateDp(epsilon=0.5, delta=1e-8)
  three = stated.of_group(3)
  # (k e, d (1 + exp(e) + exp(2 e))): the triangle inequality, step by step.
  assert three.epsilon == 1.5
  assert three.delta == pytest.approx(1e-8 * (1 + 1.6487213 + 2.7182818))
  assert accounting.ZeroConcentratedDp(rho=0.1).of_group(3).rho == (
      pytest.approx(0.9)
  )


@pytest.mark.parametrize(
    "arguments, text",
    [
        ({"free": "size"}, "free must be one of scale, sensitivity, count"),
        (
            {"free": "scale", "epsilon": 0.3},
            "at least the epsilon of the other",
        ),
        ({"free": "scale", "examples_per_user": 0}, "examples_per_user must"),
        (
            {"free": "scale", "examples_per_user": 2, "accountant": "rdp"},
            "accountant must be pld for users, got 'rdp'",
        ),
    ],
)
def test_what_cannot_be_met_is_refused(arguments, text):
  given = {"others": _OTHERS, **_GOAL} | arguments
  with pytest.raises(ValueError, match=text):
    accounting.calibrate_release(Laplace(scale=1.0), **given)


def test_a_curve_of_all_follows_the_runs():
  steps = [1, 60, 100, 130]
  more = mechanisms.run(noise=4.0, prob=0.01, steps=30, num_examples=10_000)
  curve = accounting.epsilon_curve(_OTHERS + more, steps=steps, delta=1e-6)
  assert curve[-1] == accounting.epsilon(_OTHERS + more, delta=1e-6)
  assert curve[2] == accounting.epsilon(_OTHERS, delta=1e-6)
  assert curve[0] >= accounting.epsilon(3 * Laplace(scale=10.0), delta=1e-6)
  assert list(curve) == sorted(curve)
  with pytest.raises(ValueError, match="steps must be at most 130, of all run"):
    accounting.epsilon_curve(_OTHERS + more, steps=[131], delta=1e-6)
  every = accounting.epsilon_curve(
      3 * Laplace(scale=10.0) + more, steps=range(1, 31), delta=1e-6
  )
  assert len(every) == 30


def test_a_delta_is_found_up_to_what_the_others_leave():
  stated = ApproximateDp(epsilon=0.42, delta=1e-9)
  found = accounting.calibrate_release(
      stated, free="delta", others=_OTHERS, **_GOAL
  )
  assert 1e-9 < found.delta < 1e-6
  assert accounting.epsilon(_OTHERS + found, delta=1e-6) <= 1.0
