"""Run folders from before there were tasks: evaluated, resumed, reported."""

import json
import pathlib

import pytest

from accounting import budget
from experiments.evaluation import evaluate_run, saved
from experiments.plan import fields
from experiments.run import identity
from experiments.run import summary as summary_lib
from tests.support import launch

# The config.json of such a run, of examples with several labels.
_STORED = json.loads(
    (pathlib.Path(__file__).parent / "before_tasks.json").read_text("utf-8")
)


def _of_loss(name):
  return _STORED | {"loss": _STORED["loss"] | {"name": name}}


@pytest.mark.parametrize(
    "loss, task", [("softmax", "classification"), ("sigmoid", "multi_label")]
)
def test_the_loss_says_which_task_it_was(loss, task):
  stored = _of_loss(loss)
  assert "task" not in stored
  config = fields.from_json(stored)
  assert config.task.name == task and not config.task.options
  # So the checkpoints' digest of the config is what it was.
  now = identity.of_config(identity.plain(config))
  assert identity.of_config(stored) == now, "a newer field: see _NEWER"


def test_another_task_is_another_run():
  config = fields.from_json(_of_loss("sigmoid"))
  config.task.name = "classification"
  now = identity.of_config(identity.plain(config))
  before = identity.of_config(_of_loss("sigmoid"))
  assert "task" in set(identity.differing_fields(before, now))


def test_a_loss_that_no_task_has_is_refused_by_name():
  for stored in (_of_loss("hinge"), _STORED | {"task": {"name": "sorting"}}):
    with pytest.raises(ValueError, match="(loss|task).name must be one of"):
      fields.from_json(stored)
  with pytest.raises(ValueError, match="task.name must be given, got no such"):
    fields.from_json(_STORED | {"task": 3})


@pytest.mark.slow
def test_such_a_folder_is_resumed_evaluated_and_reported(tmp_path, capsys):
  config = launch.linear()
  path = tmp_path / "run"
  summary = launch.run(config, path)
  stored = json.loads((path / "config.json").read_text())
  del stored["task"]
  (path / "config.json").write_text(json.dumps(stored))
  (path / "summary.json").unlink()
  # From the last checkpoint, of which the facts are those of the config.
  resumed = launch.run(config, path)
  assert resumed["params_sha256"] == summary["params_sha256"]
  (path / "config.json").write_text(json.dumps(stored))
  older = {k: v for k, v in summary.items() if k not in ("task", "headline")}
  (path / "summary.json").write_text(json.dumps(older))
  capsys.readouterr()
  summary_lib.show(older)
  shown = f"test accuracy {summary['test_accuracy_ema']:.2%} (ema parameters"
  assert shown in capsys.readouterr().out
  evaluate_run.evaluate(saved.load(path))
  accuracy = f"accuracy {summary['test_accuracy_ema']:.2%} +- "
  assert accuracy in capsys.readouterr().out
  assert budget.main(["report", str(path)]) == 0
  assert "test accuracy ema" in capsys.readouterr().out
