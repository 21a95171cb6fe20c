"""What comments and docstrings cite is there: files, pages and tests.

Who reads `see test_kill.py` looks for it; a file that was moved, a page that is
not in the repository, or a test of another name sends them away empty-handed.
"""

import ast
import functools
import re

import pytest

from tests.support import launch

_FOLDERS = (
    "accounting", "benchmarks", "configs", "examples", "experiments",
    "jax_privacy", "tests",
)  # fmt: skip
_FILES = [p for f in _FOLDERS for p in sorted((launch.ROOT / f).rglob("*.py"))]
_PAGES = sorted((launch.ROOT / "docs").glob("*.md"))
# Of other projects, each named with its project; and what stands for a name.
_ELSEWHERE = {
    "decoder.py", "file.py", "image_data/chexpert.py",
    "image_data/mimic_cxr.py", "nfnets/pretrained.py",
}  # fmt: skip
_FILE = re.compile(r"(?<![\w/.])[\w./-]*[a-z0-9_]\.(?:py|md)\b")
_TEST = re.compile(r"(?<![\w.])test_\w+\b(?!\.py)")
_COMMENT = re.compile(r"(?:^|\s)#\s(.*)$", re.MULTILINE)
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)


@functools.cache
def _prose(path):
  """The comments and docstrings of a program."""
  text = path.read_text("utf-8")
  documented = (
      ast.get_docstring(node, clean=False) or ""
      for node in _statements(ast.parse(text))
      if isinstance(node, _DOCUMENTED)
  )
  return [*documented, *_COMMENT.findall(text)]


def _statements(node):
  """The node and the statements in it, which expressions have none of."""
  yield node
  for field in ("body", "orelse", "finalbody"):
    for inner in getattr(node, field, ()):
      yield from _statements(inner)


def _missing_files(prose, known):
  """Cited files that are not in the repository; a page goes by its path."""
  for name in _FILE.findall(prose):
    there = name in known
    if name.endswith(".py"):
      there = name in _ELSEWHERE or name in _ends(known)
    if not there:
      yield name


@functools.cache
def _ends(known):
  """The paths, and all that they end in."""
  parts = [path.split("/") for path in known]
  return {"/".join(p[i:]) for p in parts for i in range(len(p))}


def _missing_tests(prose, known):
  return (name for name in _TEST.findall(prose) if name not in known)


@functools.cache
def _known_files():
  pages = [*_PAGES, *launch.ROOT.glob("*.md")]
  return frozenset(
      p.relative_to(launch.ROOT).as_posix() for p in (*_FILES, *pages)
  )


@functools.cache
def _known_tests():
  names = {p.stem for p in _FILES}
  for path in _FILES:
    # In the product, the fields of this name that pages tell of too.
    is_test = path.name.startswith("test_")
    pattern = r"def (test_\w+)\(" if is_test else r"\btest_\w+"
    names |= set(re.findall(pattern, path.read_text("utf-8")))
  return names


def test_files_that_programs_cite_are_there():
  known, missing = _known_files(), []
  for path in _FILES:
    for prose in _prose(path):
      missing += [(path.name, x) for x in _missing_files(prose, known)]
  assert not missing


def test_tests_that_are_cited_are_there():
  known, missing = _known_tests(), []
  for path in _FILES:
    if path.name.startswith("test_"):
      for prose in _prose(path):
        missing += [(path.name, x) for x in _missing_tests(prose, known)]
  for path in _PAGES:
    quoted = re.findall(r"`([^`\n]+)`", path.read_text("utf-8"))
    missing += [
        (path.name, x) for text in quoted for x in _missing_tests(text, known)
    ]
  assert not missing


@pytest.mark.parametrize(
    "prose", ["see test_killed.py", "recipes.md, [V]", "as in run/test_mech.py"]
)
def test_a_file_that_is_not_there_is_seen(prose):
  assert list(_missing_files(prose, _known_files()))
  assert not list(
      _missing_files("run/test_mesh.py, docs/data.md", _known_files())
  )


def test_a_test_that_is_not_there_is_seen():
  assert list(_missing_tests("as test_of_nothing has it", _known_tests()))
