"""The API pages have every public name, and the start page's program runs."""

import importlib
import importlib.util
import re
import shlex
import subprocess
import sys

import pytest

import accounting
import jax_privacy
from tests.support import launch

_PAGES = launch.ROOT / "docs/api"


def _directives():
  """Modules on the pages; True for those with all that is below them."""
  found = {}
  for page in _PAGES.glob("*.md"):
    text = page.read_text(encoding="utf-8")
    for name, options in re.findall(r"^::: (\S+)\n((?: +.*\n)*)", text, re.M):
      found[name] = "show_submodules: true" in options
  return found


def _covered(module, directives):
  parts = module.split(".")
  above = (".".join(parts[:i]) for i in range(1, len(parts)))
  return module in directives or any(directives.get(name) for name in above)


_WARNINGS = ("accounting._warnings", "accounting.numerics")


@pytest.mark.parametrize("package", [accounting, jax_privacy])
def test_every_public_name_is_on_a_page(package):
  directives = _directives()
  for name in package.__all__:
    thing = getattr(package, name)
    module = getattr(thing, "__module__", None) or thing.__name__
    if module.startswith(_WARNINGS) or name == "budget":
      continue  # Said where they are raised; the command has its own page.
    assert _covered(module, directives), f"{package.__name__}.{name}: {module}"


def test_a_name_that_is_on_no_page_is_noticed():
  directives = _directives()
  assert not _covered("jax_privacy.ghost.clip", directives)
  assert _covered("jax_privacy.auditing.auditor", directives)


@pytest.mark.parametrize("name", sorted(_directives()))
def test_every_page_s_module_is_there(name):
  assert importlib.util.find_spec(name) is not None


def test_the_start_page_does_what_it_says(capsys):
  page = (launch.ROOT / "docs/index.md").read_text(encoding="utf-8")
  (program,) = re.findall(r"```python\n(.*?)```", page, re.S)
  exec(compile(program, "docs/index.md", "exec"), {})  # noqa: S102
  assert (
      "guarantee: private.epsilon(), at delta 1e-05" in capsys.readouterr().out
  )
  (command,) = re.findall(r"^dp-budget (.*?)```", page, re.S | re.M)
  done = subprocess.run(
      [
          sys.executable,
          "-m",
          "accounting.budget",
          *shlex.split(command.replace("\\\n", " ")),
      ],
      capture_output=True,
      text=True,
      check=True,
  )
  assert "epsilon" in done.stdout


@pytest.mark.skipif(
    importlib.util.find_spec("griffe") is None,
    reason="needs griffe, of the extra docs",
)
def test_examples_of_docstrings_become_code():
  spec = importlib.util.spec_from_file_location(
      "docstrings", _PAGES / "docstrings.py"
  )
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  text = "Adds.\n\nExample:\n  >>> 1 + 1\n  2\n\nGuarantee: It is exact."
  assert module.shown(text) == (
      "Adds.\n\nExample:\n  ```pycon\n  >>> 1 + 1\n  2\n  ```\n\n"
      "**Guarantee:** It is exact."
  )
