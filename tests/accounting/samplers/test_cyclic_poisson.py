"""Groups that take turns: accounted for as one group's Poisson steps."""

import dataclasses
import math

import numpy as np
import pytest

import accounting
from accounting import Mechanism
from accounting.numerics import rdp
from jax_privacy import dp_sgd

_RUN = Mechanism(
    noise_multiplier=1.5,
    sampling_prob=0.05,
    num_steps=25,
    num_examples=1000,
    sampling="cyclic_poisson",
    sampling_options={"cycle_length": 4},
)
# A group has 7 of 25 steps at most, and four times the probability.
_GROUP = Mechanism(noise_multiplier=1.5, sampling_prob=0.2, num_steps=7)


@pytest.mark.parametrize(
    "relation", ["add_or_remove_one", "replace_one", "replace_special"]
)
def test_a_run_is_its_largest_group(relation):
  run = _RUN.with_neighboring_relation(relation)
  group = _GROUP.with_neighboring_relation(relation)
  assert accounting.epsilon(run, delta=1e-5) == accounting.epsilon(
      group, delta=1e-5
  )
  assert run.analyses == group.analyses
  assert run.event() == group.event()
  if "rdp" in run.analyses:
    found, truth = (rdp.divergences(each)[1] for each in (run, group))
    np.testing.assert_array_equal(found, truth)


def test_one_group_is_poisson_and_all_steps_apart_count_on_nothing():
  one = dataclasses.replace(_RUN, sampling_options={"cycle_length": 1})
  plain = dataclasses.replace(_RUN, sampling="poisson", sampling_options=())
  assert accounting.epsilon(one, delta=1e-5) == accounting.epsilon(
      plain, delta=1e-5
  )
  # Each group is drawn whole, once in 20 steps: no chance is left.
  whole = dataclasses.replace(_RUN, sampling_options={"cycle_length": 20})
  fixed = dataclasses.replace(
      _RUN, sampling="deterministic", sampling_options=()
  )
  assert accounting.epsilon(whole, delta=1e-5) == accounting.epsilon(
      fixed, delta=1e-5
  )


def test_epsilon_over_time_climbs_once_a_cycle():
  curve = accounting.epsilon_curve(_RUN, steps=[1, 4, 5, 8, 9], delta=1e-5)
  assert curve[0] == curve[1] < curve[2] == curve[3] < curve[4]
  for steps, value in zip([4, 8], curve[1::2], strict=True):
    assert value == accounting.epsilon(_RUN.with_num_steps(steps), delta=1e-5)


def test_the_best_of_several_runs_counts_whole_cycles():
  # Three runs of 25 steps are 21 of a group's; 75 steps would be 19.
  cost = accounting.tuning_cost(
      _RUN, num_trials_mean=3, distribution="poisson", delta=1e-5
  )
  assert cost.epsilon_naive == accounting.epsilon(3 * _RUN, delta=1e-5)
  assert cost.epsilon_naive > accounting.epsilon(
      _RUN.with_num_steps(75), delta=1e-5
  )


def test_searches_stay_where_a_group_has_a_batch():
  found = accounting.calibrate_batch_size(_RUN, epsilon=1e3, delta=1e-5)
  assert found.expected_batch_size == 250
  found = accounting.calibrate_noise(_RUN, epsilon=2.0, delta=1e-5)
  assert 0.999 * 2 <= accounting.epsilon(found, delta=1e-5) <= 2


def test_each_example_is_in_its_groups_turns_alone():
  # 40 cycles of 3 groups: 120 steps.
  run = dataclasses.replace(
      _RUN,
      num_steps=120,
      num_examples=100,
      sampling_options={"cycle_length": 3},
  )
  batches = [
      b.indices[~b.is_padding_example] for b in dp_sgd.make_sampler(run, key=0)
  ]
  turns = [set() for _ in range(100)]
  for step, batch in enumerate(batches):
    for index in batch:
      turns[index].add(step % 3)
  # Left out in all 40 turns of a probability of 0.15: (0.85)^40 = 0.0015 each.
  assert sum(not each for each in turns) <= 3
  assert all(len(each) <= 1 for each in turns)
  groups = [sum(each == {k} for each in turns) for k in range(3)]
  # Binomial of mean 33, deviation 4.7; and in all of mean 600, deviation 23.
  assert all(abs(size - 33) < 6 * 4.7 for size in groups)
  assert abs(sum(map(len, batches)) - 600) < 6 * 23
  # One example more, the last, does not move the others between groups: they
  # are independent. An equal split would.
  assert len({*groups}) > 1 or math.isclose(groups[0], 33, abs_tol=1)


@pytest.mark.parametrize(
    "fields, text",
    [
        (
            {"sampling_options": {"cycle_length": 21}},
            "at most 1 / cycle_length",
        ),
        ({"sampling_options": {"cycle_length": 0}}, "an integer of at least 1"),
        (
            {"sampling_options": {"cycle_length": 10**10}},
            "cycle_length must be at",
        ),
        ({"sampling_options": {}}, "cycle_length must be given"),
        ({"max_batch_size": 9}, "max_batch_size must be None for sampling"),
        ({"batch_size_schedule": [(0, 0.5)]}, "batch_size_schedule must be"),
    ],
)
def test_what_is_refused(fields, text):
  with pytest.raises(ValueError, match=text):
    dataclasses.replace(_RUN, **fields)


def test_users_of_several_examples_have_no_analysis():
  with pytest.raises(ValueError, match="sampling must be one of poisson"):
    accounting.user_epsilon(_RUN, examples_per_user=2, delta=1e-5)


def test_a_statement_says_how_batches_are_drawn():
  made = accounting.make_statement(_RUN, delta=1e-5, batches="cyclic_poisson")
  text = str(made.sections)
  assert "dealt at random to one of 4 groups" in text
  assert "The program is said to draw batches so" in text
  assert not made.facts["warnings"]
  other = accounting.make_statement(_RUN, delta=1e-5, batches="poisson")
  assert "accounted for as cyclic poisson" in other.facts["warnings"][0]
  assert "the assumption is NOT met" in str(other.sections)


def test_json_round_trip():
  assert Mechanism.from_dict(_RUN.to_dict()) == _RUN
