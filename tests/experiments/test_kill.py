"""Real processes: killed, killed while saving, told to stop, out of disk."""

import json
import resource
import signal
import subprocess
import sys
import time

import launch

_FLAGS = (
    "--config=configs/digits_cnn.py:smoke=True",
    "--config.train.num_steps=24",
    "--config.log_every=4",
    "--config.save_every=1",
)


def _start(path):
  return subprocess.Popen(
      [
          sys.executable, "-m", "experiments.train", *_FLAGS,
          f"--workdir={path}",
      ],
      cwd=launch.ROOT,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
  )  # fmt: skip


def _wait_for(process, text):
  for line in process.stdout:
    if text in line:
      return
  raise AssertionError(f"no line with {text!r}: {process.stderr.read()}")


def _check_whole(path, whole):
  """The run is over, as if nothing had happened."""
  summary = json.loads((path / "summary.json").read_text())
  assert summary["params_sha256"] == whole["params_sha256"]
  lines = (path / "metrics.jsonl").read_text().splitlines()
  assert [json.loads(x)["step"] for x in lines] == [*range(4, 25, 4)]
  names = {entry.name for entry in (path / "checkpoints").iterdir()}
  assert all(name.isdigit() for name in names), names


def test_killed_anywhere_stopped_and_out_of_disk(tmp_path):
  whole = launch.run(launch.config(train__num_steps=24), tmp_path / "whole")
  path, checkpoints = tmp_path / "run", tmp_path / "run" / "checkpoints"

  # Killed while it saves: there is a folder that no rename has finished.
  process = _start(path)
  _wait_for(process, "step 4/")
  while not (halves := list(checkpoints.glob("*tmp*"))):
    assert process.poll() is None, process.stderr.read()
    time.sleep(0.0005)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  assert process.returncode == -signal.SIGKILL
  assert halves and "summary.json" not in {p.name for p in path.iterdir()}

  # Told to stop: it saves, says so, and that is no error.
  process = _start(path)
  _wait_for(process, "step ")
  process.send_signal(signal.SIGTERM)
  out, err = process.communicate()
  assert process.returncode == 0, err
  assert "to be continued: saved after step" in out

  # Out of disk: files may not grow beyond some bytes, so that a save fails.
  process = _start(path)
  _wait_for(process, "step ")
  resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (100, 100))
  _, err = process.communicate()
  assert process.returncode == 2
  assert err.count("\nerror: ") + err.startswith("error: ") == 1, err
  assert "must be written whole" in err and str(path) in err, err

  out, err = _start(path).communicate()
  assert "test accuracy" in out, err
  _check_whole(path, whole)
