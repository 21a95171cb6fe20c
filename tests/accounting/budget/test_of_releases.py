"""`--of`: files of releases, folders of runs and ledgers in place of a run."""

import pytest

import accounting
from accounting import budget
from tests.support import commands

_LEDGER, _FILE = "docs/ledger.toml", "docs/releases.toml"
_RUN = "docs/example_runs/continued"


def test_a_ledger_is_explained_at_its_own_delta(capsys):
  ledger = accounting.Ledger.read(_LEDGER)
  found = commands.answer(capsys, "explain", f"--of={_LEDGER}")
  assert found["delta"] == ledger.delta and found["unit"] == ledger.unit
  assert found["epsilon"] == ledger.spent
  assert found["notes"] == ["delta 1e-05, as the ledger states"]
  found = commands.answer(capsys, "explain", f"--of={_LEDGER}", "--delta=1e-7")
  assert found["epsilon"] == accounting.epsilon(ledger.released, delta=1e-7)


@pytest.mark.slow
def test_a_file_gives_what_its_releases_give(capsys):
  both = commands.answer(capsys, "compose", _FILE, "--delta=1e-6")
  found = commands.answer(
      capsys,
      "statement",
      f"--of={_FILE}",
      "--delta=1e-6",
      "--examples-per-user=2",
  )
  assert found["epsilon"] == both["epsilon"]
  # Example level and user level are side by side.
  by_count = found["epsilon_by_examples_per_user"]
  assert by_count["1"]["epsilon"] == both["epsilon"] < by_count["2"]["epsilon"]
  found = commands.answer(capsys, "delta", f"--of={_FILE}", "--epsilon=3")
  assert 1e-6 < found["delta"] < 1e-3
  found = commands.answer(capsys, "profile", f"--of={_FILE}")
  assert found["advantage"] < 0.5 and len(found["profile"]) == 100
  found = commands.answer(
      capsys, "curve", f"--of={_FILE}", "--delta=1e-6", "--points=2"
  )
  assert found["epsilon"][-1] == both["epsilon"]


def test_a_ledger_composes_with_a_folder(capsys):
  one = commands.answer(capsys, "compose", _LEDGER, "--delta=1e-5")
  assert one["epsilon"] == accounting.Ledger.read(_LEDGER).spent
  assert budget.main(["compose", _LEDGER, _RUN, "--delta=1e-5"]) == 2
  assert "unit must be the same" in capsys.readouterr().err


def test_a_report_has_people_with_several_examples(capsys):
  found = commands.answer(
      capsys, "report", "docs/example_runs/first", "--examples-per-user=3"
  )
  by_count = found["epsilon_by_examples_per_user"]
  assert by_count["1"]["epsilon"] == found["epsilon"]
  assert by_count["3"]["epsilon"] > found["epsilon"]


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["--noise-multiplier=3"], "--noise-multiplier must be left out with"),
        (["--num-examples=3"], "--num-examples must be left out with --of"),
        (["--neighboring=replace"], "--neighboring must be left out with --of"),
        (["--from-opacus=steps=3"], "--from-opacus must be left out with --of"),
        (["--delta=2"], "delta must be a number in (0, 1), got 2.0"),
    ],
)
def test_what_would_be_overlooked_is_refused(arguments, text, capsys):
  assert budget.main(["explain", f"--of={_LEDGER}", *arguments]) == 2
  error = capsys.readouterr().err
  assert text in error and error.count("\n") == 1


def test_what_has_no_answer_says_so(capsys):
  for arguments, text in (
      (["explain", f"--of={_FILE}"], "--delta must be given"),
      (["explain", "--of=nope", "--delta=1e-5"], "release must be a TOML file"),
      (
          ["curve", "--of=docs/disjoint.toml", "--delta=1e-5"],
          "--of must be releases with a run that has steps",
      ),
      (
          ["explain", "--of=docs/planned.toml", "--delta=1e-5"],
          "noise_multiplier must be a number",
      ),
      (["profile", f"--of={_FILE}", "--epsilon=3"], "--epsilon must be given"),
  ):
    assert budget.main(arguments) == 2
    error = capsys.readouterr().err
    assert text in error and error.count("\n") == 1
