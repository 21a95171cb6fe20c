"""Whole commands whose input is on a mesh, or in worker processes."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import PIL.Image
import pytest

from tests.support import launch

pytestmark = pytest.mark.slow  # Starts whole commands.

_FLAGS = ["--config=configs/digits_cnn.py:smoke=True"]
_ENVIRONMENT = {
    **{k: v for k, v in os.environ.items() if k != "JAX_NUM_CPU_DEVICES"},
    "JAX_PLATFORMS": "cpu",
}


def _train(path, *flags):
  result = subprocess.run(
      [sys.executable, "-m", "experiments.train", *_FLAGS]
      + [f"--workdir={path}", *flags],
      capture_output=True,
      text=True,
      cwd=launch.ROOT,
      env=_ENVIRONMENT,
  )
  assert not result.returncode, result.stderr
  return json.loads((path / "summary.json").read_text())["params_sha256"]


@pytest.mark.parametrize("fields", [["data=2"], ["data=1", "fsdp=2"]])
def test_on_a_mesh_each_device_gathers_its_own(tmp_path, fields):
  flags = [f"--config.mesh.{field}" for field in fields]
  digests = [
      _train(tmp_path / str(on), *flags, f"--config.data.on_device={on}")
      for on in (True, False)
  ]
  assert digests[0] == digests[1]


@pytest.fixture
def folder(tmp_path):
  """Image folders of 40 digits, for training and for tests."""
  rng = np.random.default_rng(0)
  for split in ("train", "test"):
    for label in range(10):
      path = tmp_path / "images" / split / str(label)
      path.mkdir(parents=True)
      for i in range(4):
        image = rng.integers(256, size=(8, 8), dtype=np.uint8)
        PIL.Image.fromarray(image).save(path / f"{i}.png")
  return tmp_path / "images"


def _config(folder, tmp_path):
  """A config file of a long run that is read by two workers."""
  path = tmp_path / "recipe.py"
  path.write_text(f"""
from configs import digits_cnn

def get_config(arg=None):
  config = digits_cnn.get_config("smoke=True")
  with config.unlocked():
    config.data.source = "folder"
    config.data.options = {{"path": {str(folder)!r}, "channels": 1}}
  config.data.num_examples = 40
  config.data.num_workers = 2
  config.data.prefetch = 1
  config.train.num_steps = 100000
  config.dp.noise_multiplier = 50.0
  config.dp.epsilon = None
  config.log_every = 1
  return config
""")
  return path


def _group(pid):
  """The other members of a process's group: its workers among them."""
  members = []
  for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
    try:
      fields = stat.read_text().rsplit(")", 1)[1].split()
    except OSError:
      continue
    if int(fields[2]) == pid and fields[0] != "Z":
      members.append(int(stat.parent.name))
  return [member for member in members if member != pid]


@pytest.mark.parametrize("to_group", [False, True])
def test_a_signal_stops_the_run_and_its_workers(folder, tmp_path, to_group):
  process = subprocess.Popen(
      [sys.executable, "-m", "experiments.train"]
      + [f"--config={_config(folder, tmp_path)}"]
      + [f"--workdir={tmp_path / 'run'}"],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      cwd=launch.ROOT,
      env=_ENVIRONMENT,
      start_new_session=True,
  )
  lines = iter(process.stdout.readline, "")
  assert any("step 3/" in line for line in lines), process.stderr.read()
  assert len(_group(process.pid)) >= 2
  # A scheduler signals all processes of a job; Ctrl-C, the whole group.
  (os.killpg if to_group else os.kill)(process.pid, signal.SIGTERM)
  out, err = process.communicate()
  assert process.returncode == 0, err
  assert "to be continued" in out and not err, (out, err)
  deadline = time.monotonic() + 60
  while _group(process.pid):
    assert time.monotonic() < deadline
    time.sleep(0.1)


def test_a_broken_image_ends_the_run_in_one_line(folder, tmp_path):
  for path in folder.glob("train/*/[1-3].png"):
    path.write_bytes(b"no image")
  result = subprocess.run(
      [sys.executable, "-m", "experiments.train"]
      + [f"--config={_config(folder, tmp_path)}"]
      + [f"--workdir={tmp_path / 'run'}"],
      capture_output=True,
      text=True,
      cwd=launch.ROOT,
      env=_ENVIRONMENT,
  )
  assert result.returncode == 2
  assert result.stderr.count("\n") == 1, result.stderr
  assert (
      "JPEG or PNG image, got neither. (private, not for release)"
      in result.stderr
  )
