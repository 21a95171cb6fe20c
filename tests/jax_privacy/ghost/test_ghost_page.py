"""The pages on ghost clipping and speed: programs print what they show."""

import pathlib
import re
import runpy

import pytest

from jax_privacy.ghost import rules

_DOCS = pathlib.Path(__file__).parents[3] / "docs"
_TEXT = (_DOCS / "ghost_clipping.md").read_text(encoding="utf-8")
_ON_SPEED = (_DOCS / "performance.md").read_text(encoding="utf-8")


def _programs(text):
  pattern = r"```python\n(.*?)```\n\n```text\n(.*?)```"
  return re.findall(pattern, text, flags=re.DOTALL)


_PROGRAMS = dict(
    zip(("split", "explain", "loops", "rule"), _programs(_TEXT), strict=True)
)
_PROGRAMS["speed"] = _programs(_ON_SPEED)[0]


def test_every_program_is_followed_by_its_output():
  assert _TEXT.count("```python") == 4
  assert _ON_SPEED.count("```python") == len(_programs(_ON_SPEED)) == 1


@pytest.mark.few(2)
@pytest.mark.parametrize("name", list(_PROGRAMS))
def test_programs_print_what_is_shown(name, monkeypatch, capsys):
  program, output = _PROGRAMS[name]
  # The rule that the page adds must not stay for other tests.
  monkeypatch.setattr(rules.forms, "_RULES", dict(rules.forms._RULES))
  exec(compile(program, "ghost_clipping.md", "exec"), {})
  assert capsys.readouterr().out == output


@pytest.mark.slow
def test_the_page_would_show_a_wrong_rule(monkeypatch, capsys):
  # Were the page's rule not used at all, its output would be the same.
  monkeypatch.setattr(rules.forms, "_RULES", dict(rules.forms._RULES))
  program = _PROGRAMS["rule"][0]
  wrong = program.replace("x = jnp.transpose(", "x = 2 * jnp.transpose(")
  assert wrong != program
  exec(compile(wrong, "ghost_clipping.md", "exec"), {})
  assert capsys.readouterr().out.count("False") == 6


@pytest.mark.parametrize("name", ["ghost_clipping", "ghost_loops"])
def test_a_figure_is_what_its_program_draws(name):
  drawn = runpy.run_path(str(_DOCS / "figures" / f"{name}.py"))["draw"]()
  figure = (_DOCS / f"{name}.svg").read_text(encoding="utf-8")
  assert drawn == figure
  assert f"]({name}.svg)" in _TEXT
