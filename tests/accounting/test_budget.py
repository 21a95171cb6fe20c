"""The command `dp-budget`: answers, JSON, exit codes, and hostile input."""

import html.parser
import json
import math
import subprocess
import sys

import pytest
import records

import accounting
from accounting import Mechanism, budget

_RUN = [
    "--noise-multiplier=3",
    "--num-examples=50000",
    "--batch-size=4096",
    "--num-steps=1000",
]
_PLAN = [a for a in _RUN if "noise" not in a]
_DELTA = ["--delta=1e-5"]


def _json(capsys, *arguments):
  assert budget.main([*arguments, "--json"]) == 0
  captured = capsys.readouterr()
  assert captured.err == "", "With --json nothing goes to standard error."
  assert captured.out.count("\n") == 1
  return json.loads(captured.out, parse_constant=pytest.fail)


def _refused(capsys, *arguments):
  assert budget.main(list(arguments)) == 2
  captured = capsys.readouterr()
  assert captured.out == ""
  assert captured.err.count("\n") == 1, captured.err
  return captured.err


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
  for suffix, magic in ((".png", b"\x89PNG"), (".svg", b"<?xml")):
    path = tmp_path / f"curve{suffix}"
    found = _json(capsys, "curve", *_RUN, *_DELTA, f"--plot={path}")
    assert path.read_bytes().startswith(magic)
  assert found["steps"][0] == 1
  assert found["steps"][-1] == 1000
  assert found["epsilon"][-1] == pytest.approx(3.88268, abs=1e-3)
  assert budget.main(["curve", *_RUN, *_DELTA, "--csv", "--points=3"]) == 0
  lines = capsys.readouterr().out.splitlines()
  assert lines[0] == "steps,epsilon"
  assert float(lines[3].split(",")[1]) == found["epsilon"][-1]


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
  # Poisson 5, truncated 3, fixed size 1, deterministic 6.
  assert len(rows) == len(found["rows"]) == 15
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
  assert found["epsilon_tuned"] == pytest.approx(6.67, abs=5e-3)
  assert {"epsilon_single", "epsilon_naive"} <= set(found)
  found = _json(capsys, "users", *_RUN, *_DELTA, "--examples-per-user=2")
  assert found["epsilon"] == pytest.approx(8.807, abs=1e-3)


@pytest.mark.parametrize("command", [*budget.COMMANDS])
def test_every_command_has_help(command, capsys):
  assert budget.main([command, "--help"]) == 0
  assert "--json" in capsys.readouterr().out


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
        (["epsilon", *_RUN, "--delta=nan"], "delta must be a number in (0, 1)"),
        (["epsilon", *_RUN, "--delta=1"], "delta must be a number in (0, 1)"),
        (["epsilon", *_DELTA, *_PLAN], "required: --noise-multiplier"),
        (["epsilon", *_DELTA, *_PLAN, "--noise-multiplier=-1"], "got -1.0"),
        (["epsilon", *_DELTA, *_PLAN, "--noise-multiplier=inf"], "got inf"),
        (["epsilon", *_DELTA, *_RUN, "--epochs=2"], "either --num-steps or"),
        (["epsilon", *_DELTA, *_RUN, "--sampling-prob=.1"], "give either --sa"),
        (["epsilon", *_DELTA, *_RUN, "--batch-size=60000"], "at most num_exa"),
        (["epsilon", *_DELTA, *_RUN, "--num-steps=0"], "num_steps must be"),
        (["epsilon", *_DELTA, *_RUN, "--num-steps=1e3"], "invalid int value"),
        (["epsilon", *_DELTA, *_RUN, "--neighboring=x"], "neighboring_relatio"),
        (["epsilon", *_DELTA, *_RUN, "--accountant=x"], "accountant must be"),
        (["epsilon", *_DELTA, *_RUN, "--sampling=x"], "invalid choice: 'x'"),
        (["noise", *_DELTA, *_PLAN, "--epsilon=0"], "epsilon must be a finite"),
        (["steps", *_DELTA, *_PLAN, "--epsilon=1"], "unrecognized|required"),
        (["curve", *_DELTA, *_RUN, "--plot=x.pdf"], "ending in .png or .svg"),
        (["curve", *_DELTA, *_RUN, "--plot=/no/where.png"], "/no/where.png"),
        (["curve", *_DELTA, *_RUN, "--points=0"], "points must be an integer"),
        (["frobnicate"], "invalid choice: 'frobnicate'"),
        ([], "required: COMMAND"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, match, capsys):
  message = _refused(capsys, *arguments)
  assert any(part in message for part in match.split("|"))


def test_warnings(capsys):
  def warned(*arguments):
    return " ".join(_json(capsys, "epsilon", *arguments)["warnings"])

  assert "1 / num_examples" in warned(*_RUN, "--delta=2e-5")
  text = warned(*_RUN, *_DELTA, "--batches=shuffled")
  assert "not proven" in text and "17.074" in text
  assert "rounding errors" in warned(*_RUN, "--delta=1e-14")
  assert "vacuous" in warned(*_RUN, *_DELTA, "--noise-multiplier=0.3")
  assert "end of the grid" in warned(
      *_RUN, *_DELTA, "--accountant=rdp", "--noise-multiplier=9000"
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
  found = _json(capsys, "epsilon", *_PLAN, *_DELTA, "--noise-multiplier=1e-9")
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


# --- Statement and report -------------------------------------------------


def test_statement_names_what_the_reporting_lists_ask_for(capsys):
  assert budget.main(["statement", *_RUN, *_DELTA, "--unit=image"]) == 0
  text = " ".join(capsys.readouterr().out.split())
  for wanted in (
      "(3.883, 1e-05)-differentially private",
      "Central model",
      "one image",
      "add or remove one",
      "All iterates",
      "tuning",
      "preprocessing",
      "early stopping",
      "privacy loss distributions (PLD)",
      "independently, with probability 0.08192",
      "17.074",  # Were batches shuffled.
      "replace_one 8.324",
      "below 1 / 50000 = 2e-05",
      "0.9086-Gaussian",
      "Floating-point",
      "expected epochs",
      "grid",
      "dp-accounting",
  ):
    assert wanted in text, wanted


def test_statement_says_when_its_assumption_is_not_met(capsys):
  arguments = ["statement", *_RUN, *_DELTA, "--batches=shuffled"]
  assert budget.main(arguments) == 0
  text = " ".join(capsys.readouterr().out.split())
  assert "the assumption is NOT met" in text
  assert "Warnings" in text


class _Checker(html.parser.HTMLParser):
  """Collects the tags and the addresses of a page."""

  def __init__(self):
    super().__init__()
    self.tags, self.addresses = [], []

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.addresses += [v for k, v in attrs if k in ("src", "href")]


def test_statement_as_html_is_one_file_with_its_plot(tmp_path, capsys):
  path = tmp_path / "statement.html"
  arguments = ["statement", *_RUN, *_DELTA, "--format=html"]
  assert budget.main([*arguments, f"--output={path}"]) == 0
  page = _Checker()
  page.feed(path.read_text())
  assert "svg" in page.tags and "script" not in page.tags
  assert not [a for a in page.addresses if a.startswith(("http", "/"))]


@pytest.mark.parametrize("how", ["html", "markdown", "text"])
def test_statement_escapes_what_it_is_given(how, capsys):
  evil = "<script>alert(1)</script>|x"
  arguments = ["statement", *_RUN, *_DELTA, f"--format={how}"]
  assert budget.main([*arguments, f"--unit={evil}"]) == 0
  out = capsys.readouterr().out
  if how == "html":
    assert "<script" not in out
  if how == "markdown":
    assert "<script" not in out.replace("\\<", "")


def _write(tmp_path, content):
  return records.write(tmp_path, "summary.json", content)


def test_report_verifies_a_finished_run(tmp_path, capsys):
  found = _json(capsys, "report", _write(tmp_path, records.summary()))
  assert found["verified"] is True
  assert found["epsilon"] == records.summary()["epsilon"]
  assert "can recompute the noise" in found["warnings"][0]
  assert "for research, not for a release" in found["warnings"][0]
  secret = _json(capsys, "report", _write(tmp_path, records.summary(seed=None)))
  assert secret["warnings"] == []
  # A seed of 128 bits is read, and said again, to the last digit.
  big = _json(
      capsys, "report", _write(tmp_path, records.summary(seed=2**128 - 1))
  )
  assert big["summary"]["seed"] == 2**128 - 1
  assert budget.main(["report", str(tmp_path)]) == 0
  assert "were recomputed" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"epsilon": 1.0}, "stated 1.0, recomputed"),
        ({"noise_multiplier": 1.0}, "epsilon must agree"),
        ({"num_steps": 51}, "must agree"),
        ({"expected_batch_size": 99.0}, "stated 99.0, recomputed 100.0"),
        ({"examples_per_second": 9.0}, "stated 9.0, recomputed 2500.0"),
        ({"epsilon_target": 0.5}, "epsilon_target, stated as 0.5"),
        ({"status": "running"}, "status must be 'finished', got 'running'"),
        ({"accountant": "magic"}, "accountant must be one of"),
        ({"accountant": ["pld"]}, "accountant must be one of"),
        ({"epsilon": "3"}, "epsilon must be a finite number"),
        ({"delta": None}, "delta must be a number"),
        ({"train_seconds": 0}, "train_seconds must be"),
        ({"test_accuracy": 1.5}, "test_accuracy must be"),
        ({"params_sha256": "x"}, "params_sha256 must be 64"),
        ({"seed": "0"}, "seed must be an integer"),
        ({"seed": True}, "seed must be an integer"),
        ({"seed": -1}, "seed must be an integer"),
        ({"seed": 2**128}, "seed must be an integer"),
        ({"versions": ["a"]}, "versions must be an object"),
        ({"num_examples": None}, "num_examples must be"),
        ({"sampling": {"a": 1}}, "sampling must be one of"),
        ({"train_seconds": 10**400}, "train_seconds must be"),
    ],
)
def test_report_refuses_a_summary_that_disagrees(
    changes, match, tmp_path, capsys
):
  message = _refused(
      capsys, "report", _write(tmp_path, records.summary(**changes))
  )
  assert match in message


@pytest.mark.parametrize("key", sorted(records.summary()))
def test_report_refuses_a_summary_without_a_key(key, tmp_path, capsys):
  summary = records.summary()
  del summary[key]
  optional = ("status", "sampling", "max_batch_size", "epsilon_target")
  if key in (*optional, "neighboring_relation"):
    expected = 2 if key == "neighboring_relation" else 0
    code = budget.main(["report", _write(tmp_path, summary)])
    assert code == expected
  else:
    assert key in _refused(capsys, "report", _write(tmp_path, summary))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "null",
        "{",
        '{"epsilon": NaN}',
        '{"epsilon": Infinity}',
        "[" * 100_000,
        '"' + "x" * 2_000_000 + '"',
        "\x00\x01",
        '{"module_name": "os", "class_name": "system"}',
        '{"a": ' + "9" * 10_000 + "}",
    ],
)
def test_report_survives_any_file(content, tmp_path, capsys):
  _refused(capsys, "report", _write(tmp_path, content))


def test_report_of_no_run(tmp_path, capsys):
  assert "summary.json" in _refused(capsys, "report", str(tmp_path))
  (tmp_path / "summary.json").mkdir()
  assert "summary.json" in _refused(capsys, "report", str(tmp_path))


@pytest.mark.parametrize(
    ("generator", "said"),
    [
        ("threefry", "who can try 2**64 keys can subtract the noise"),
        ("chacha20", "drawn by a cipher, ChaCha20, under keys with 128 bits"),
        (None, "A generator that is not cryptographic could be predicted"),
    ],
)
def test_report_says_what_the_noise_was_drawn_with(
    generator, said, tmp_path, capsys
):
  summary = records.summary(seed=None)
  if generator is not None:
    summary["generator"] = generator
  assert budget.main(["report", _write(tmp_path, summary)]) == 0
  assert said in " ".join(capsys.readouterr().out.split())


def test_report_says_whether_sums_were_exact(tmp_path, capsys):
  for scale, said in (
      (None, "Floating-point sums and noise have been attacked"),
      (4096, "a grid of 4096 steps to the clip norm"),
  ):
    workdir = _write(tmp_path, records.summary(grid_scale=scale))
    assert budget.main(["report", workdir]) == 0
    assert said in " ".join(capsys.readouterr().out.split())
  for scale in (0, -4, 2.5, "9", True):
    workdir = _write(tmp_path, records.summary(grid_scale=scale))
    assert "grid_scale must be an" in _refused(capsys, "report", workdir)


@pytest.mark.parametrize("generator", ["mt19937", 3, ["chacha20"], {}])
def test_report_refuses_another_generator(generator, tmp_path, capsys):
  workdir = _write(tmp_path, records.summary(generator=generator))
  assert "generator must be one of" in _refused(capsys, "report", workdir)


def test_a_reader_that_leaves_early_is_no_error():
  # `dp-budget profile | head -1`: the pipe is closed before all is written.
  process = subprocess.Popen(
      [sys.executable, "-m", "accounting.budget", "statement"]
      + ["--noise-multiplier=3", "--sampling-prob=1", "--num-steps=1"]
      + ["--delta=1e-5", "--format=html"],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
  )
  process.stdout.close()
  assert process.wait() == 0
  assert b"Traceback" not in process.stderr.read()
