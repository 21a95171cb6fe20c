"""A Python that has JAX and what JAX needs, and nothing of this project."""

import pathlib
import subprocess
import sys
import sysconfig

import pytest

_NEEDED = ("jax", "jaxlib", "numpy", "numpy.libs", "ml_dtypes", "opt_einsum")
_NEEDED += ("scipy", "scipy.libs", "flatbuffers")
_HEAD = """
import sys
sys.path.append("site")
import numpy as np
"""
_TAIL = """
for name in ("jax_privacy", "experiments", "flax", "accounting"):
  try:
    __import__(name)
  except ImportError:
    continue
  sys.exit(f"{name} was in reach")
"""


def run(folder, code):
  """Runs code in a folder, and returns what it printed.

  Its Python has a folder of links to JAX and what that needs, and no more:
  neither the checkout, nor what is installed (-I and -S).
  """
  flatbuffers = pytest.importorskip("flatbuffers")
  alone = folder / "site"
  alone.mkdir()
  homes = [pathlib.Path(sysconfig.get_path("purelib"))]
  homes += [pathlib.Path(flatbuffers.__file__).parents[1]]
  for home in homes:
    for name in _NEEDED:
      if (home / name).exists() and not (alone / name).exists():
        (alone / name).symlink_to(home / name)
  process = subprocess.run(
      [sys.executable, "-I", "-S", "-c", _HEAD + code + _TAIL],
      capture_output=True,
      text=True,
      cwd=folder,
  )
  assert process.returncode == 0, process.stderr
  return process.stdout
