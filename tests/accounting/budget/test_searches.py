"""Lists of targets and of people: tables, CSV, plots."""

import csv
import json

import accounting
from accounting import budget

_RUN = [
    "--num-examples=50000", "--batch-size=409", "--num-steps=100",
]  # fmt: skip


def test_noise_for_several_people_and_targets(capsys, tmp_path):
  path = tmp_path / "noise.svg"
  asked = ["noise", *_RUN, "--delta=1e-5", "--epsilon=1,3"]
  asked += ["--examples-per-user=1,2", f"--plot={path}"]
  assert budget.main([*asked, "--csv"]) == 0
  rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
  assert [r["examples_per_user"] for r in rows] == ["1", "1", "2", "2"]
  for row in rows:
    run = accounting.Mechanism.for_batch_size(
        expected_batch_size=409,
        num_examples=50_000,
        num_steps=100,
        noise_multiplier=float(row["noise_multiplier"]),
    )
    found = accounting.user_epsilon(
        run, examples_per_user=int(row["examples_per_user"]), delta=1e-5
    )
    assert found <= float(row["epsilon_target"])
    assert abs(found - float(row["epsilon"])) < 1e-9
  assert "people with 2 examples" in path.read_text()
  assert budget.main(asked[:-1]) == 0
  head = capsys.readouterr().out.splitlines()[0]
  assert head.split("  ")[0] == "examples per user"


def test_deltas_are_listed_and_drawn(capsys, tmp_path):
  path = tmp_path / "delta.svg"
  asked = ["delta", *_RUN, "--noise-multiplier=3", "--epsilon=.1,.2"]
  assert budget.main([*asked, "--csv", f"--plot={path}"]) == 0
  said = capsys.readouterr().out.splitlines()
  assert said[0] == "epsilon,delta" and said[1].startswith("0.1,")
  assert path.exists()
  assert budget.main([*asked, f"--plot={path}"]) == 0
  assert f"wrote {path}" in capsys.readouterr().out


def test_users_of_all_releases(capsys):
  asked = ["users", "--of", "docs/releases.toml", "--delta=1e-5"]
  assert budget.main([*asked, "--examples-per-user=1,2", "--json"]) == 0
  one, two = json.loads(capsys.readouterr().out)["rows"]
  assert 3 < one["epsilon"] < two["epsilon"]
  assert budget.main([*asked, "--examples-per-user="]) == 2
  assert "--examples-per-user must be a whole" in capsys.readouterr().err
