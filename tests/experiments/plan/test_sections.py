"""Only `experiment.build` sees the whole config; others take their sections.

Read off the syntax trees of experiments/plan and experiments/tasks: nothing but
`build` reads a section from anything, whatever that is called, or takes a
`config`. `fields.py` checks every field and builds nothing.
"""

import ast

import ml_collections
import pytest

from configs import common
from tests.support import launch

_FOLDER = launch.ROOT / "experiments" / "plan"
_TASKS = launch.ROOT / "experiments" / "tasks"
_SECTIONS = {
    name
    for name, value in common.base().items()
    if isinstance(value, ml_collections.ConfigDict)
}
# What is read of these is no section: the section "mesh" has a field that is
# called as another section, and so may a class.
_OTHERS = {("mesh_config", "data"), ("self", None), ("cls", None)}
_FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def _takes_config(node) -> bool:
  found = node.args
  every = [*found.posonlyargs, *found.args, *found.kwonlyargs]
  every += [found.vararg, found.kwarg]
  return "config" in {arg.arg for arg in every if arg}


def _section_read(node) -> str | None:
  """Returns the section that an expression reads of something, or None."""
  what = None
  if isinstance(node, ast.Attribute):
    what = node.attr
  elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
    what = node.slice.value
  if what not in _SECTIONS:
    return None
  whose = getattr(node.value, "id", "")
  return None if {(whose, what), (whose, None)} & _OTHERS else what


def _faults(source: str, *, may_build: bool = False) -> list[str]:
  faults = []
  for statement in ast.parse(source).body:
    if may_build and getattr(statement, "name", None) == "build":
      continue
    for node in ast.walk(statement):
      if isinstance(node, _FUNCTIONS) and _takes_config(node):
        faults.append(f"line {node.lineno} takes a whole config")
      if section := _section_read(node):
        faults.append(f"line {node.lineno} reads the section {section}")
  return faults


@pytest.mark.parametrize(
    "path",
    sorted(
        {*_FOLDER.glob("*.py"), *_TASKS.rglob("*.py")} - {_FOLDER / "fields.py"}
    ),
    ids=lambda path: path.stem,
)
def test_a_builder_takes_its_sections(path):
  source = path.read_text(encoding="utf-8")
  assert not _faults(source, may_build=path == _FOLDER / "experiment.py")


def test_what_is_looked_for_is_there():
  assert _SECTIONS >= {"data", "model", "augment", "loss", "dp", "train"}
  whole = (_FOLDER / "experiment.py").read_text(encoding="utf-8")
  assert _faults(whole)  # That of `build`, which may.


@pytest.mark.parametrize(
    "planted",
    [
        "def build_loss(config, model):\n  return config.loss.name",
        "def build_loss(config):\n  return _over_views(config)",
        "def build_loss(whole):\n  return whole.loss.name",
        "def build_loss(whole):\n  return whole['loss']['name']",
        "def build_loss(*, loss_config):\n  return loss_config.train.num_steps",
        "def build(loss_config):\n  return lambda c: c.dp.epsilon",
        "def build(x):\n  def inner():\n    return x.augment\n  return inner",
        "class Loss:\n  def build(self, given):\n    return given.eval",
        "class Loss:\n  def build(self):\n    return self.config.dp.epsilon",
        "def build(whole):\n  renamed = whole\n  return renamed.dp.epsilon",
        "def build(experiment):\n  return experiment.config.dp.epsilon",
        "def make_mesh(other):\n  return other.data",
    ],
)
def test_a_builder_that_reads_another_section_is_caught(planted):
  assert _faults(planted)
