"""Calibration: at the target or just below it, and never above."""

import dataclasses
import json
import math
import pathlib

import hypothesis
import pytest
from hypothesis import strategies as st

import accounting
from accounting import Mechanism
from accounting.numerics import search

_ROWS = json.loads(
    (pathlib.Path(__file__).parent / "reference_epsilon.json").read_text()
)["rows"]


@pytest.mark.few(4)
@pytest.mark.parametrize("row", _ROWS, ids=lambda r: r["name"])
@pytest.mark.parametrize("accountant", ["pld", "rdp"])
def test_reference_noise_to_a_thousandth(row, accountant):
  run = Mechanism(
      noise_multiplier=1.0,
      num_steps=row["num_steps"],
      sampling_prob=row["sampling_prob"],
  )
  target = row[f"epsilon_{accountant}"]
  found = accounting.calibrate_noise(
      run, epsilon=target, delta=row["delta"], accountant=accountant
  )
  assert found.noise_multiplier == pytest.approx(
      row["noise_multiplier"], rel=1e-3
  )
  reached = accounting.epsilon(found, delta=row["delta"], accountant=accountant)
  assert 0.999 * target <= reached <= target


@pytest.mark.slow
@hypothesis.settings(max_examples=12, deadline=None)
@hypothesis.given(
    prob=st.floats(1e-3, 1.0),
    steps=st.integers(1, 5000),
    target=st.floats(0.05, 20.0),
    delta=st.floats(1e-9, 1e-4),
    relation=st.sampled_from(["add_or_remove", "replace"]),
)
def test_calibrated_noise_never_exceeds_the_target(
    prob, steps, target, delta, relation
):
  run = Mechanism(
      noise_multiplier=1.0,
      num_steps=steps,
      sampling_prob=prob,
      neighboring_relation=relation,
  )
  found = accounting.calibrate_noise(run, epsilon=target, delta=delta)
  reached = accounting.epsilon(found, delta=delta)
  assert reached <= target
  assert reached >= 0.999 * target or found.noise_multiplier == 0.01


@pytest.mark.parametrize(
    "fields",
    [
        {"sampling": "truncated_poisson", "max_batch_size": 120},
        {"sampling": "deterministic"},
        pytest.param(
            {
                "sampling": "fixed_without_replacement",
                "neighboring_relation": "replace",
            },
            marks=pytest.mark.slow,  # Its differences take seconds.
        ),
    ],
    ids=lambda f: f["sampling"],
)
def test_every_sampler_can_be_calibrated(fields):
  accountant = "rdp" if "without" in fields["sampling"] else "pld"
  run = Mechanism.for_batch_size(
      expected_batch_size=100,
      num_examples=5000,
      noise_multiplier=1.0,
      num_steps=200,
      **fields,
  )
  found = accounting.calibrate_noise(
      run, epsilon=3.0, delta=1e-5, accountant=accountant
  )
  reached = accounting.epsilon(found, delta=1e-5, accountant=accountant)
  assert 0.999 * 3.0 <= reached <= 3.0
  assert dataclasses.replace(found, noise_multiplier=1.0) == run


@pytest.mark.few(3)
@pytest.mark.parametrize("prob", [1e-300, 0.1])
@pytest.mark.parametrize("target", [1e-300, 1e-6, 1e300])
@pytest.mark.parametrize("delta", [1e-300, 1e-5, 1 - 1e-16])
# Targets that nobody should have: all that is warned of is right.
@pytest.mark.filterwarnings("ignore::accounting.AccountingWarning")
def test_extreme_targets_end_in_an_answer_or_a_refusal(prob, target, delta):
  run = Mechanism(noise_multiplier=1.0, num_steps=5, sampling_prob=prob)
  try:
    found = accounting.calibrate_noise(run, epsilon=target, delta=delta)
  except ValueError as error:
    assert "within reach of a noise multiplier" in str(error)
  else:
    assert accounting.epsilon(found, delta=delta) <= target


@pytest.mark.parametrize("accountant", ["pld", "rdp"])
@pytest.mark.parametrize("target", [0.5, 3.0])
def test_one_step_more_would_not_fit(accountant, target):
  run = Mechanism(noise_multiplier=1.5, num_steps=1, sampling_prob=0.02)
  found = accounting.calibrate_num_steps(
      run, epsilon=target, delta=1e-5, accountant=accountant
  )
  more = dataclasses.replace(found, num_steps=found.num_steps + 1)
  limit = accounting.epsilon(found, delta=1e-5, accountant=accountant)
  assert limit <= target
  assert accounting.epsilon(more, delta=1e-5, accountant=accountant) > target


def test_one_example_more_would_not_fit():
  run = Mechanism(
      noise_multiplier=1.5, num_steps=500, sampling_prob=1.0, num_examples=2000
  )
  found = accounting.calibrate_batch_size(run, epsilon=2.0, delta=1e-5)
  size = found.expected_batch_size
  assert size.is_integer()
  more = dataclasses.replace(run, sampling_prob=(size + 1) / 2000)
  assert accounting.epsilon(found, delta=1e-5) <= 2.0
  assert accounting.epsilon(more, delta=1e-5) > 2.0


def test_all_examples_may_fit_in_a_batch():
  run = Mechanism(
      noise_multiplier=100.0, num_steps=5, sampling_prob=0.1, num_examples=50
  )
  found = accounting.calibrate_batch_size(run, epsilon=2.0, delta=1e-5)
  assert found.expected_batch_size == 50


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, True, "8"])
def test_bad_target_is_refused(value):
  run = Mechanism(noise_multiplier=1.0, num_steps=10, sampling_prob=0.1)
  with pytest.raises(ValueError, match="^epsilon must be a finite number abov"):
    accounting.calibrate_noise(run, epsilon=value, delta=1e-5)


def test_not_even_one_step_fits():
  run = Mechanism(noise_multiplier=0.5, num_steps=9, sampling_prob=1.0)
  with pytest.raises(ValueError, match=r"at least the epsilon of one step \("):
    accounting.calibrate_num_steps(run, epsilon=0.1, delta=1e-5)
  run = dataclasses.replace(run, num_examples=1)
  with pytest.raises(ValueError, match="epsilon of a batch of one"):
    accounting.calibrate_batch_size(run, epsilon=0.1, delta=1e-5)


def test_steps_without_end_are_refused():
  run = Mechanism(noise_multiplier=1e6, num_steps=9, sampling_prob=1e-6)
  with pytest.raises(ValueError, match="exceeded within 100000000 steps"):
    accounting.calibrate_num_steps(
        run, epsilon=5.0, delta=1e-5, accountant="rdp"
    )


def test_unreachable_target_is_refused():
  run = Mechanism(noise_multiplier=1.0, num_steps=10**8, sampling_prob=1.0)
  with pytest.raises(ValueError, match="within reach of a noise multiplier"):
    accounting.calibrate_noise(run, epsilon=1e-9, delta=1e-12)


def test_batch_size_needs_the_number_of_examples():
  run = Mechanism(noise_multiplier=1.0, num_steps=10, sampling_prob=0.1)
  with pytest.raises(ValueError, match="num_examples must be given"):
    accounting.calibrate_batch_size(run, epsilon=1.0, delta=1e-5)


def test_search_returns_only_points_that_were_tried_and_fit():
  tried = {}

  def stairs(x):
    tried[x] = math.ceil(10 / x)
    return tried[x]

  found = search.smallest(stairs, target=3.5, guess=1.0, low=0.1, high=100.0)
  assert tried[found] <= 3.5
  assert found == pytest.approx(10 / 3, rel=1e-6)
  assert search.smallest(stairs, target=0.5, guess=1, low=0.1, high=9) is None


@hypothesis.given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_integer_search_finds_the_last_that_fits(last, guess):
  found = search.largest_integer(
      lambda n: math.sqrt(n), target=math.sqrt(last), guess=guess, high=10**7
  )
  assert found == last
