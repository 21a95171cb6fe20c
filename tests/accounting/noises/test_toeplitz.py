"""Noises without a last band: one step of an example, accounted for as one."""

import dataclasses
import json
import math

import numpy as np
import pytest

import accounting
from accounting import Mechanism, budget, noises
from accounting.noises import toeplitz
from accounting.numerics import terms
from tests.support import patterns

_RUN = Mechanism(
    noise_multiplier=1.5,
    sampling_prob=1 / 12,
    num_steps=12,
    sampling="deterministic",
    noise="banded_inverse",
    noise_options={"noising_coef": (1.0, -0.7)},
)
_BLT = {"buf_decay": (0.9, 0.4), "output_scale": (0.2, 0.25)}


def _strategy(run):
  options = dict(run.noise_options)
  coef = noises.get(run.noise).coef(options, run.num_steps)
  return patterns.toeplitz(coef / np.linalg.norm(coef), run.num_steps)


@pytest.mark.parametrize(
    "noise, options",
    [
        ("banded_inverse", {"noising_coef": (1.0, -0.7)}),
        ("banded_inverse", {"noising_coef": (1.0, 0.3, -0.2)}),
        ("blt", _BLT),
    ],
)
def test_no_pattern_of_one_epoch_moves_the_sums_further(noise, options):
  run = dataclasses.replace(_RUN, noise=noise, noise_options=options)
  ways = patterns.moves(12, max_participations=1, signs=False)
  truth = patterns.furthest(_strategy(run), ways)
  ((term, count),) = terms.terms_of(run)
  claimed = run.noise_multiplier / term.noise * math.sqrt(count)
  assert truth <= claimed * (1 + 1e-12) and claimed == 1.0
  plain = dataclasses.replace(run, noise="independent", noise_options=())
  assert accounting.epsilon(run, delta=1e-5) == accounting.epsilon(
      plain, delta=1e-5
  )
  # Two steps of one example move them further than two of independent noise.
  near = patterns.furthest(
      _strategy(run), patterns.moves(12, max_participations=2, signs=True)
  )
  assert near > math.sqrt(2)


def test_without_counting_on_groups_there_is_one_step_still():
  run = dataclasses.replace(
      _RUN, sampling="cyclic_poisson", sampling_options={"cycle_length": 12}
  )
  assert run.unsampled().noise_multiplier == run.noise_multiplier
  assert run.unsampled().num_steps == 1


def test_the_coefficients_are_those_of_the_matrix():
  coef = (1.0, -0.5, -0.125)
  inverse = np.linalg.inv(patterns.toeplitz(coef, 9))
  np.testing.assert_allclose(toeplitz.inverse_coef(coef, 9), inverse[:, 0])


def test_the_command_takes_it(capsys):
  flags = ["--noise-multiplier=1.5", "--sampling=deterministic"]
  flags += ["--num-steps=12", "--sampling-prob=0.08", "--delta=1e-5"]
  flags += ["--noise=banded_inverse", "--noising-coef=1,-0.7", "--json"]
  assert budget.main(["epsilon", *flags]) == 0
  found = json.loads(capsys.readouterr().out)
  run = dataclasses.replace(_RUN, sampling_prob=0.08)
  assert found["epsilon"] == accounting.epsilon(run, delta=1e-5)
  assert Mechanism.from_dict(run.to_dict()) == run


@pytest.mark.parametrize(
    "fields, text",
    [
        ({"num_steps": 13}, "noising_coef must be at most 1 numbers"),
        ({"sampling": "poisson"}, "noising_coef must be at most 1 numbers"),
        (
            {"noise_options": {"noising_coef": (0.9, -0.1)}},
            "noising_coef must be numbers, the first of them 1",
        ),
        (
            {"noise_options": {"noising_coef": (1.0, -99.5)}},
            "noising_coef must be numbers, the first of them 1",
        ),
        (
            {"noise_options": {"noising_coef": (1.0, -20.0)}},
            "noising_coef must be those of a C whose columns",
        ),
        (
            {"noise": "blt", "noise_options": {**_BLT, "buf_decay": (1.0, 0)}},
            "buf_decay must be numbers in .0, 1",
        ),
        (
            {"noise": "blt", "noise_options": {**_BLT, "buf_decay": (0.5,)}},
            "output_scale must be as long as buf_decay",
        ),
        (
            {"noise_options": {"noising_coef": "1"}},
            "noising_coef must be a list of numbers",
        ),
    ],
)
def test_what_is_refused(fields, text):
  with pytest.raises(ValueError, match=text):
    dataclasses.replace(_RUN, **fields)
