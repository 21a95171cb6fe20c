"""The lock, the oldest versions, and what `make test-portable` sets."""

import importlib.util
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

from packaging import requirements

_ROOT = pathlib.Path(__file__).parents[1]


def _load(name):
  path = _ROOT / ".ci" / f"{name}.py"
  spec = importlib.util.spec_from_file_location(name, path)
  module = importlib.util.module_from_spec(spec)
  sys.modules[name] = module  # Dataclasses look their module up.
  spec.loader.exec_module(module)
  return module


def _bounds():
  text = (_ROOT / "pyproject.toml").read_text(encoding="utf-8")
  project = tomllib.loads(text)["project"]
  lists = [project["dependencies"], *project["optional-dependencies"].values()]
  all_of_them = [requirements.Requirement(x) for one in lists for x in one]
  return [
      (x.name, s.version)
      for x in all_of_them
      for s in x.specifier
      if s.operator == ">=" and not x.extras
  ]


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_lock_has_one_version_for_each_python(python):
  text = (_ROOT / "requirements.lock").read_text(encoding="utf-8")
  lines = [requirements.Requirement(line) for line in text.splitlines()]
  there = {"python_version": python}
  names = [
      x.name.lower().replace("_", "-")
      for x in lines
      if not x.marker or x.marker.evaluate(there)
  ]
  assert len(names) == len(set(names))
  optional = {"tensorflow", "importlib-resources"}  # To prepare data alone.
  assert {n.replace("_", "-") for n, _ in _bounds()} - optional <= set(names)


def test_versions_that_differ_get_a_marker():
  merge = _load("lock").merge
  pins = {"3.11": {"a": "1", "b": "2"}, "3.12": {"a": "1", "b": "3"}}
  assert merge(pins) == [
      "a==1",
      'b==2 ; python_version == "3.11"',
      'b==3 ; python_version == "3.12"',
  ]


def test_the_oldest_versions_are_those_of_the_project():
  script = [sys.executable, str(_ROOT / ".ci" / "oldest.py")]
  done = subprocess.run(script, check=True, capture_output=True, text=True)
  lines = [requirements.Requirement(x) for x in done.stdout.splitlines()]
  assert {(x.name, str(x.specifier)[2:]) for x in lines} == set(_bounds())
  of_numpy = [str(x.marker) for x in lines if x.name == "numpy"]
  assert of_numpy == ['python_version < "3.13"', 'python_version >= "3.13"']


def test_a_run_is_held_to_older_instructions(monkeypatch):
  portable = _load("portable")
  monkeypatch.setenv("OPENBLAS_CORETYPE", "Zen")
  monkeypatch.setenv("XLA_FLAGS", "--xla_a=1")
  old = portable.Configuration("3.11", isa="SSE4_2")
  env, left_out = portable.variables(sys.executable, old)
  assert env["XLA_FLAGS"] == "--xla_a=1 --xla_cpu_max_isa=SSE4_2"
  assert "OPENBLAS_CORETYPE" not in env and not left_out
  wide = portable.Configuration("3.11", blas="SkylakeX")
  env, left_out = portable.variables(sys.executable, wide)
  # Set, or said not to be.
  assert (env.get("OPENBLAS_CORETYPE") == "SkylakeX") != bool(left_out)


def test_an_unknown_configuration_is_refused(capsys):
  assert _load("portable").main(["sse5"]) == 2
  assert "got sse5." in capsys.readouterr().err


def test_the_hosted_workflows_run_every_configuration():
  paths = (_ROOT / ".github" / "workflows").glob("*.yml")
  text = "".join(path.read_text(encoding="utf-8") for path in paths)
  rows = re.findall(r'python: "([\d.]+)", configuration: (\w+)', text)
  configurations = _load("portable")._CONFIGURATIONS
  versions = {name: c.python for name, c in configurations.items()}
  assert {name: version for version, name in rows} == versions
