"""The page on ghost clipping: its programs print what it shows."""

import pathlib
import re
import runpy

import pytest

from jax_privacy.ghost import rules

_DOCS = pathlib.Path(__file__).parents[3] / "docs"
_TEXT = (_DOCS / "ghost_clipping.md").read_text(encoding="utf-8")
_PROGRAMS = re.findall(
    r"```python\n(.*?)```\n\n```text\n(.*?)```", _TEXT, flags=re.DOTALL
)


def test_every_program_is_followed_by_its_output():
  assert len(_PROGRAMS) == _TEXT.count("```python") == 2


@pytest.mark.parametrize(
    ("program", "output"), _PROGRAMS, ids=["split", "rule"]
)
def test_programs_print_what_is_shown(program, output, monkeypatch, capsys):
  # The rule that the page adds must not stay for other tests.
  monkeypatch.setattr(rules, "_RULES", dict(rules._RULES))
  exec(compile(program, "ghost_clipping.md", "exec"), {})
  assert capsys.readouterr().out == output


def test_the_page_would_show_a_wrong_rule(monkeypatch, capsys):
  # Were the page's rule not used at all, its output would be the same.
  monkeypatch.setattr(rules, "_RULES", dict(rules._RULES))
  program = _PROGRAMS[1][0]
  wrong = program.replace("x = jnp.transpose(", "x = 2 * jnp.transpose(")
  assert wrong != program
  exec(compile(wrong, "ghost_clipping.md", "exec"), {})
  assert capsys.readouterr().out.count("False") == 6


def test_the_figure_is_what_its_program_draws():
  drawn = runpy.run_path(str(_DOCS / "figures" / "ghost_clipping.py"))["draw"]()
  figure = (_DOCS / "ghost_clipping.svg").read_text(encoding="utf-8")
  assert drawn == figure
  assert "](ghost_clipping.svg)" in _TEXT
