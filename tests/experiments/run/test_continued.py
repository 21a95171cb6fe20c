"""`--continue_from`: another run's parameters, and the epsilon of both."""

import doctest
import json
import shutil

import numpy as np
import pytest

import accounting
import experiments
from accounting import budget
from experiments.plan import continued
from experiments.plan import experiment as experiment_lib
from experiments.run import data_digest, preview
from experiments.run import summary as summary_lib
from experiments.run import workdir as workdir_lib
from tests.support import fuzz, launch


@pytest.fixture(scope="module")
def first(tmp_path_factory):
  path = tmp_path_factory.mktemp("first") / "run"
  launch.run(launch.linear(save_every=1), path)
  return path


def _next(path, **changes):
  fields = {
      "model__restore__path": str(path),
      "model__restore__same_data": True,
      "seed": 1,
      "dp__epsilon": None,
      "dp__noise_multiplier": 0.8,
  }
  return launch.linear(**fields | changes)


@pytest.fixture(scope="module")
def second(first, tmp_path_factory):
  """A run that continues the first, by a command; and what was printed."""
  folder = tmp_path_factory.mktemp("second")
  process = launch.command(
      "experiments.train",
      launch.linear_recipe(folder),
      f"--workdir={folder}/run",
      f"--continue_from={first}",
      "--config.seed=1",
      "--config.dp.epsilon=None",
      "--config.dp.noise_multiplier=0.8",
  )
  assert process.returncode == 0, process.stderr
  return folder / "run", process.stdout


def _mechanism(path):
  summary = workdir_lib.Workdir(path).read_summary()
  config = workdir_lib.Workdir(path).read_config()
  keys = ("noise_multiplier", "sampling_prob", "num_steps", "num_examples")
  return accounting.Mechanism(**{k: summary[k] for k in keys}), config


def test_examples_of_the_module():
  options = doctest.NORMALIZE_WHITESPACE
  assert doctest.testmod(continued, optionflags=options).failed == 0


def test_the_epsilon_of_both_is_stated(first, second, capsys):
  path, printed = second
  summary = workdir_lib.Workdir(path).read_summary()
  runs = [_mechanism(first)[0], _mechanism(path)[0]]
  both = accounting.epsilon(accounting.Composition(runs), delta=1e-4)
  assert summary["epsilon_composed"] == both
  each = [accounting.epsilon(run, delta=1e-4) for run in runs]
  assert max(each) < both < sum(each)
  shown = accounting.claims.at_most(both)
  assert f"Together they are ({shown}, 0.0001)-DP" in printed
  assert "says nothing of" not in printed  # Its parameters are not public.
  assert budget.main(["report", str(path)]) == 0
  told = " ".join(capsys.readouterr().out.split())
  assert f"Together the runs are ({shown}, 0.0001)-diff" in told
  model = experiments.load(path)
  assert model.guarantee["epsilon"] == both
  assert model.statement.startswith(f"({shown}, 0.0001)-differentially")
  assert "both together" in model.statement
  preview.show_run(experiment_lib.build(_next(first)))
  assert f"it continues: ({shown}, 0.0001)-diff" in capsys.readouterr().out


def test_it_begins_with_the_first_runs_parameters(first):
  found = experiment_lib.build(_next(first)).model.params["linear"]["kernel"]
  wanted = experiments.load(first).params["linear"]["kernel"]
  np.testing.assert_array_equal(found, wanted)


def test_a_third_run_adds_to_both(first, second):
  path, _ = second
  third = experiment_lib.build(_next(path, seed=2))
  assert len(third.restored_from["released"]) == 2
  assert third.restored_from["seeds"] == [0, 1]
  three = summary_lib.composed(third)["epsilon_composed"]
  runs = [_mechanism(first)[0], *[_mechanism(path)[0]] * 2]
  assert three == accounting.epsilon(accounting.Composition(runs), delta=1e-4)
  with pytest.raises(ValueError, match="seed must be None, or another"):
    experiment_lib.build(_next(path, seed=0))  # The first run's.


@pytest.mark.slow
def test_what_the_first_run_began_with_is_still_said(first, tmp_path, capsys):
  public = launch.linear(model__restore__path=str(first), seed=5)
  # As if the first run's data were others.
  with pytest.MonkeyPatch.context() as patched:
    patched.setattr(data_digest, "check_public", lambda *_, **__: None)
    launch.run(public, tmp_path / "public")
  third = _next(tmp_path / "public")
  summary = launch.run(third, tmp_path / "third")
  assert summary["restored_from"]["began_with"]["path"] == first.name
  capsys.readouterr()
  summary_lib.show(summary)
  assert "nothing of what THEY were trained on" in capsys.readouterr().out
  assert budget.main(["report", str(tmp_path / "third")]) == 0
  assert "training began with parameters from elsewhere" in " ".join(
      capsys.readouterr().out.split()
  )
  model = experiments.load(tmp_path / "third")
  assert "nothing of what they were trained on" in model.statement


def test_all_steps_that_were_planned_count(first, tmp_path):
  """Though the run was stopped: it may go on when this one has begun."""
  shutil.copytree(first, tmp_path / "run")
  shutil.rmtree(tmp_path / "run" / "checkpoints" / "3")
  (tmp_path / "run" / "steps_begun.json").unlink()
  (tmp_path / "run" / "summary.json").unlink()
  found = continued.read(tmp_path / "run", tmp_path / "run" / "checkpoints")
  assert found["released"][0]["num_steps"] == 3


@pytest.mark.parametrize(
    "changes, wanted",
    [
        ({"seed": 0}, "seed must be None, or another than of the run"),
        (
            {"dp__enabled": False},
            "dp.enabled must be True to continue a run on",
        ),
        (
            {"dp__neighboring_relation": "replace_one"},
            "neighboring_relation must be the same for all releases",
        ),
        ({"model__restore__path": None}, "same_data must be False without"),
    ],
)
def test_what_cannot_be_composed_is_refused(first, changes, wanted):
  with pytest.raises(ValueError) as raised:
    experiment_lib.build(_next(first, **changes))
  fuzz.assert_clear(raised.value, wanted)


@pytest.mark.parametrize("kind", ["file", "not private", "no config", "audit"])
def test_only_a_private_run_is_continued(first, tmp_path, kind):
  path = tmp_path / "run"
  shutil.copytree(first, path)
  config = json.loads((path / "config.json").read_text())
  wanted = {"file": "same_data must be False for a file"}.get(kind, "must be")
  if kind == "file":
    path = tmp_path / "m.npz"
    kernel = np.zeros((64, 10), np.float32)
    arrays = {"linear.kernel": kernel, "linear.bias": kernel[0]}
    np.savez(path, **arrays)
  elif kind == "no config":
    (path / "config.json").unlink()
  else:
    change = {"audit": {}} if kind == "audit" else {"dp": {"enabled": False}}
    (path / "config.json").write_text(json.dumps(config | change))
  with pytest.raises(ValueError) as raised:
    experiment_lib.build(_next(path))
  fuzz.assert_clear(raised.value, wanted)


def test_other_data_are_refused_before_a_step(first, tmp_path):
  config = _next(first, data__options={"classes": list(range(10))})
  with pytest.raises(
      workdir_lib.WorkdirError, match="only for a run on the sa"
  ):
    launch.run(config, tmp_path / "run")
  assert not workdir_lib.Workdir(tmp_path / "run").read_steps_begun()


@pytest.mark.parametrize("how", ["less", "left out", "forgotten"])
def test_a_report_recomputes_it(second, tmp_path, how, capsys):
  path, _ = second
  shutil.copytree(path, tmp_path / "run")
  file = tmp_path / "run" / "summary.json"
  summary = json.loads(file.read_text())
  if how == "less":
    summary["epsilon_composed"] *= 0.9
  else:
    del summary["epsilon_composed"]
  if how == "forgotten":  # All of it: the config says otherwise.
    del summary["restored_from"]["released"]
  file.write_text(json.dumps(summary))
  assert budget.main(["report", str(tmp_path / "run")]) == 2
  wanted = {"less": "epsilon_composed must agree", "left out": "must be in sum"}
  text = wanted.get(how, "restored_from must say what was released before")
  assert text in capsys.readouterr().err
