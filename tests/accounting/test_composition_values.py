"""A composition as a value: made, written, read, refused, and stated."""

import dataclasses
import json

import numpy as np
import pytest

import accounting
from accounting import Composition
from tests.support import mechanisms

_run = mechanisms.run
_A = _run(noise=4.0, prob=0.01, steps=100, num_examples=1000)
_B = _run(noise=2.0, prob=0.1, steps=20, num_examples=1000)
_C = _run(noise=9.0, prob=0.2, steps=10, sampling="deterministic")


def test_nesting_is_flattened_and_equal_ones_are_counted():
  once = Composition([_A, (_B, 2), 3 * (_A + _C)])
  assert once.releases == ((_A, 4), (_B, 2), (_C, 3))
  assert once == _A + 2 * _B + 3 * (_A + _C)
  assert hash(once) == hash(Composition(list(once.releases)))
  assert np.int64(3) * _A == 3 * _A
  assert once.num_steps == 4 * 100 + 2 * 20 + 3 * 10
  assert once.expected_epochs == pytest.approx(4 + 4 + 6)


def test_it_is_written_and_read():
  once = Composition(
      [
          _A,
          (_B, 2),
          dataclasses.replace(_B, batch_size_schedule=((0, 1.0), (5, 2.0))),
      ],
      unit="patient",
  )
  fields = json.loads(json.dumps(once.to_dict()))
  assert fields["version"] == 1 and fields["releases"][1]["count"] == 2
  assert Composition.from_dict(fields) == once
  assert Composition.from_dict((_A + _B).to_dict()).unit is None


@pytest.mark.parametrize(
    "change, text",
    [
        ({"version": 2}, "version must be 1, got 2"),
        ({"version": True}, "version must be 1, got True"),
        ({"releases": []}, "releases must be at least one mechanism, got"),
        ({"releases": {}}, "releases must be a list of mappings, got"),
        ({"releases": [3]}, "a release must be a mapping of kind, count, mec"),
        ({"releases": [{}]}, "kind must be given in a release, got None"),
        ({"releases": [{}] * 1001}, "releases must be at most 1000, got 1001"),
        ({"unit": ""}, "unit must be a word or two, such as"),
        ({"unit": 3}, "unit must be a word or two, such as"),
        ({"more": 3}, "fields must be a mapping of version, unit, releases"),
    ],
)
def test_fields_are_not_trusted(change, text):
  with pytest.raises(ValueError, match=text):
    Composition.from_dict((_A + _B).to_dict() | change)


@pytest.mark.parametrize(
    "change, text",
    [
        ({"kind": "shuffle"}, "kind must be one of dp_sgd, laplace, discr"),
        ({"count": 0}, "count must be an integer of at least 1, got 0"),
        ({"count": 1.0}, "count must be an integer of at least 1, got 1.0"),
        ({"count": 2**53}, "the steps of all releases must be at most 2"),
        ({"mechanism": []}, "fields must be a mapping of field names, got"),
        ({"mechanism": {"sigma": 1}}, "field must be one of noise_multiplier"),
        ({"more": 3}, "a release must be a mapping of kind, count, mechanism"),
    ],
)
def test_a_release_is_not_trusted(change, text):
  fields = (_A + _B).to_dict()
  fields["releases"][0] |= change
  with pytest.raises(ValueError, match=text):
    Composition.from_dict(fields)


def test_what_is_no_composition_is_refused():
  with pytest.raises(ValueError, match="count must be an integer of at least"):
    0 * _A
  with pytest.raises(ValueError, match="count must be an integer of at least"):
    _A * 1.5
  with pytest.raises(ValueError, match="count must be an integer of at least"):
    True * _A
  with pytest.raises(TypeError, match="unsupported operand"):
    _A + 1
  for releases in (_A, 3, "ab", [3], [(_A, 2, 3)], [[_A, 2]]):
    with pytest.raises(ValueError, match="releases must be a sequence of mech"):
      Composition(releases)


def test_relations_and_units_are_never_mixed():
  replaced = dataclasses.replace(_A, neighboring_relation="replace_one")
  with pytest.raises(
      ValueError,
      match="neighboring_relation must be the same for all releases, got "
      "'add_or_remove_one' and 'replace_one'",
  ):
    _A + replaced
  patients = Composition([_A], unit="patient")
  for other, shown in (
      (Composition([_B], unit="image"), "'image' and 'patient'"),
      (_B, "'patient' and None"),
  ):
    with pytest.raises(
        ValueError,
        match=f"unit must be the same for all releases, got {shown}",
    ):
      patients + other
  assert Composition([patients, _B], unit="patient").unit == "patient"
  assert (patients + 2 * patients).unit == "patient"
  with pytest.raises(ValueError, match="got 'image' and 'patient'"):
    Composition([patients], unit="image")


def test_a_delta_is_compared_with_the_largest_size():
  larger = dataclasses.replace(_B, num_examples=100_000)
  assert (_A + larger).num_examples == 100_000
  assert (_C + _C).num_examples is None
  with pytest.warns(accounting.LargeDeltaWarning, match="delta 2e-05 is 1 /"):
    accounting.epsilon(_A + larger, delta=2e-5)


@pytest.mark.parametrize(
    "fn, arguments",
    [
        (accounting.calibrate_noise, {"epsilon": 1.0, "delta": 1e-5}),
        (accounting.calibrate_num_steps, {"epsilon": 1.0, "delta": 1e-5}),
        (accounting.calibrate_batch_size, {"epsilon": 1.0, "delta": 1e-5}),
    ],
)
def test_what_needs_one_mechanism_says_so(fn, arguments):
  with pytest.raises(
      ValueError,
      match=f"mechanism must be one Mechanism for {fn.__name__}, got a Comp",
  ):
    fn(_A + _B, **arguments)


def test_a_release_without_an_analysis_is_named():
  fixed = _run(
      steps=10,
      num_examples=50_000,
      neighboring_relation="replace_one",
      sampling="fixed_without_replacement",
  )
  sampled = dataclasses.replace(_B, neighboring_relation="replace_one")
  plain = dataclasses.replace(sampled, sampling_prob=1.0)
  allocated = dataclasses.replace(
      sampled, sampling="random_allocation", sampling_prob=0.1
  )
  with pytest.raises(
      ValueError,
      match="analysis of sampling 'poisson' under 'replace_one', got 'rdp'. "
      "Accountant 'pld' has one",
  ):
    accounting.epsilon(sampled + fixed, delta=1e-5, accountant="rdp")
  with pytest.raises(ValueError, match="No accountant for all releases toget"):
    accounting.epsilon(plain + allocated, delta=1e-5)


def test_a_statement_lists_each_release():
  both = Composition(
      [(_A, 2), dataclasses.replace(_B, num_examples=2000), _C], unit="patient"
  )
  made = accounting.make_statement(both, delta=1e-5)
  text = {s.title: " ".join(s.paragraphs) for s in made.sections}
  rows = {s.title: dict(s.rows) for s in made.sections}
  total = accounting.epsilon(both, delta=1e-5)
  assert made.facts["epsilon"] == total
  assert text["Claim"].startswith("The 4 releases listed below are together (")
  assert "for one patient at a time" in text["Claim"]
  released = rows["What is released"]
  assert [*released] == ["release 1, 2 times", "release 2", "release 3"]
  assert "100 steps with noise multiplier 4;" in released["release 1, 2 times"]
  assert "fraction 0.01; 1000 stated ex" in released["release 1, 2 times"]
  assert "sizes" not in text or "2000 stated" in released["release 2"]
  assert "numbers of examples differ" in text["What is released"]
  alone = [each["epsilon"] for each in made.facts["releases"]]
  assert alone[0] == accounting.epsilon(2 * _A, delta=1e-5)
  assert max(alone) < total < sum(alone)
  assert "in release 3 every patient is in at most" in text["Accounting"]
  assert "If batches close up" in text["Warnings"]
  assert "all releases listed above" in " ".join(text.values())
  bound = accounting.epsilon(both.unsampled(), delta=1e-5)
  assert made.facts["epsilon_deterministic"] == bound
  with pytest.raises(ValueError, match="unit must be 'patient', as the compo"):
    accounting.make_statement(both, delta=1e-5, unit="image")
  json.dumps(made.facts)


def test_a_statement_of_equal_sizes_does_not_speak_of_them():
  made = accounting.make_statement(_A + _B, delta=1e-5, batches="shuffled")
  text = " ".join(" ".join(s.paragraphs) for s in made.sections)
  assert "numbers of examples differ" not in text
  assert "for one example at a time" in text
  # Both releases count on chance.
  assert "the assumption is NOT met" in text
  assert any("that is not proven" in w for w in made.facts["warnings"])
