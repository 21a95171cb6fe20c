"""Programs of examples/ that show a whole loop."""

import re
import shutil
import subprocess
import sys

import pytest

from tests.support import launch

_LINE = r"step 60: test accuracy ([\d.]+)% at \(([\d.]+), 1e-05\)-DP"


@pytest.mark.slow
def test_a_flax_loop_goes_on_where_it_was_stopped(tmp_path):
  command = [
      sys.executable, "examples/flax_nnx.py",
      f"--workdir={tmp_path}", "--num_steps=60",
  ]  # fmt: skip

  def run():
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=launch.ROOT, check=True
    )
    return done.stdout

  whole = run()
  ((accuracy, spent),) = re.findall(_LINE, whole)
  # Chance is 10%, and 360 test images are off by 1.6% from it.
  assert float(accuracy) > 40 and 2.99 < float(spent) <= 3.0
  shutil.rmtree(tmp_path / "60")  # As if it was stopped before.
  resumed = run()
  assert "goes on after step 50" in resumed
  assert re.findall(_LINE, resumed) == [(accuracy, spent)]
