"""A user's own code trains as the project's does, from any folder."""

import dataclasses
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest

from experiments import train
from experiments.plan import experiment as experiment_lib
from experiments.plan import fields
from experiments.run import workdir as workdir_lib
from experiments.tasks import imported
from tests.support import fuzz, launch

_EXAMPLE = launch.ROOT / "examples" / "own_task"
_PAGE = (launch.ROOT / "docs" / "own_code.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _found(monkeypatch):
  monkeypatch.setattr(sys, "path", list(sys.path))
  monkeypatch.setattr(imported, "_folders", [str(_EXAMPLE)])


def _config(kind, **changes):
  get_config = runpy.run_path(str(_EXAMPLE / "config.py"))["get_config"]
  config = get_config(f"kind={kind}")
  with config.unlocked():
    config.update_from_flattened_dict({"train.num_steps": 2} | changes)
  return config.lock()


@pytest.fixture(scope="module")
def from_a_folder(tmp_path_factory):
  """A run of the example's task, from a folder of its own; its folder."""
  folder = tmp_path_factory.mktemp("elsewhere")
  for name in ("config.py", "rolling.py"):
    shutil.copy(_EXAMPLE / name, folder)
  (text,) = re.findall(r"```bash\n(.*?)\n```", _PAGE)
  path, python, *flags = shlex.split(text)
  assert (path, python) == ("PYTHONPATH=CHECKOUT", "python")
  command = [sys.executable, *flags, "--config.train.num_steps=2"]
  environ = os.environ | {"PYTHONPATH": str(launch.ROOT)}
  process = subprocess.run(
      command, capture_output=True, text=True, cwd=folder, env=environ
  )
  assert process.returncode == 0, process.stderr
  assert "test mean squared error" in process.stdout
  return folder


def test_a_config_works_from_any_folder(from_a_folder):
  summary = json.loads((from_a_folder / "run" / "summary.json").read_text())
  assert summary["task"] == "rolling:Rolling"
  assert summary["imported"]["names"] == ["rolling:Rolling"]
  assert list(summary["imported"]["modules"]) == ["rolling"]
  config = json.loads((from_a_folder / "run" / "config.json").read_text())
  assert config["imported"] == summary["imported"]


def test_the_page_names_what_the_example_does():
  (text,) = re.findall(r"```python\n(.*?)```", _PAGE, re.DOTALL)
  config = _config("parts")
  namespace = {"config": config.copy_and_resolve_references()}
  exec(text, namespace)
  assert namespace["config"] == config


def test_the_same_code_elsewhere_is_the_same_run(from_a_folder):
  """Trained there by a command, and here in this process."""
  config = _config("task")
  workdir = workdir_lib.Workdir(from_a_folder / "run")
  workdir.check(config)
  found = experiment_lib.build(config)
  assert found.imported == workdir.read_summary()["imported"]
  workdir.claim(config, imported=found.imported)


@pytest.mark.parametrize("tampered", [False, True])
def test_other_code_does_not_resume_a_run(from_a_folder, tmp_path, tampered):
  """The module is named; though config.json were made to say the same."""
  shutil.copytree(from_a_folder / "run", tmp_path / "run")
  experiment = experiment_lib.build(_config("task"))
  theirs = experiment.imported["sha256"]
  other = {"modules": {"rolling": "1" * 64}, "sha256": "2" * 64}
  experiment = dataclasses.replace(experiment, imported=other)
  workdir = workdir_lib.Workdir(tmp_path / "run")
  if tampered:
    path = tmp_path / "run" / "config.json"
    path.write_text(json.dumps(workdir.read_config() | {"imported": other}))
  with pytest.raises(workdir_lib.WorkdirError) as raised:
    train.run(experiment, workdir)
  text = f"rolling: imported.sha256 {theirs}, not {'2' * 64}"
  fuzz.assert_clear(raised.value, "must hold a run of this code", text)


def test_all_parts_of_an_image_classifier_can_be_own_code(tmp_path):
  config = _config("parts")
  experiment = experiment_lib.build(config)
  assert experiment.model.params["hidden"]["kernel"].shape == (64, 8)
  assert experiment.train_source.label_names == ("above", "below")
  summary = launch.run(config, tmp_path / "run")
  assert list(summary["imported"]["modules"]) == ["parts"]
  assert len(summary["imported"]["names"]) == 5
  confidence = summary["test_confidence"]
  assert set(confidence) == {"last", "ema"} and 0 < confidence["ema"] < 1


@pytest.mark.parametrize(
    "kind, field, name, wanted",
    [
        ("parts", "model.name", "parts:load_halves", "without the parameter r"),
        ("parts", "data.source", "parts:poly_loss", "without the parameter sp"),
        ("parts", "data.source", "parts:nothing", "has no 'nothing'"),
        ("parts", "loss.name", "no_such:loss", "there is no module no_such"),
        ("parts", "model.name", "nothing", "own code, got 'nothing'"),
        ("parts", "task.name", "rolling:Balls", "without the parameter task"),
        ("parts", "task.name", "os:getcwd", "not Python's library"),
        ("parts", "task.name", "nothing", "one of classification, "),
    ],
)
def test_a_name_of_the_wrong_kind_is_refused(kind, field, name, wanted):
  config = _config(kind, **{field: name})
  with pytest.raises(ValueError) as raised:
    experiment_lib.build(config)
  fuzz.assert_clear(raised.value, f"{field} must ", wanted)


@pytest.mark.parametrize(
    "names, wanted",
    [
        (("accuracy",), "eval.metrics must be names of own code"),
        (("parts:confidence",) * 2, "names of their own, got 'confidence' tw"),
    ],
)
def test_metrics_have_names_of_their_own(names, wanted):
  with pytest.raises(ValueError, match=wanted):
    fields.check(_config("parts", **{"eval.metrics": names}))


def test_a_metric_gives_a_number_for_each_example():
  experiment = experiment_lib.build(_config("parts"))
  task, source = experiment.task, experiment.test_source
  batch = {"image": np.zeros((3, 8, 8, 1)), "label": np.array([0, 1, 1])}
  logits = np.array([[0.0, 0.0], [0.0, np.log(3.0)], [np.log(3.0), 0.0]])
  found = task.overall(source, task.outcomes(source, batch, logits))
  np.testing.assert_allclose(found["confidence"].value, 0.5, rtol=1e-6)
  # Of 1/2, 3/4 and 1/4: the root of their variance over three.
  error = np.sqrt(2 / 16 / 3 / 3)
  np.testing.assert_allclose(
      found["confidence"].standard_error, error, rtol=1e-6
  )
  assert list(task.metrics)[-1] == "confidence"
