"""The record of a run: what it refuses, what it keeps, what it tells."""

import dataclasses
import json
import math

import dp_accounting
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from accounting import Mechanism

_GOOD = {"noise_multiplier": 1.0, "num_steps": 10, "sampling_prob": 0.1}
_BAD_NUMBERS = [-1.0, 0.0, math.nan, math.inf, True, "1", None, 1 + 0j, [1]]


def _refused(match, **fields):
  with pytest.raises(ValueError, match=match):
    Mechanism(**(_GOOD | fields))


@pytest.mark.parametrize("value", [*_BAD_NUMBERS, 10**400])
def test_bad_noise_is_named_with_rule_and_value(value):
  _refused(
      r"^noise_multiplier must be a finite number above 0, got .+\.$",
      noise_multiplier=value,
  )


@pytest.mark.parametrize("value", [*_BAD_NUMBERS, 1.0001, -1e-9])
def test_bad_sampling_prob_is_named_with_rule_and_value(value):
  _refused(
      r"^sampling_prob must be a number in \(0, 1\], got .+\.$",
      sampling_prob=value,
  )


@pytest.mark.parametrize("value", [*_BAD_NUMBERS, 1.0, 2.5, 2**53 + 1])
def test_bad_num_steps_is_named_with_rule_and_value(value):
  _refused(r"^num_steps must be an integer of at .+ got .+\.$", num_steps=value)


@pytest.mark.parametrize("value", [0, -5, 1.5, "10", math.nan, False])
def test_bad_num_examples_is_named_with_rule_and_value(value):
  _refused(r"^num_examples must be an integer .+\.$", num_examples=value)


@pytest.mark.parametrize("value", ["shuffles", "POISSON", 1, None])
def test_bad_sampling_lists_the_options(value):
  _refused(r"^sampling must be one of poisson, .+, got .+\.$", sampling=value)


@pytest.mark.parametrize("value", ["zero_out", 1, None, np.ones(2)])
def test_bad_relation_lists_the_options(value):
  _refused(
      r"^neighboring_relation must be one of add_or_remove_one, replace_one, "
      r"replace_special, got",
      neighboring_relation=value,
  )


def test_fields_of_one_sampler_are_required_there_and_refused_elsewhere():
  _refused("max_batch_size must be given", sampling="truncated_poisson")
  _refused(
      "num_examples must be given",
      sampling="truncated_poisson",
      max_batch_size=5,
  )
  _refused("max_batch_size must be None for sampling", max_batch_size=5)
  _refused("num_examples must be given", sampling="fixed_without_replacement")
  # 0.1 of 15 examples is a batch and a half.
  _refused(
      "expected_batch_size must be a whole number",
      sampling="fixed_without_replacement",
      num_examples=15,
  )


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("add_or_remove", "add_or_remove_one"),
        ("ADD_OR_REMOVE_ONE", "add_or_remove_one"),
        ("replace", "replace_one"),
        (dp_accounting.NeighboringRelation.REPLACE_ONE, "replace_one"),
        (dp_accounting.NeighboringRelation.REPLACE_SPECIAL, "replace_special"),
    ],
)
def test_relation_is_normalised(given, stored):
  made = Mechanism(**_GOOD, neighboring_relation=given)
  assert made.neighboring_relation == stored


@hypothesis.given(st.integers(1, 10**7), st.data())
def test_batch_size_survives_division_by_the_data_set(total, data):
  size = data.draw(st.integers(1, total))
  made = Mechanism.for_batch_size(
      expected_batch_size=size,
      num_examples=total,
      noise_multiplier=1.0,
      num_steps=1,
  )
  assert made.expected_batch_size == float(size)


def test_batch_size_needs_num_examples_and_at_most_all_of_them():
  with pytest.raises(ValueError, match="num_examples must be given"):
    _ = Mechanism(**_GOOD).expected_batch_size
  with pytest.raises(
      ValueError,
      match=r"expected_batch_size must be at most num_examples \(10\), got 11.",
  ):
    Mechanism.for_batch_size(
        expected_batch_size=11,
        num_examples=10,
        noise_multiplier=1.0,
        num_steps=1,
    )


def test_numpy_numbers_become_python_numbers():
  made = Mechanism(
      noise_multiplier=np.float32(2), num_steps=np.int64(3), sampling_prob=1
  )
  assert json.loads(json.dumps(made.to_dict()))["num_steps"] == 3
  assert type(made.noise_multiplier) is float


def test_frozen_and_replaceable_with_the_same_checks():
  made = Mechanism(**_GOOD)
  with pytest.raises(dataclasses.FrozenInstanceError):
    made.num_steps = 5
  assert dataclasses.replace(made, num_steps=5).num_steps == 5
  with pytest.raises(ValueError, match="num_steps"):
    dataclasses.replace(made, num_steps=0)


@hypothesis.given(
    st.builds(
        Mechanism,
        noise_multiplier=st.floats(1e-3, 1e3),
        num_steps=st.integers(1, 10**6),
        sampling_prob=st.floats(1e-9, 1.0),
        num_examples=st.none() | st.integers(1, 10**9),
        neighboring_relation=st.sampled_from(["add_or_remove", "replace"]),
    )
)
def test_json_round_trip_is_exact(made):
  assert Mechanism.from_dict(json.loads(json.dumps(made.to_dict()))) == made


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ([], "fields must be a mapping"),
        (_GOOD | {"sigma": 1}, "field must be one of .* got 'sigma'"),
        ({"num_steps": 1}, "noise_multiplier must be given"),
        (_GOOD | {"noise_multiplier": "1"}, "noise_multiplier must be"),
        (_GOOD | {"num_steps": 10.0}, "num_steps must be an integer"),
        # The two keys that dp-accounting's from_named_tuple would import.
        (_GOOD | {"module_name": "os"}, "got 'module_name'"),
        (_GOOD | {"class_name": "system"}, "got 'class_name'"),
    ],
)
def test_from_dict_trusts_nothing(fields, match):
  with pytest.raises(ValueError, match=match):
    Mechanism.from_dict(fields)


@pytest.mark.parametrize(
    ("prob", "steps", "times"),
    [
        (1.0, 7, 7),
        (0.5, 7, 4),
        (1 / 49, 98, 2),  # 1 / (1 / 49) is below 49 in floating point.
        (30 / 100, 10, 4),  # Epochs of 3 steps, the short batch dropped.
        (1e-300, 10, 1),
        (5e-324, 10, 1),
    ],
)
def test_participations_without_chance(prob, steps, times):
  made = Mechanism(
      noise_multiplier=1.0,
      num_steps=steps,
      sampling_prob=prob,
      sampling="deterministic",
  )
  assert made.max_participations == times


def test_no_epoch_layout_beats_max_participations():
  # Slow oracle: count for every layout, n and batch size what it claims.
  for total in range(1, 13):
    for batch in range(1, total + 1):
      for steps in (1, 5, 11, 24):
        made = Mechanism.for_batch_size(
            expected_batch_size=batch,
            num_examples=total,
            noise_multiplier=1.0,
            num_steps=steps,
            sampling="deterministic",
        )
        wrapped = np.bincount(
            np.arange(steps * batch) % total, minlength=total
        ).max()
        dropped = -(-steps // (total // batch))
        kept = -(-steps // -(-total // batch))
        assert made.max_participations >= max(wrapped, dropped, kept)


def test_events_name_the_sampler():
  fixed = Mechanism(
      **_GOOD,
      sampling="fixed_without_replacement",
      num_examples=50,
      neighboring_relation="replace",
  ).event()
  assert fixed.event.sample_size == 5
  # Replacing moves the sum by twice the clip norm, and RDP does not know it.
  assert fixed.event.event.noise_multiplier == 0.5
  plain = dataclasses.replace(
      Mechanism(**_GOOD),
      sampling="deterministic",
      neighboring_relation="replace",
  )
  assert plain.event(accountant="rdp").event.noise_multiplier == 0.5
  assert plain.event(accountant="pld").event.noise_multiplier == 1.0
  assert plain.event().count == 1  # 10 steps are one epoch.
