"""docs/noise.md, docs/clipping.md and their examples do what they say."""

import re
import runpy

import numpy as np
import pytest

from tests.support import launch

_DOCS = launch.ROOT / "docs"


@pytest.mark.parametrize("name", ["noise", "clipping"])
def test_a_page_runs_and_shows_its_figure(name):
  page = (_DOCS / f"{name}.md").read_text(encoding="utf-8")
  (program,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
  exec(compile(program, f"{name}.md", "exec"), {})  # noqa: S102
  drawn = runpy.run_path(str(_DOCS / "figures" / f"{name}.py"))["draw"]()
  assert drawn == (_DOCS / f"{name}.svg").read_text(encoding="utf-8")
  assert f"]({name}.svg)" in page


def test_the_errors_are_those_of_the_page():
  error = runpy.run_path(str(_DOCS / "figures" / "noise.py"))["error"]
  page = (_DOCS / "noise.md").read_text(encoding="utf-8")
  words = r"(?:independent|0\.95\)|buffers|coefficients)"
  found = re.findall(words + r" (\d+\.\d\d)", page)
  names = "independent", "lambda-CGD", "BISR, 16", "BLT, 2", "square root"
  want = [np.sqrt(np.mean(error(name) ** 2)) for name in names]
  # Of the first: the root of (n + 1) / 2.
  assert want[0] == pytest.approx(np.sqrt(1025 / 2))
  assert found == [f"{w:.2f}" for w in want]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["correlated_noise", "quantile_clipping"])
def test_an_example_runs(name, capsys):
  runpy.run_path(str(launch.ROOT / f"examples/{name}.py"), run_name="__main__")
  accuracy = float(re.search(r"accuracy ([\d.]+)%", capsys.readouterr().out)[1])
  assert accuracy > 20  # Chance is 10.
