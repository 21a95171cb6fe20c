"""Several runs as one: against closed forms, and runs of several phases."""

import dataclasses
import itertools
import math

import pytest

import accounting
from accounting import composition
from accounting.mechanism import Mechanism

_RUN = Mechanism(
    noise_multiplier=1.5, sampling_prob=0.05, num_steps=200, num_examples=1000
)
_DELTA = 1e-5


def _composed(*runs):
  return composition.composed_epsilon(runs, delta=_DELTA)


def test_runs_alike_are_one_of_all_their_steps():
  whole = accounting.epsilon(_RUN.with_num_steps(600), delta=_DELTA)
  found = _composed(*[_RUN.with_num_steps(n) for n in (100, 200, 300)])
  assert found == whole


def test_runs_that_differ_in_sampling_are_the_phases_of_one():
  """A run with a schedule was accounted for before there were several."""
  phases = dataclasses.replace(
      _RUN, num_steps=300, batch_size_schedule=((0, 1.0), (200, 2.0))
  )
  second = dataclasses.replace(_RUN, sampling_prob=0.1, num_steps=100)
  assert _composed(_RUN, second) == accounting.epsilon(phases, delta=_DELTA)
  assert _composed(second, _RUN) == _composed(_RUN, second)


@pytest.mark.parametrize("relation", ["add_or_remove_one", "replace_one"])
def test_gaussians_compose_to_a_gaussian(relation):
  runs = [
      dataclasses.replace(
          _RUN,
          noise_multiplier=noise,
          sampling_prob=1.0,
          num_steps=steps,
          neighboring_relation=relation,
      )
      for noise, steps in ((5.0, 3), (8.0, 2), (20.0, 10))
  ]
  precision = sum(run.num_steps / run.noise_multiplier**2 for run in runs)
  one = dataclasses.replace(
      runs[0], noise_multiplier=precision**-0.5, num_steps=1
  )
  exact = accounting.epsilon(one, delta=_DELTA)
  # Each of PLD's answers is within half a percent above the truth.
  assert exact / 1.005 <= _composed(*runs) <= exact * 1.005


def test_it_lies_between_the_most_and_the_sum():
  second = dataclasses.replace(_RUN, noise_multiplier=3.0)
  deterministic = dataclasses.replace(_RUN, sampling="deterministic")
  for pair in itertools.combinations((_RUN, second, deterministic), 2):
    each = [accounting.epsilon(run, delta=_DELTA) for run in pair]
    assert max(each) < _composed(*pair) < sum(each)
  # However little the second adds.
  silent = dataclasses.replace(_RUN, noise_multiplier=1e6, num_steps=1)
  assert _composed(_RUN, silent) >= accounting.epsilon(_RUN, delta=_DELTA)


def test_a_run_without_protection_leaves_none():
  loud = dataclasses.replace(_RUN, noise_multiplier=1e-6)
  assert _composed(_RUN, loud) == math.inf


@pytest.mark.parametrize(
    "changes, wanted",
    [
        (
            {"neighboring_relation": "replace_one"},
            "neighboring_relation must be",
        ),
        ({"num_examples": 999}, "num_examples must be the same for all runs"),
        (
            {"sampling": "truncated_poisson", "max_batch_size": 90},
            "sampling must be one of",
        ),
    ],
)
def test_runs_that_are_not_alike_are_refused(changes, wanted):
  with pytest.raises(ValueError, match=wanted):
    _composed(_RUN, dataclasses.replace(_RUN, **changes))


@pytest.mark.parametrize("delta", [0.0, 1.0, math.nan, 1e-40])
def test_another_delta_is_refused(delta):
  with pytest.raises(ValueError, match="delta must be"):
    composition.composed_epsilon([_RUN], delta=delta)
  with pytest.raises(ValueError, match="mechanisms must be one or more"):
    composition.composed_epsilon([], delta=1e-5)
