"""A sweep of real runs that is killed, then stopped, then ended."""

import dataclasses
import json
import signal
import subprocess
import sys

import pytest

import accounting
from accounting import claims
from experiments.sweeps import runner
from tests.support import launch

pytestmark = pytest.mark.slow
_NUM_RUNS = 4


def _start(folder):
  return subprocess.Popen(
      [
          sys.executable, "-m", "experiments.sweep",
          launch.linear_recipe(folder.parent), "--workers=1",
          "--space=train.learning_rate=0.25,0.5,1,2", f"--workdir={folder}",
      ],
      cwd=launch.ROOT,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
  )  # fmt: skip


def test_a_sweep_that_is_killed_goes_on_to_one_page(tmp_path):
  folder = tmp_path / "sweep"
  first = _start(folder)
  launch.wait_for(first, "run 000")
  first.kill()
  first.communicate()
  held = (runner.folder(folder, 0) / "summary.json").read_bytes()
  second = _start(folder)
  launch.wait_for(second, "run 001")
  second.send_signal(signal.SIGTERM)
  out, err = second.communicate()
  assert second.returncode == 0, err
  assert "to be continued: " in out
  third = _start(folder)
  out, err = third.communicate()
  assert third.returncode == 0, err
  assert "winner: train.learning_rate=" in out
  summaries = [
      json.loads((runner.folder(folder, n) / "summary.json").read_text())
      for n in range(_NUM_RUNS)
  ]
  assert (runner.folder(folder, 0) / "summary.json").read_bytes() == held
  # No two runs have the same seed, and so the same noise.
  assert [each["seed"] for each in summaries] == [0, 1, 2, 3]
  keys = [f.name for f in dataclasses.fields(accounting.Mechanism)]
  run = accounting.Mechanism.from_dict(
      {k: summaries[0][k] for k in keys if k in summaries[0]}
  )
  whole = accounting.epsilon(_NUM_RUNS * run, delta=1e-4)
  assert f"epsilon of the whole: {claims.at_most(whole)}\n" in out
  page = (folder / "page.html").read_text()
  for number in range(_NUM_RUNS):
    assert f'<th scope="row">{number:03}</th>' in page
  assert f"({claims.at_most(whole)}, 0.0001)-differentially private" in page
