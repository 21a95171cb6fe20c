"""The wheel holds two packages and nothing else at its top level."""

import shutil
import subprocess
import sys
import zipfile

import launch
import pytest

_INPUTS = (
    "setup.py", "pyproject.toml", "README.md", "LICENSE",
    "accounting", "jax_privacy", "experiments", "configs",
)  # fmt: skip


@pytest.fixture(scope="module")
def names(tmp_path_factory):
  # From a copy: a build leaves files behind that the next one would pick up.
  tree, out = (tmp_path_factory.mktemp(name) for name in ("tree", "out"))
  for name in _INPUTS:
    path = launch.ROOT / name
    copy = shutil.copytree if path.is_dir() else shutil.copy
    copy(path, tree / name)
  subprocess.run(
      [sys.executable, "-m", "build", "--wheel", "--no-isolation"]
      + ["--outdir", str(out), str(tree)],
      check=True,
      capture_output=True,
  )
  (wheel,) = out.glob("*.whl")
  return zipfile.ZipFile(wheel).namelist()


def test_top_level(names):
  tops = {name.split("/")[0] for name in names}
  (info,) = {top for top in tops if top.endswith(".dist-info")}
  assert info.startswith("jax_privacy_toolkit-")
  assert tops - {info} == {"accounting", "jax_privacy"}


def test_every_module_is_in_it(names):
  # A package that setup.py's explicit list forgets would be missing.
  for package in ("accounting", "jax_privacy"):
    for path in (launch.ROOT / package).rglob("*.py"):
      assert str(path.relative_to(launch.ROOT)) in names
