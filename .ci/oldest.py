#!/usr/bin/env python3
"""Prints, as constraints for pip, the oldest versions of pyproject.toml.

pip install --constraint <(.ci/oldest.py) --editable ".[test]"
"""

import pathlib
import re
import tomllib

_PROJECT = pathlib.Path(__file__).parents[1] / "pyproject.toml"
# A name with a lower bound; "package[extra]" asks for no version.
_BOUND = re.compile(r"([\w.-]+)>=([\w.]+)[^;]*(;.*)?")


def bounds():
  """Returns (name, oldest version, marker or "") of each bounded package."""
  project = tomllib.loads(_PROJECT.read_text("utf-8"))["project"]
  lists = [project["dependencies"], *project["optional-dependencies"].values()]
  found = (_BOUND.fullmatch(text) for one in lists for text in one)
  return {(m[1], m[2], m[3] or "") for m in found if m}


def main():
  """Prints one line for each package that pyproject.toml bounds from below."""
  for name, version, marker in sorted(bounds()):
    print(f"{name}=={version} {marker}".strip())


if __name__ == "__main__":
  main()
