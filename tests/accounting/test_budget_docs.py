"""The page on dp-budget: each command gives what the page shows."""

import pathlib
import re
import shlex

import pytest

from accounting import budget

_PAGE = pathlib.Path(__file__).parents[2] / "docs" / "budget.md"
_BLOCKS = re.findall(
    r"```console\n\$ dp-budget ((?:[^\n]*\\\n)*[^\n]*)\n([^`]*)```",
    _PAGE.read_text(encoding="utf-8"),
)


def test_the_page_shows_every_calculation():
  shown = {shlex.split(command)[0] for command, _ in _BLOCKS}
  # `delta` is the inverse of the first; the last two are too long to show.
  assert shown == set(budget.COMMANDS) - {"delta", "statement", "report"}


@pytest.mark.parametrize(
    ("command", "output"), _BLOCKS, ids=[c.split()[0] for c, _ in _BLOCKS]
)
def test_output_is_as_shown(command, output, capsys):
  assert budget.main(shlex.split(command.replace("\\\n", " "))) == 0
  captured = capsys.readouterr()
  assert captured.err + captured.out == output


def test_python_example_runs(capsys):
  [example] = re.findall(
      r"```python\n(.*?)```", _PAGE.read_text(encoding="utf-8"), re.DOTALL
  )
  exec(compile(example, str(_PAGE), "exec"), {})
  assert capsys.readouterr().out.startswith("3.71517 2.999")


def test_the_plot_is_there():
  [name] = re.findall(r"!\[.*\]\((.*)\)", _PAGE.read_text(encoding="utf-8"))
  assert (_PAGE.parent / name).read_text(encoding="utf-8").count("<svg") == 1
