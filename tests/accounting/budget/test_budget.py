"""The command `dp-budget`: answers, JSON, exit codes, and bad input."""

import math
import subprocess
import sys

import pytest

import accounting
from accounting import Mechanism, budget
from tests.support import commands

_RUN = commands.RUN
_PLAN = commands.PLAN
_DELTA = commands.DELTA
_json = commands.answer
_refused = commands.refused


def test_epsilon(capsys):
  found = _json(capsys, "epsilon", *_RUN, *_DELTA)
  assert found["epsilon"] == pytest.approx(3.88268, abs=1e-3)
  assert found["delta"] == 1e-5
  assert found["accountant"] == "pld"
  assert found["neighboring_relation"] == "add_or_remove_one"
  assert found["warnings"] == []


def test_delta_needs_no_delta(capsys):
  found = _json(capsys, "delta", *_RUN, "--epsilon=3.88268")
  assert found["delta"] == pytest.approx(1e-5, rel=1e-3)


def test_noise(capsys):
  found = _json(capsys, "noise", *_PLAN, *_DELTA, "--epsilon=3.88268")
  assert found["noise_multiplier"] == pytest.approx(3.0, rel=1e-3)
  assert 0.999 * 3.88268 <= found["epsilon"] <= 3.88268


def test_steps_and_batch_size(capsys):
  run = [a for a in _RUN if "steps" not in a]
  found = _json(capsys, "steps", *run, *_DELTA, "--epsilon=3.883")
  assert found["num_steps"] == 1000
  run = [a for a in _RUN if "batch" not in a]
  found = _json(capsys, "batch-size", *run, *_DELTA, "--epsilon=3.883")
  assert found["batch_size"] == 4096
  assert found["epsilon"] <= 3.883


def test_curve_ends_at_epsilon(capsys, tmp_path):
  found = _json(capsys, "curve", *_RUN, *_DELTA)
  assert found["steps"][0] == 1
  assert found["steps"][-1] == 1000
  assert found["epsilon"][-1] == pytest.approx(3.88268, abs=1e-3)
  assert budget.main(["curve", *_RUN, *_DELTA, "--csv", "--points=3"]) == 0
  lines = capsys.readouterr().out.splitlines()
  assert lines[0] == "steps,epsilon"
  assert float(lines[3].split(",")[1]) == found["epsilon"][-1]


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "suffix, magic", [(".png", b"\x89PNG"), (".svg", b"<?xml")]
)
def test_curve_is_drawn(suffix, magic, capsys, tmp_path):
  path = tmp_path / f"curve{suffix}"
  run = ["--noise-multiplier=3", "--sampling-prob=1", "--num-steps=5"]
  _json(capsys, "curve", *run, *_DELTA, f"--plot={path}")
  assert path.read_bytes().startswith(magic)


@pytest.mark.slow
def test_compare_has_every_pair_that_has_an_analysis(capsys):
  found = _json(
      capsys,
      "compare",
      *_RUN,
      *_DELTA,
      "--max-batch-size=4400",
      "--sampling=truncated_poisson",
  )
  rows = {
      (r["sampling"], r["neighboring_relation"], r["accountant"]): r["epsilon"]
      for r in found["rows"]
  }
  # Poisson 5, truncated 3, fixed size 4, shuffle 4, deterministic 6.
  assert len(rows) == len(found["rows"]) == 22
  expected = {
      ("poisson", "add_or_remove_one", "pld"): 3.88268,
      ("poisson", "add_or_remove_one", "rdp"): 4.21203,
      ("poisson", "replace_one", "pld"): 8.3235,
      ("truncated_poisson", "add_or_remove_one", "pld"): 3.8827,
      ("fixed_without_replacement", "replace_one", "rdp"): 25.037,
  }
  for key, value in expected.items():
    assert rows[key] == pytest.approx(value, abs=1e-3)


def test_profile(capsys, tmp_path):
  path = tmp_path / "profile.svg"
  found = _json(capsys, "profile", *_RUN, f"--plot={path}", "--prior=0.01")
  assert len(found["profile"]) == 100
  assert set(found["tpr_at_fpr"]) == {"0.001", "0.01", "0.1"}
  # Reconstruction from a prior is a test at that false positive rate.
  assert found["reconstruction_bound"] == found["tpr_at_fpr"]["0.01"]
  assert found["bayes_success"] == (1 + found["advantage"]) / 2
  assert found["gdp_mu"] > 0 and 0 <= found["gdp_regret"] < 0.01
  assert "<svg" in path.read_text()


def test_tuning_and_users(capsys):
  found = _json(
      capsys,
      "tuning",
      *_RUN,
      *_DELTA,
      "--num-trials-mean=10",
      "--distribution=logarithmic",
  )
  assert found["epsilon_tuned"] < 6.67  # By Renyi divergences.
  assert found["accountant_tuned"] == "pld"
  assert {"epsilon_single", "epsilon_naive"} <= set(found)
  found = _json(capsys, "users", *_RUN, *_DELTA, "--examples-per-user=2")
  assert found["epsilon"] == pytest.approx(8.807, abs=1e-3)


def test_tuning_reads_the_folders_of_a_sweep(capsys):
  folders = ["docs/example_runs/first", "docs/example_runs/continued"]
  found = _json(capsys, "tuning", *folders, "--delta=1e-4")
  [own] = {r["epsilon"] for r in found["runs"][:1]}
  assert own < found["epsilon_tuned"] == found["epsilon_naive"]
  for more, text in (
      (["--noise-multiplier=2"], "--noise-multiplier must be left out with"),
      (["--distribution=poisson"], "--distribution must be fixed with the fol"),
      (["--num-trials-mean=3"], "--num-trials-mean must be left out with the"),
  ):
    assert budget.main(["tuning", *folders, "--delta=1e-4", *more]) == 2
    assert text in capsys.readouterr().err
  assert budget.main(["tuning", *_RUN, *_DELTA, "--distribution=fixed"]) == 2
  assert "--num-trials-mean must be given" in capsys.readouterr().err


@pytest.mark.parametrize("command", [*budget.COMMANDS])
def test_every_command_has_help(command, capsys):
  assert budget.main([command, "--help"]) == 0
  # A page is no data.
  assert ("--json" in capsys.readouterr().out) == (command != "serve")


def test_help_waits_for_no_slow_import():
  code = (
      "import sys; from accounting import budget; budget.main(['--help']);"
      "sys.exit(any(m in sys.modules for m in ('dp_accounting', 'scipy',"
      " 'matplotlib', 'jax')))"
  )
  subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_epochs_become_steps_and_the_convention_is_said(capsys):
  run = [a for a in _RUN if "steps" not in a]
  assert budget.main(["epsilon", *run, *_DELTA, "--epochs=40"]) == 0
  out = capsys.readouterr().out
  # 40 * 50000 / 4096 = 488.3; 12 or 13 steps an epoch make 480 or 520.
  assert "489 steps" in out and "480" in out and "520" in out
  found = _json(
      capsys,
      "epsilon",
      *run,
      *_DELTA,
      "--epochs=40",
      "--sampling=deterministic",
  )
  assert found["num_steps"] == 480
  found = _json(
      capsys,
      "epsilon",
      "--noise-multiplier=2",
      "--sampling-prob=0.1",
      "--epochs=10",
      *_DELTA,
  )
  assert found["num_steps"] == 100


def test_delta_is_suggested_and_not_assumed(capsys):
  message = _refused(capsys, "epsilon", *_RUN)
  assert "1 / 50000 = 2e-05, for instance --delta 1e-05" in message


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (
            ["epsilon", *_RUN, "--delta=nan"],
            "delta must be a number in (0, 1)",
        ),
        (
            ["epsilon", *_RUN, "--delta=1"],
            "delta must be a number in (0, 1)",
        ),
        (
            ["epsilon", *_DELTA, *_PLAN],
            "required: --noise-multiplier",
        ),
        (
            [
                "epsilon",
                *_DELTA,
                *_PLAN,
                "--noise-multiplier=-1",
            ],
            "got -1.0",
        ),
        (
            [
                "epsilon",
                *_DELTA,
                *_PLAN,
                "--noise-multiplier=inf",
            ],
            "got inf",
        ),
        (
            ["epsilon", *_DELTA, *_RUN, "--epochs=2"],
            "--num-steps or --epochs must be given",
        ),
        (
            ["epsilon", *_DELTA, *_RUN, "--sampling-prob=.1"],
            "--sampling-prob must be given, or",
        ),
        (
            ["epsilon", *_DELTA, *_RUN, "--batch-size=60000"],
            "at most num_exa",
        ),
        (
            ["epsilon", *_DELTA, *_RUN, "--num-steps=0"],
            "num_steps must be",
        ),
        (
            ["epsilon", *_DELTA, *_RUN, "--num-steps=1e-3"],
            "--num-steps: must be a whole number, such as 1000, 1_000 or 1e3",
        ),
        (
            ["epsilon", *_DELTA, *_RUN, "--neighboring=x"],
            "neighboring_relatio",
        ),
        (
            ["epsilon", *_DELTA, *_RUN, "--accountant=x"],
            "accountant must be",
        ),
        (
            ["epsilon", *_DELTA, *_RUN, "--sampling=x"],
            "invalid choice: 'x'",
        ),
        (
            ["noise", *_DELTA, *_PLAN, "--epsilon=0"],
            "epsilon must be a finite",
        ),
        (
            ["steps", *_DELTA, *_PLAN, "--epsilon=1"],
            "unrecognized|required",
        ),
        (
            ["curve", *_DELTA, *_RUN, "--plot=x.pdf"],
            "ending in .png or .svg",
        ),
        (
            ["curve", *_DELTA, *_RUN, "--num-steps=2", "--plot=/no/where.png"],
            "/no/where.png",
        ),
        (
            ["curve", *_DELTA, *_RUN, "--points=0"],
            "points must be an integer",
        ),
        (["frobnicate"], "invalid choice: 'frobnicate'"),
        ([], "required: COMMAND"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, match, capsys):
  message = _refused(capsys, *arguments)
  assert any(part in message for part in match.split("|"))


@pytest.mark.parametrize("text", ["1e3", "1_000", "1000.0", "+1E3", ".1e4"])
def test_whole_numbers_as_people_write_them(text, capsys):
  run = [a for a in _RUN if "steps" not in a]
  found = _json(capsys, "epsilon", *run, *_DELTA, f"--num-steps={text}")
  assert found["num_steps"] == 1000


def test_every_flag_of_a_count_takes_them(capsys):
  run = ["--noise-multiplier=3", "--num-examples=5e4", "--batch-size=4_096"]
  run += ["--num-steps=1_000", "--delta=1e-5"]
  users = _json(capsys, "users", *run, "--examples-per-user=1e0")
  curve = _json(capsys, "curve", *run, "--points=2e0")
  scheduled = ["--batch-size-schedule=0:1,5e2:1", "--epsilon=3"]
  noise = [a for a in run if "noise" not in a]
  found = _json(capsys, "noise", *noise, *scheduled)
  capped = ["--sampling=truncated_poisson", "--max-batch-size=5e3"]
  truncated = _json(capsys, "delta", *run[:-1], *capped, "--epsilon=9")
  assert users["examples_per_user"] == 1 and users["num_examples"] == 50_000
  assert curve["steps"] == [1, 1000]
  assert found["batch_size_schedule"] == [[0, 1.0], [500, 1.0]]
  assert truncated["max_batch_size"] == 5000


@pytest.mark.parametrize(
    "text",
    ["1.5", "1e6.5", "1e-1", "1e400", "1e999999999", "9" * 5000, "nan", "inf"]
    + ["", "1__0", "_1", "0x10", "1e", "1,000", "true", "-1", "1e16"],
)
def test_what_is_no_whole_number_is_refused(text, capsys):
  message = _refused(capsys, "epsilon", *_RUN, *_DELTA, f"--num-steps={text}")
  assert "must be a" in message and len(message) < 400


def test_warnings(capsys):
  def warned(*arguments):
    return " ".join(_json(capsys, "epsilon", *arguments)["warnings"])

  assert "1 / num_examples" in warned(*_RUN, "--delta=2e-5")
  text = warned(*_RUN, *_DELTA, "--batches=shuffled")
  assert "not proven" in text and "17.074" in text
  assert "arithmetic ends" in warned(*_RUN, "--delta=1e-31")
  assert "vacuous" in warned(*_RUN, *_DELTA, "--noise-multiplier=0.3")
  assert "end of the grid" in warned(
      *_RUN,
      *_DELTA,
      "--accountant=rdp",
      "--noise-multiplier=90000",
  )
  assert "slot" in warned(*_RUN, *_DELTA, "--sampling=deterministic")


def test_the_deterministic_bound_beside_shuffled_batches_is_exact(capsys):
  # 1000 steps, 12 an epoch: 84 releases of one Gaussian of noise 3.
  single = Mechanism(
      noise_multiplier=3 / math.sqrt(84), sampling_prob=1.0, num_steps=1
  )
  bound = accounting.epsilon(single, delta=1e-5)
  assert bound == pytest.approx(17.0735, abs=1e-3)


def test_infinity_is_null_in_json(capsys):
  found = _json(
      capsys,
      "epsilon",
      *_PLAN,
      *_DELTA,
      "--noise-multiplier=1e-9",
  )
  assert found["epsilon"] is None
  assert "vacuous" in found["warnings"][0]


@pytest.mark.parametrize(
    "command",
    [
        ["statement"],
        ["compare"],
        ["curve"],
        ["users", "--examples-per-user=3"],
        ["tuning", "--num-trials-mean=5", "--distribution=poisson"],
    ],
    ids=lambda c: c[0],
)
def test_hardly_any_noise_breaks_no_command(command, capsys):
  assert (
      budget.main([*command, *_PLAN, *_DELTA, "--noise-multiplier=1e-6"]) == 0
  )
  assert "infinite" in capsys.readouterr().out


@pytest.mark.slow
def test_a_reader_that_leaves_early_is_no_error():
  # `dp-budget profile | head -1`: the pipe is closed before all is written.
  process = subprocess.Popen(
      [sys.executable, "-m", "accounting.budget", "profile", "--json"]
      + ["--noise-multiplier=3", "--sampling-prob=1", "--num-steps=1"],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
  )
  process.stdout.close()
  assert process.wait() == 0
  assert b"Traceback" not in process.stderr.read()
