"""Explanations: every number in them is computed, and rounded up."""

import math
import re
import warnings

import pytest

import accounting
from accounting import claims, explanation
from tests.support import commands, mechanisms

_RUN = mechanisms.run(noise=4.0, prob=0.01, steps=50, num_examples=10**5)


def _made(run, **options):
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", accounting.VacuousGuaranteeWarning)
    return accounting.make_statement(run, delta=1e-6, unit="patient", **options)


def test_each_length_has_more_and_every_number_is_a_fact():
  facts = _made(_RUN, examples_per_user=[1, 3]).facts
  texts = {
      length: " ".join(explanation.explain(facts, length=length))
      for length in explanation.LENGTHS
  }
  sizes = [len(texts[length]) for length in explanation.LENGTHS]
  assert sizes == sorted(set(sizes))
  by_count = facts["epsilon_by_examples_per_user"]
  known = {
      claims.at_most(facts["epsilon"]),
      claims.at_most_short(math.exp(facts["epsilon"]), digits=3),
      claims.at_most_percent(facts["bayes_success"])[:-1],
      claims.at_most_percent(facts["tpr_at_fpr"]["0.01"])[:-1],
      claims.at_most(facts["epsilon_deterministic"]),
      *(claims.at_most(each["epsilon"]) for each in by_count.values()),
  }
  assert set(re.findall(r"\d+\.\d+", texts["long"])) <= known
  factor = float(re.search(r"at most ([\d.]+) \(epsilon", texts["short"])[1])
  assert factor >= math.exp(accounting.epsilon(_RUN, delta=1e-6))
  with pytest.raises(ValueError, match="length must be one of short, medium"):
    explanation.explain(facts, length="huge")


def test_a_guarantee_that_is_none_is_called_none():
  facts = _made(mechanisms.run(noise=0.2, prob=1.0, steps=5)).facts
  [text] = explanation.explain(facts, length="short")
  assert "protects nobody" in text


def test_people_are_in_a_statement_with_and_without_sampling():
  whole = _RUN + accounting.Laplace(scale=50.0)
  made = _made(whole, examples_per_user=[1, 4])
  by_count = made.facts["epsilon_by_examples_per_user"]
  assert by_count["1"]["epsilon"] == accounting.epsilon(whole, delta=1e-6)
  assert by_count["4"]["epsilon"] == accounting.user_epsilon(
      whole, examples_per_user=4, delta=1e-6
  )
  plain = whole.unsampled()
  assert by_count["4"]["without_sampling"] == accounting.user_epsilon(
      plain, examples_per_user=4, delta=1e-6
  )
  rows = {s.title: dict(s.rows) for s in made.sections}
  assert [*rows["People with several examples"]] == ["1 example", "4 examples"]
  titles = [s.title for s in _made(_RUN).sections]
  assert "People with several examples" not in titles
  with pytest.raises(ValueError, match="examples_per_user must be an integer"):
    _made(_RUN, examples_per_user=[0])


def test_the_command_says_the_same(capsys):
  run = ("--noise-multiplier=4", "--sampling-prob=0.01", "--num-steps=50")
  found = commands.answer(
      capsys, "explain", *run, "--delta=1e-6", "--unit=patient", "--length=long"
  )
  facts = _made(mechanisms.run(noise=4.0, prob=0.01, steps=50)).facts
  wanted = explanation.explain(facts, length="long")
  assert found["explanation"] == list(wanted)
  assert "length must be one of short" in commands.refused(
      capsys, "explain", *run, "--delta=1e-6", "--length=x"
  )
