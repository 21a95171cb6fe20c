"""A task by one file and one line: everything works for it.

The file is the example of docs/tasks.md, and so is the recipe.
"""

import importlib
import itertools
import json
import re
import sys

import numpy as np
import pytest

from accounting import budget
from experiments import audit
from experiments.audits import replay
from experiments.evaluation import evaluate_run, saved
from experiments.plan import experiment as experiment_lib
from experiments.run import loop
from experiments.run import summary as summary_lib
from experiments.run import workdir as workdir_lib
from experiments.tasks import registry
from tests.support import launch


@pytest.fixture(scope="module", autouse=True)
def recipe(tmp_path_factory):
  """Adds the page's task, and returns its recipe."""
  page = (launch.ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
  file, recipe = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
  folder = tmp_path_factory.mktemp("tasks")
  (folder / "points.py").write_text(file)
  with pytest.MonkeyPatch.context() as patched:
    patched.syspath_prepend(str(folder))
    points = importlib.import_module("points")
    patched.setitem(registry.TASKS, "points", points.Regression)
    namespace = {}
    exec(recipe, namespace)

    def get_config():
      config = namespace["get_config"]()
      config.seed = 0
      return config

    yield get_config
    del sys.modules["points"]


@pytest.fixture(scope="module")
def run(recipe, tmp_path_factory):
  path = tmp_path_factory.mktemp("points") / "run"
  return path, launch.run(recipe(), path)


def test_it_trains_and_says_its_own_metric(run, capsys):
  path, summary = run
  assert summary["task"] == "points" and "test_accuracy" not in summary
  assert set(summary["test_mse"]) == set(summary["test_mae"]) == {"last", "ema"}
  # By hand, from the parameters that were saved.
  loaded = saved.load(path)
  batch = loaded.source[np.arange(64)]
  for name, params in loaded.params.items():
    error = batch["x"] @ params["w"] + params["b"] - batch["y"]
    got = summary["test_mse"][name]
    np.testing.assert_allclose(got, np.mean(np.float64(error) ** 2), rtol=1e-5)
  summary_lib.show(summary)
  # No percent: it is no share.
  shown = f"{summary['test_mse']['ema']:.4g}"
  printed = capsys.readouterr().out
  assert f"test mean squared error {shown} (ema parameters; last " in printed


@pytest.mark.slow
def test_it_resumes_with_the_same_bits(run, recipe, tmp_path, monkeypatch):
  real_train = loop.train

  def stopped(experiment, state, **options):
    yield from itertools.islice(real_train(experiment, state, **options), 3)
    raise KeyboardInterrupt

  config = recipe()
  config.save_every = 2
  with monkeypatch.context() as patched:
    patched.setattr(loop, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
      launch.run(config, tmp_path / "run")
  resumed = launch.run(config, tmp_path / "run")
  assert resumed["params_sha256"] == run[1]["params_sha256"]


def test_it_is_evaluated_beside_a_twin_and_reported(run, capsys, tmp_path):
  path, summary = run
  file = tmp_path / "found.json"
  evaluate_run.evaluate(saved.load(path), twin=str(path), json_file=str(file))
  found = json.loads(file.read_text())
  rows = found["params"]["ema"]["overall"]["rows"]
  assert rows["mse"]["value"] == summary["test_mse"]["ema"]
  assert rows["mae"]["standard_error"] > 0
  difference = found["difference"]["ema"]["overall"]["mse"]
  assert difference["value"] == difference["standard_error"] == 0
  printed = capsys.readouterr().out
  assert f"mean squared error {summary['test_mse']['last']:.4g} +- " in printed
  assert "those of means" in printed
  assert budget.main(["report", str(path)]) == 0
  assert "test mse ema" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_it_is_audited_and_replayed(recipe, tmp_path):
  found = audit.run(
      recipe(),
      workdir_lib.Workdir(tmp_path / "audit"),
      canary="clipped",
      num_canaries=20,
      confidence=0.95,
  )
  assert found["num_examples"] == 64 + 20 and not found["contradicts_claim"]
  report = replay.check(experiment_lib.build(recipe()), max_examples=2)
  assert report.sensitivity.num_batches > 0
  with pytest.raises(
      ValueError, match="'clipped' for task 'points', which has"
  ):
    audit.run(
        recipe(),
        workdir_lib.Workdir(tmp_path / "none"),
        canary="input",
        num_canaries=20,
        confidence=0.95,
    )


@pytest.mark.parametrize(
    "section, field, value, message",
    [
        ("augment", "num_views", 2, "augment.num_views must be 1 for task"),
        ("loss", "name", "sigmoid", "loss.name must be 'softmax' for task"),
        ("eval", "labels", ("a",), "eval.labels must be () for task 'points'"),
        ("data", "source", "digits", "data.source must be one of points, or"),
        ("task", "name", "plane", "task.name must be one of classification, "),
    ],
)
def test_a_field_that_it_does_not_use_is_refused(
    recipe, section, field, value, message
):
  config = recipe()
  config[section][field] = value
  with pytest.raises(ValueError, match=re.escape(message)):
    experiment_lib.build(config)


def test_a_twin_from_a_file_is_refused_where_the_task_reads_none(run):
  with pytest.raises(ValueError, match="twin must be a run's folder for task"):
    evaluate_run.evaluate(saved.load(run[0]), twin="other.npz")
