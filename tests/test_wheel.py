"""What the two wheels hold, and what they ask for."""

import email
import shutil
import subprocess
import sys
import zipfile

import pytest

from packaging import requirements
from tests.support import launch

_INPUTS = (
    "setup.py", "pyproject.toml", "README.md", "LICENSE",
    "accounting", "jax_privacy", "experiments", "configs", "packaging",
)  # fmt: skip


def _build(tree, project, out):
  subprocess.run(
      [sys.executable, "-m", "build", "--wheel", "--no-isolation"]
      + ["--outdir", str(out), str(tree / project)],
      check=True,
      capture_output=True,
  )
  (wheel,) = out.glob("*.whl")
  return zipfile.ZipFile(wheel)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
  # A copy: a build leaves files behind that the next one would pick up.
  tree = tmp_path_factory.mktemp("tree")
  for name in _INPUTS:
    path = launch.ROOT / name
    copy = shutil.copytree if path.is_dir() else shutil.copy
    copy(path, tree / name)
  return tree


@pytest.fixture(scope="module")
def names(tree, tmp_path_factory):
  return _build(tree, ".", tmp_path_factory.mktemp("out")).namelist()


def test_top_level(names):
  tops = {name.split("/")[0] for name in names}
  (info,) = {top for top in tops if top.endswith(".dist-info")}
  assert info.startswith("jax_privacy_toolkit-")
  assert tops - {info} == {"accounting", "jax_privacy"}


def test_every_module_is_in_it(names):
  # A folder without __init__.py would be missing.
  assert {"accounting/py.typed", "jax_privacy/py.typed"} <= set(names)
  for package in ("accounting", "jax_privacy"):
    for path in (launch.ROOT / package).rglob("*.py"):
      assert str(path.relative_to(launch.ROOT)) in names
  pages = list((launch.ROOT / "accounting/budget/page/static").iterdir())
  assert len(pages) > 5
  assert {str(page.relative_to(launch.ROOT)) for page in pages} <= set(names)


def test_the_small_wheel_is_accounting_without_jax(tree, names, tmp_path):
  wheel = _build(tree, "packaging/dp-budget", tmp_path)
  ours = {n for n in names if n.startswith("accounting/")}
  theirs = {n for n in wheel.namelist() if ".dist-info/" not in n}
  assert theirs == ours
  (name,) = (n for n in wheel.namelist() if n.endswith("/METADATA"))
  metadata = email.message_from_bytes(wheel.read(name))
  needed = {
      requirements.Requirement(text).name
      for text in metadata.get_all("Requires-Dist")
      if "extra ==" not in text
  }
  assert needed == {"dp-accounting", "numpy", "scipy"}
  assert f"jax_privacy_toolkit-{metadata['Version']}.dist-info/WHEEL" in names
