#!/usr/bin/env python3
"""Prints, as constraints for pip, the oldest versions that setup.py allows.

pip install --constraint <(.ci/oldest.py) --editable ".[test]"
"""

import pathlib
import re

_SETUP = pathlib.Path(__file__).parents[1] / "setup.py"


def main():
  """Prints one line for each package that setup.py bounds from below."""
  # Names in quotes with a lower bound; "package[extra]" asks for no version.
  pattern = r'"([\w.-]+)>=([\w.]+)[^";]*(;[^"]*)?"'
  bounds = re.findall(pattern, _SETUP.read_text("utf-8"))
  for name, version, marker in sorted(set(bounds)):
    print(f"{name}=={version} {marker}".strip())


if __name__ == "__main__":
  main()
