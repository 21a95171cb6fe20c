"""`dp-budget monte-carlo`: what it says, and what it refuses."""

import json

import pytest

import accounting
from accounting import budget

_RUN = [
    "monte-carlo", "--noise-multiplier=2", "--sampling-prob=0.66666666",
    "--num-steps=9", "--delta=1e-3", "--sampling=random_allocation",
    "--num-selected=2",
]  # fmt: skip


def test_draws_improve_on_the_proven_bound_and_say_so(capsys):
  asked = [*_RUN, "--num-samples=2e4", "--seed=0"]
  assert budget.main([*asked, "--json"]) == 0
  found = json.loads(capsys.readouterr().out)
  run = accounting.Mechanism(
      noise_multiplier=2.0,
      num_steps=9,
      sampling_prob=0.66666666,
      sampling="random_allocation",
      sampling_options={"num_selected": 2},
  )
  assert found["epsilon"] == accounting.monte_carlo_epsilon(
      run, delta=1e-3, num_samples=20_000, seed=0
  )
  assert found["epsilon_proven"] == accounting.epsilon(run, delta=1e-3)
  assert found["epsilon"] < 0.9 * found["epsilon_proven"]
  assert found["accountant"] == "monte_carlo" and found["seed"] == 0
  assert budget.main(asked) == 0
  said = capsys.readouterr().out
  assert "by 20000 draws of each direction" in said
  assert "proven without draws: 4.041" in said


def test_too_few_draws_are_said_to_show_nothing(capsys):
  assert budget.main([*_RUN, "--num-samples=100"]) == 0
  said = capsys.readouterr().out
  assert said.startswith("epsilon 4.041 ") and "the proven bound" in said


@pytest.mark.parametrize(
    "more, text",
    [
        (
            ["--confidence=1.5"],
            "confidence must be a number in (0, 1), got 1.5",
        ),
        (
            ["--confidence=nan"],
            "confidence must be a number in (0, 1), got nan",
        ),
        (["--confidence=.9"], "confidence must be above 1 - delta"),
        (["--num-samples=0"], "num_samples must be an integer of at least 100"),
        (["--seed=-1"], "seed must be an integer of at least 0, got -1"),
        (["--accountant=rdp"], "accountant must be left out or pld"),
        (["--neighboring=replace"], "mechanism must be one with an exact pair"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(more, text, capsys):
  assert budget.main([*_RUN, *more]) == 2
  said = capsys.readouterr().err
  assert text in said and said.count("\n") == 1
