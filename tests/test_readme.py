"""README's examples and commands, and those of docs/tables.md, run."""

import re
import shlex
import subprocess
import sys

import pytest

from tests.support import launch

_README = (launch.ROOT / "README.md").read_text(encoding="utf-8")
_TABLES = (launch.ROOT / "docs/tables.md").read_text(encoding="utf-8")


def _blocks(language, text=_README):
  return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def _commands():
  blocks = _blocks("bash") + _blocks("bash", _TABLES)
  lines = "".join(blocks).splitlines()
  commands = [line.split("#")[0].strip() for line in lines]
  # `make` is what runs these tests.
  return [c for c in commands if c and not c.startswith("make ")]


def test_there_is_something_to_test():
  assert len(_blocks("python")) >= 1 and len(_commands()) >= 3


@pytest.mark.parametrize("program", _blocks("python"))
def test_python_examples_run(program):
  result = subprocess.run(
      [sys.executable, "-c", program],
      capture_output=True,
      text=True,
      cwd=launch.ROOT,
  )
  assert result.returncode == 0, result.stderr
  assert result.stdout.strip().endswith("True")


# The whole recipe is what `test_accuracy` trains.
_FEW_STEPS = "--config.train.num_epochs=None", "--config.train.num_steps=6"
# Its network is trained by `test_commands`.
_LINEAR = "--config.model.name=linear", "--config.model.options={}"


@pytest.mark.parametrize(
    "in_small", [True, pytest.param(False, marks=pytest.mark.slow)]
)
def test_commands_run_in_order(tmp_path, in_small):
  # As written, but for where runs are put, which Python runs them, and in small
  # how many steps are trained, and of which network.
  for command in _commands():
    words = shlex.split(command.replace("runs/", f"{tmp_path}/"))
    assert words[0] in ("python", "dp-budget"), command
    if words[0] == "python":
      assert words[1] == "-m", command
      words = words[2:]
      if in_small and "experiments.train" in words:
        is_image = any("digits_cnn" in word for word in words)
        words += [*_FEW_STEPS, *_LINEAR * is_image]
    else:
      words[0] = "accounting.budget"
    # A few steps need no Python of their own; see `launch.command`.
    run = launch.command if in_small else launch.process
    result = run(*words)
    assert result.returncode == 0, f"{command}\n{result.stderr}"
    assert result.stdout


@pytest.mark.parametrize(
    "run",
    [launch.command, pytest.param(launch.process, marks=pytest.mark.slow)],
    ids=["forked", "alone"],
)
def test_the_example_program_runs(run):
  result = run("examples.optax_loop")
  assert result.returncode == 0, result.stderr
  accuracy = float(re.search(r"accuracy ([\d.]+)%", result.stdout)[1])
  # Chance is 10; this linear model reached 93.3 when it was written.
  assert accuracy > 85 and "(3.000, 1e-4)-DP" in result.stdout


def test_it_stays_short():
  assert len(_README.splitlines()) <= 100


def test_links_lead_somewhere():
  for target in re.findall(r"\]\(([^)#]+)\)", _README):
    if not target.startswith("http"):
      assert (launch.ROOT / target).exists(), target
