"""docs/recipes.md: its commands and examples do what it says."""

import ast
import doctest
import importlib
import re
import shlex

import ml_collections
import optax
import pytest
from absl import flags
from ml_collections import config_flags

from experiments.plan import experiment as experiment_lib
from experiments.plan import schedules
from tests.support import launch

_PAGE = (launch.ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
_COMMANDS = re.findall(r"```\n(python -m experiments.train.*?)```", _PAGE, re.S)
_EXAMPLES = re.findall(r"```python\n(>>> .*?)```", _PAGE, re.S)
_MODULES = ("averages", "fields", "schedules", "trainable")


@pytest.mark.parametrize("command", _COMMANDS)
def test_a_command_s_flags_build_a_run(command):
  words = shlex.split(command.replace("\\\n", " "))
  values = flags.FlagValues()
  config = config_flags.DEFINE_config_file(
      "config", flag_values=values, sys_argv=words[2:]
  )
  for name in ("workdir", "continue_from"):
    flags.DEFINE_string(name, None, "", flag_values=values)
  assert not values(words[2:])[1:]  # Nothing is left over.
  for flag in words:
    if flag.startswith("--config."):
      name, value = flag.removeprefix("--config.").split("=", 1)
      given = config.value
      for key in name.split("."):
        given = given[key]
      if isinstance(given, ml_collections.ConfigDict):
        given = given.to_dict()
      is_text = isinstance(given, str)
      assert given == (value if is_text else ast.literal_eval(value))
  experiment_lib.build(config.value)


@pytest.mark.parametrize("text", _EXAMPLES)
def test_an_example_gives_what_it_says(text):
  example = doctest.DocTestParser().get_doctest(text, {}, "page", None, 0)
  assert doctest.DocTestRunner().run(example).failed == 0


@pytest.mark.parametrize("name", _MODULES)
def test_a_module_s_example_gives_what_it_says(name):
  module = importlib.import_module(f"experiments.plan.{name}")
  result = doctest.testmod(module)
  assert result.attempted and not result.failed


def test_there_is_something_to_test():
  assert len(_COMMANDS) >= 3 and _EXAMPLES


def test_the_table_of_schedules_is_whole():
  rows = re.findall(r"^\| `(\w+)` \|", _PAGE, flags=re.M)
  names = [name for name in schedules.names() if "warmup" not in name]
  assert set(names) <= set(rows)


def test_the_weight_decays_of_optax_are_as_stated():
  for name, value in (("adamw", 1e-4), ("lion", 1e-3)):
    default = getattr(optax, name).__kwdefaults__ or {}
    defaults = getattr(optax, name).__defaults__ or ()
    assert value in (*default.values(), *defaults)
