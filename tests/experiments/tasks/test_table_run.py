"""A user's own file, by arguments alone, from schema to statement."""

import csv
import json

import pytest

from accounting import budget
from tests.support import launch

_PEOPLE = launch.ROOT / "examples/people.csv"


@pytest.fixture(
    scope="module",
    params=["income", pytest.param("age", marks=pytest.mark.slow)],
)
def finished(request, tmp_path_factory):
  """A run's folder, and the column that it learned: a class, or a number."""
  folder, target = tmp_path_factory.mktemp("run"), request.param
  rows = list(csv.reader(_PEOPLE.open()))
  with (folder / "people.csv").open("w") as file:
    # A target is never missing.
    csv.writer(file).writerows(row for row in rows if row[0])
  path, run = folder / "people.csv", folder / "run"
  drafted = launch.command(
      "experiments.schema",
      f"--rows={path}",
      f"--out={folder}/people.schema.toml",
  )
  assert drafted.returncode == 0, drafted.stderr
  loss = "softmax" if target == "income" else "absolute"
  config = f"configs/table.py:path={path},target={target},loss={loss}"
  config += ",groups=sex,steps=3"
  asked = launch.command(
      "experiments.train", f"--config={config}", f"--workdir={run}"
  )
  # What is not stated is said to the owner, once, as private.
  assert asked.returncode == 2
  number = asked.stderr.split("this split has ")[1].split()[0]
  config += f",num_examples={number}"
  done = launch.command(
      "experiments.train", f"--config={config}", f"--workdir={run}"
  )
  assert done.returncode == 0, done.stderr
  assert "The seed was fixed" not in done.stdout
  return run, target


def test_it_is_evaluated_by_group(finished):
  run, target = finished
  done = launch.command("experiments.evaluate", f"--workdir={run}")
  assert done.returncode == 0, done.stderr
  wanted = {
      "income": ("accuracy", "log loss", "AUC", "Brier score", "by class"),
      "age": ("RMSE", "MAE", "R2"),
  }[target]
  for name in (*wanted, "by sex", "largest gap", "(F above M)"):
    assert name in done.stdout.replace("(M above F)", "(F above M)"), name
  # An error of ages is a number of years, and no percentage.
  assert ("RMSE" in done.stdout) == (target == "age")


def test_it_predicts_rows_and_states_its_guarantee(finished):
  run, target = finished
  output = run.parent / "predictions.csv"
  done = launch.command(
      "experiments.predict",
      f"--workdir={run}",
      f"--input={run.parent}/people.csv",
      f"--output={output}",
  )
  assert done.returncode == 0, done.stderr
  assert "differentially private" in done.stdout
  rows = list(csv.DictReader(output.open()))
  # Rows are counted from 1: the first is the one below the header.
  assert [row["input"] for row in rows] == [str(i + 1) for i in range(385)]
  if target == "income":
    assert {row["income"] for row in rows} <= {"high", "low"}
    total = sum(float(v) for k, v in rows[0].items() if "probability" in k)
    assert total == pytest.approx(1.0)
  else:
    assert all(18 <= float(row["age"]) <= 80 for row in rows)


def test_its_report_recomputes_what_it_states(finished, capsys):
  run, target = finished
  summary = json.loads((run / "summary.json").read_text())
  assert summary["task"] == "table"
  assert ("test_accuracy" in summary) == (target == "income")
  assert ("test_rmse" in summary) == (target == "age")
  assert budget.main(["report", str(run)]) == 0
  assert "were recomputed" in " ".join(capsys.readouterr().out.split())
