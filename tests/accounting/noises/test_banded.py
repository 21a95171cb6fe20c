"""Banded noise is accounted for as independent noise, where that holds."""

import dataclasses
import json
import math

import numpy as np
import pytest

import accounting
from accounting import Mechanism, budget
from accounting.numerics import terms
from tests.support import patterns

_COEF = (0.8, 0.48, 0.36)  # Of norm 1.
_RUN = Mechanism(
    noise_multiplier=1.5,
    sampling_prob=0.05,
    num_steps=24,
    num_examples=1000,
    sampling="cyclic_poisson",
    sampling_options={"cycle_length": 4},
    noise="banded",
    noise_options={"strategy_coef": _COEF},
)
_PLAIN = dataclasses.replace(_RUN, noise="independent", noise_options=())


def test_epsilon_is_as_of_independent_noise():
  for accountant in ("pld", "rdp"):
    found, truth = (
        accounting.epsilon(each, delta=1e-5, accountant=accountant)
        for each in (_RUN, _PLAIN)
    )
    assert found == truth
  found = accounting.calibrate_noise(_RUN, epsilon=2.0, delta=1e-5)
  assert found.noise_options == _RUN.noise_options
  assert accounting.epsilon(2 * found, delta=1e-5) > 2


@pytest.mark.parametrize("n, apart", [(9, 3), (8, 4), (8, 5)])
@pytest.mark.parametrize("coef", [_COEF, (0.8, -0.36, 0.48), (0.8, 0.6)])
def test_no_pattern_moves_the_sums_further_than_is_claimed(n, apart, coef):
  # Every way to take part at least `apart` steps apart, in either direction.
  run = dataclasses.replace(
      _RUN,
      num_steps=n,
      sampling_prob=1 / apart,  # A group's steps have all of it.
      sampling_options={"cycle_length": apart},
      noise_options={"strategy_coef": coef},
  )
  ways = patterns.moves(n, min_sep=apart, signs=True)
  truth = patterns.furthest(patterns.toeplitz(coef, n), ways)
  ((term, count),) = terms.terms_of(run)
  claimed = run.noise_multiplier / term.noise * math.sqrt(count)
  assert truth <= claimed * (1 + 1e-12)
  assert claimed == pytest.approx(math.sqrt(-(-n // apart)))
  # With steps as near as two, the same claim is too small; and is refused.
  near = patterns.furthest(
      patterns.toeplitz((0.8, 0.48, 0.36), n),
      patterns.moves(n, max_participations=2),
  )
  assert near > math.sqrt(2)


def test_a_step_by_itself_says_less_than_the_truth():
  # Planted: each step's noise accounted for by its own, larger, variance.
  one = dataclasses.replace(
      _RUN,
      num_steps=4,
      sampling="deterministic",
      sampling_prob=0.25,
      sampling_options=(),
  )
  inverse = np.linalg.inv(patterns.toeplitz(_COEF, 4))
  marginal = float(np.linalg.norm(inverse[-1]))
  planted = Mechanism(
      noise_multiplier=1.5 * marginal, sampling_prob=1.0, num_steps=1
  )
  truth = Mechanism(noise_multiplier=1.5, sampling_prob=1.0, num_steps=1)
  claimed = accounting.epsilon(one, delta=1e-5)
  assert claimed == accounting.epsilon(truth, delta=1e-5)
  assert accounting.epsilon(planted, delta=1e-5) < 0.9 * claimed


@pytest.mark.parametrize("coef", [_COEF, (0.8, -0.36, 0.48), (0.8, 0.6)])
def test_without_counting_on_groups_steps_may_be_near(coef):
  # As a statement says for shuffled epochs: any step of each of two epochs.
  run = dataclasses.replace(
      _RUN,
      num_steps=8,
      sampling_prob=0.25,
      noise_options={"strategy_coef": coef},
  )
  ways = patterns.moves(8, signs=True)
  once = (np.abs(ways).reshape(-1, 2, 4).sum(axis=2) <= 1).all(axis=1)
  truth = patterns.furthest(patterns.toeplitz(coef, 8), ways[once])
  ((term, count),) = terms.terms_of(run.unsampled())
  claimed = run.noise_multiplier / term.noise * math.sqrt(count)
  assert truth <= claimed * (1 + 1e-12)
  # Planted: as if two steps were always as far apart as groups' turns.
  assert truth > math.sqrt(2)
  # In one epoch there is one step.
  one = dataclasses.replace(run, num_steps=4)
  assert one.unsampled().noise_multiplier == run.noise_multiplier


@pytest.mark.parametrize(
    "fields, text",
    [
        (
            {"sampling": "poisson", "sampling_options": ()},
            "strategy_coef must be at most 1 numbers for sampling 'poisson'",
        ),
        (
            {"sampling_options": {"cycle_length": 2}},
            "strategy_coef must be at most 2 numbers",
        ),
        (
            {"sampling": "deterministic", "sampling_options": (),
             "sampling_prob": 0.4},
            "strategy_coef must be at most 1 numbers for sampling 'determ",
        ),
        ({"noise": "pink"}, "noise must be one of independent, banded"),
        ({"noise_options": ()}, "must be a mapping of strategy_coef for"),
        ({"noise": "independent"}, "must be a mapping of no names for"),
        ({"noise_options": 3}, "noise_options must be a mapping of names"),
        (
            {"noise_options": {"strategy_coef": [1.0, 0.5]}},
            r"strategy_coef must be of norm 1 .* got 1.118",
        ),
        (
            {"noise_options": {"strategy_coef": [0.5, 0.5]}},
            "strategy_coef must be of norm 1",
        ),
        (
            {"noise_options": {"strategy_coef": [-0.8, 0.6]}},
            "strategy_coef must be numbers, the first of them positive",
        ),
        (
            {"noise_options": {"strategy_coef": []}},
            "strategy_coef must be numbers, the first",
        ),
        (
            {"noise_options": {"strategy_coef": [0.8, float("nan")]}},
            "strategy_coef must be a finite number",
        ),
        (  # The noise would grow by a third at each step.
            {"noise_options": {"strategy_coef": [0.6, 0.8]}},
            "strategy_coef must be those of a C whose inverse",
        ),
        (
            {"noise_options": {"strategy_coef": "0.8"}},
            "strategy_coef must be a list of numbers",
        ),
    ],
)  # fmt: skip
def test_what_is_refused(fields, text):
  with pytest.raises(ValueError, match=text):
    dataclasses.replace(_RUN, **fields)


def test_json_round_trip_and_older_records():
  fields = json.loads(json.dumps(_RUN.to_dict()))
  assert fields["noise_options"] == {"strategy_coef": list(_COEF)}
  assert Mechanism.from_dict(fields) == _RUN
  # A run without it is written as it was before there was any.
  assert not {"noise", "noise_options"} & set(_PLAIN.to_dict())


def test_a_statement_and_a_composition_say_it():
  made = accounting.make_statement(_RUN, delta=1e-5)
  text = str(made.sections)
  assert "the noise of the steps is C^-1 Z" in text
  assert "('strategy coef', '0.8, 0.48, 0.36')" in text
  assert "C^-1 Z" not in str(
      accounting.make_statement(_PLAIN, delta=1e-5).sections
  )
  both = accounting.make_statement(_RUN + _PLAIN, delta=1e-5)
  text = str(both.sections)
  assert "banded noise, correlated from step to step" in text
  assert "in release 1 the noise of the steps is C^-1 Z" in text


def test_the_command_takes_it(capsys):
  arguments = [
      *("epsilon", "--noise-multiplier=1.5", "--sampling-prob=0.05"),
      *("--num-steps=24", "--delta=1e-5", "--sampling=cyclic_poisson"),
      *("--cycle-length=4", "--json"),
  ]
  found = []
  for more in ([], ["--noise=banded", "--strategy-coef=0.8,0.48,0.36"]):
    assert budget.main([*arguments, *more]) == 0
    found.append(json.loads(capsys.readouterr().out))
  assert found[0]["epsilon"] == found[1]["epsilon"]
  assert budget.main([*arguments, "--noise=banded"]) != 0
