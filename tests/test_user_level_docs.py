"""docs/user_level.md and examples/user_level.py do what they say."""

import re
import runpy

import numpy as np
import pytest

from tests.support import launch


def test_the_page_runs():
  page = (launch.ROOT / "docs/user_level.md").read_text(encoding="utf-8")
  (program,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
  found = {}
  exec(compile(program, "docs/user_level.md", "exec"), found)  # noqa: S102
  # A step's noise is 0.3 / 40 a coordinate. The loss's Hessian is about 2, so a
  # step keeps 0.4 of what is there: what is left has a standard deviation of
  # 0.0075 / sqrt(1 - 0.16) = 0.0082. The bound is 12 of them.
  np.testing.assert_allclose(found["w"], [1.0, -2.0, 0.5], atol=0.1)


@pytest.mark.slow
def test_the_example_runs(capsys):
  path = launch.ROOT / "examples/user_level.py"
  runpy.run_path(str(path), run_name="__main__")
  out = capsys.readouterr().out
  accuracy = float(re.search(r"accuracy ([\d.]+)%", out)[1])
  # Chance is 10; it reached 96.1 when it was written.
  assert accuracy > 85 and "(7.998, 1e-3)-DP for a writer" in out
