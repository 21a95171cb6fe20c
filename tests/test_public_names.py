"""`dir()` of a package is its table of contents; all in it is there."""

import ast
import importlib
import pathlib
import subprocess
import sys
import tomllib
import types

import pytest

from tests.support import launch

_PACKAGES = sorted(
    ".".join(path.parent.relative_to(launch.ROOT).parts)
    for top in ("accounting", "jax_privacy")
    for path in (launch.ROOT / top).rglob("__init__.py")
)


@pytest.mark.parametrize("name", _PACKAGES)
def test_dir_is_the_table_of_contents(name):
  package = importlib.import_module(name)
  public = [n for n in dir(package) if not n.startswith("_")]
  assert sorted(public) == sorted(package.__all__)
  for attribute in package.__all__:
    assert not attribute.startswith("_")
    found = getattr(package, attribute)
    module = getattr(found, "__module__", None) or getattr(
        found, "__name__", name
    )
    # Nothing that another project defines, such as `np`; types have aliases.
    ours = ("accounting", "jax_privacy", "typing", "builtins")
    assert module.split(".")[0] in ours


@pytest.mark.parametrize("name", _PACKAGES)
def test_no_name_hides_a_module(name):
  package = importlib.import_module(name)
  folder = pathlib.Path(package.__file__).parent
  for path in folder.iterdir():
    if path.suffix == ".py" or (path / "__init__.py").exists():
      found = vars(package).get(path.stem)
      assert found is None or isinstance(found, types.ModuleType), path


def test_a_file_and_what_the_package_exports_of_it_differ_in_name():
  for name in _PACKAGES:
    package = importlib.import_module(name)
    for path in pathlib.Path(package.__file__).parent.glob("*.py"):
      tree = ast.parse(path.read_text(encoding="utf-8"))
      defined = {getattr(node, "name", None) for node in tree.body}
      assert path.stem not in defined & set(package.__all__)


def test_submodules_come_when_they_are_asked_for():
  program = (
      "import sys, jax_privacy, accounting;"
      "assert 'jax_privacy.testing' not in sys.modules;"
      "jax_privacy.testing.check_private, jax_privacy.auditing.gdp;"
      "accounting.budget.main;"
      "assert 'jax_privacy.models' not in sys.modules"
  )
  subprocess.run([sys.executable, "-c", program], check=True, cwd=launch.ROOT)


@pytest.mark.parametrize("name", ["accounting", "jax_privacy"])
def test_what_is_not_there_is_an_attribute_error(name):
  with pytest.raises(AttributeError, match=f"'{name}' has no attribute 'x'"):
    _ = importlib.import_module(name).x


def test_the_version_is_one():
  text = (launch.ROOT / "pyproject.toml").read_text("utf-8")
  version = tomllib.loads(text)["project"]["version"]
  for name in ("accounting", "jax_privacy"):
    assert importlib.import_module(name).__version__ == version
  citation = (launch.ROOT / "CITATION.cff").read_text("utf-8")
  assert f"version: {version}\n" in citation


@pytest.mark.parametrize("top", ["accounting", "experiments", "jax_privacy"])
def test_no_file_has_the_name_of_what_it_exports(top):
  for path in (launch.ROOT / top).rglob("*.py"):
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
      assert getattr(node, "name", None) != path.stem, path
