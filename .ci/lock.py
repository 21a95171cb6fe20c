#!/usr/bin/env python3
"""Writes requirements.lock: the newest versions that pyproject.toml allows.

Each Python takes other versions (3.11 stops at JAX 0.10), so an environment is
made with every interpreter that is given, and a version that differs between
them gets a marker.

  .ci/lock.py python3.11 python3.12 python3.13
"""

import pathlib
import subprocess
import sys
import tempfile

_ROOT = pathlib.Path(__file__).parents[1]


def _run(*command):
  return subprocess.run(
      command, check=True, text=True, stdout=subprocess.PIPE, cwd=_ROOT
  ).stdout


def freeze(python):
  """Returns an interpreter's version, and what pip gives it: name -> pin."""
  version = "import sys; print('%d.%d' % sys.version_info[:2])"
  version = _run(python, "-c", version).strip()
  with tempfile.TemporaryDirectory() as folder:
    _run(python, "-m", "venv", folder)
    pip = [f"{folder}/bin/python", "-m", "pip", "--quiet"]
    _run(*pip, "install", "--editable", ".[test,docs]")
    lines = _run(*pip, "freeze", "--all", "--exclude-editable").splitlines()
  pins = dict(line.split("==") for line in lines if "==" in line)
  pins.pop("pip", None)
  return version, pins


def merge(pins_of):
  """Returns the lines of the lock, given pins for each version of Python."""
  lines = []
  for name in sorted(set().union(*pins_of.values()), key=str.lower):
    have = {v: pins[name] for v, pins in pins_of.items() if name in pins}
    if len(set(have.values())) == 1:
      lines.append(f"{name}=={next(iter(have.values()))}")
      continue
    lines += [
        f'{name}=={pin} ; python_version == "{version}"'
        for version, pin in have.items()
    ]
  return lines


def main(pythons):
  """Writes the lock of these interpreters."""
  pins_of = dict(freeze(python) for python in pythons)
  text = "\n".join(merge(pins_of)) + "\n"
  (_ROOT / "requirements.lock").write_text(text, encoding="utf-8")


if __name__ == "__main__":
  main(sys.argv[1:] or [sys.executable])
