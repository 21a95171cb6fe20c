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

import jax
import numpy as np
import pytest

from configs import common, families
from experiments import train
from experiments.plan import experiment as experiment_lib
from experiments.plan import fields
from experiments.run import workdir as workdir_lib
from experiments.tasks import imported, registry
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


@pytest.mark.slow
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


@pytest.mark.slow
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


_LOSSES = """
import jax.numpy as jnp


def of_class(logits, label):
  return -(logits[0] - jnp.max(logits))[label] + jnp.sum(logits**2)


def of_number(prediction, target):
  return jnp.abs(prediction - target) ** 3


def of_neither(logits, target):
  return 0.0
"""
_COLUMNS = {
    "age": {"kind": "number", "bounds": [0, 10]},
    "rich": {"kind": "category", "values": ["no", "yes"]},
}


def _table_task(folder, loss, target):
  (folder / "row_losses.py").write_text(_LOSSES)
  sys.path.append(str(folder))
  config = families.table(epsilon=3.0)
  config.data.source = "table"
  path = folder / "t.csv"
  path.write_text("age,rich\n" + "3,no\n7,yes\n" * 20)
  common.set_options(
      config.data.options,
      path=str(path), target=target, schema={"columns": _COLUMNS},
      test_path=str(path),
  )  # fmt: skip
  config.loss.name = f"row_losses:{loss}"
  return registry.build(**fields.task_sections(config))


@pytest.mark.parametrize(
    "loss, target", [("of_class", "rich"), ("of_number", "age")]
)
def test_a_loss_of_own_code_is_of_a_tables_row(tmp_path, loss, target):
  task = _table_task(tmp_path, loss, target)
  source = task.load("train", num_examples=40)
  model = task.build_model(source, jax.random.key(0))
  row = jax.tree.map(lambda x: x[0], source[np.array([1])])
  params = jax.tree.map(lambda x: x + 0.5, model.params)
  found = model.loss_fn(params, row, jax.random.key(1))
  output = 0.5 * (row["numbers"].sum() + 1)
  if loss == "of_number":
    output = 0.5 * (1 + (0 if not len(row["categories"]) else 1))
    # 7 of [0, 10] is 0.4 on the loss's scale; the category "yes" counts 0.5.
    wanted = abs(output - 0.4) ** 3
    assert "rmse" in task.metrics
  else:
    # The logits of two classes are 0 and the output; "yes" is the second.
    wanted = max(output, 0) - output + output**2
    assert "accuracy" in task.metrics
  np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize(
    "loss, target, wanted",
    [
        ("of_class", "age", "must be one of absolute, poisson, squared, or a"),
        (
            "of_number",
            "rich",
            "must be one of softmax, or a function of logits",
        ),
        (
            "of_neither",
            "rich",
            "must name a function of logits and label, or of prediction",
        ),
    ],
)
def test_a_loss_that_does_not_fit_a_tables_target_is_refused(
    tmp_path, loss, target, wanted
):
  with pytest.raises(ValueError, match=f"loss.name {wanted}"):
    _table_task(tmp_path, loss, target).load("train", num_examples=40)
