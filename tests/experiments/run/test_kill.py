"""Real processes: killed, killed while saving, told to stop, out of disk."""

import json
import resource
import signal
import subprocess
import sys
import time

import pytest

from tests.support import launch

_FLAGS = "--config.log_every=4", "--config.save_every=1"
# Of a run that is killed once, and of one that is stopped three times.
_FEW, _MANY = 8, 24
# How a small run of each task is started.
_RECIPES = {
    "classification": launch.linear_recipe,
    "table": lambda folder: "--config=configs/breast_cancer.py:smoke=True",
    "diffusion": (
        lambda folder: "--config=configs/digits_diffusion.py:smoke=True"
    ),
}
# How its last words begin.
_RESULTS = dict.fromkeys(_RECIPES, "test accuracy")
_RESULTS["diffusion"] = "test denoising loss"


def _flags(num_steps):
  return *_FLAGS, f"--config.train.num_steps={num_steps}"


def _start(path, task, num_steps):
  return subprocess.Popen(
      [
          sys.executable, "-m", "experiments.train",
          _RECIPES[task](path.parent), *_flags(num_steps),
          f"--workdir={path}",
      ],
      cwd=launch.ROOT,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
  )  # fmt: skip


def _check_whole(path, whole, num_steps):
  """The run is over, as if nothing had happened."""
  summary = json.loads((path / "summary.json").read_text())
  assert summary["params_sha256"] == whole["params_sha256"]
  lines = (path / "metrics.jsonl").read_text().splitlines()
  assert [json.loads(x)["step"] for x in lines] == [*range(4, num_steps + 1, 4)]
  names = {entry.name for entry in (path / "checkpoints").iterdir()}
  assert all(name.isdigit() for name in names), names


def _kill_while_it_saves(path, task, num_steps):
  """Leaves a folder of a checkpoint that no rename has finished."""
  process = _start(path, task, num_steps)
  launch.wait_for(process, "step 4/")
  while not (halves := list((path / "checkpoints").glob("*tmp*"))):
    assert process.poll() is None, process.stderr.read()
    time.sleep(0.0005)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  assert process.returncode == -signal.SIGKILL
  assert halves and "summary.json" not in {p.name for p in path.iterdir()}


@pytest.fixture(scope="module", params=launch.EACH_TASK)
def task(request):
  assert set(_RECIPES) == set(launch.TASKS)
  return request.param


def _whole(task, folder, num_steps):
  """The summary of the run that nothing stopped."""
  config = launch.TASKS[task](train__num_steps=num_steps)
  return launch.run(config, folder / "whole")


@pytest.mark.slow
def test_killed_while_it_saves(tmp_path, task):
  _kill_while_it_saves(tmp_path / "run", task, _FEW)
  done = launch.command(
      "experiments.train", _RECIPES[task](tmp_path), *_flags(_FEW),
      f"--workdir={tmp_path / 'run'}",
  )  # fmt: skip
  assert _RESULTS[task] in done.stdout, done.stderr
  _check_whole(tmp_path / "run", _whole(task, tmp_path, _FEW), _FEW)


@pytest.mark.slow
def test_killed_and_stopped_and_out_of_disk(tmp_path, task):
  path = tmp_path / "run"
  _kill_while_it_saves(path, task, _MANY)

  # Told to stop: it saves, says so, and that is no error.
  process = _start(path, task, _MANY)
  launch.wait_for(process, "step ")
  process.send_signal(signal.SIGTERM)
  out, err = process.communicate()
  assert process.returncode == 0, err
  assert "to be continued: saved after step" in out

  # Out of disk: files may not grow beyond some bytes, so that a save fails.
  process = _start(path, task, _MANY)
  launch.wait_for(process, "step ")
  resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (100, 100))
  _, err = process.communicate()
  assert process.returncode == 2
  assert err.count("\nerror: ") + err.startswith("error: ") == 1, err
  assert "must be written whole" in err and str(path) in err, err

  out, err = _start(path, task, _MANY).communicate()
  assert _RESULTS[task] in out, err
  _check_whole(path, _whole(task, tmp_path, _MANY), _MANY)
