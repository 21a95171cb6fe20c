"""Every example in a docstring runs, and gives what it says."""

import doctest
import importlib
import pathlib
import pkgutil

import pytest

import accounting
import configs
import jax_privacy

_PACKAGES = (accounting, configs, jax_privacy)


def _modules():
  for package in _PACKAGES:
    yield package.__name__
    prefix = package.__name__ + "."
    for info in pkgutil.walk_packages(package.__path__, prefix):
      yield info.name


@pytest.mark.parametrize("name", sorted(set(_modules())))
def test_doctests(name):
  module = importlib.import_module(name)
  assert module.__doc__, "a module opens with its purpose"
  result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
  assert result.failed == 0


def test_files_stay_readable():
  root = pathlib.Path(__file__).parents[1]
  folders = ("accounting", "jax_privacy", "experiments", "configs")
  for folder in (*folders, "tests", "benchmarks", "examples"):
    for path in (root / folder).rglob("*.py"):
      lines = path.read_text(encoding="utf-8").count("\n")
      assert lines <= 400, f"{path.name} has {lines} lines"
