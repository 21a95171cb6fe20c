"""No method leaves in an attribute what another reads later: it returns it."""

import ast
import pathlib

import pytest

import jax_privacy

_ROOT = pathlib.Path(jax_privacy.__file__).parent
_FILES = [
    *sorted((_ROOT / "ghost").rglob("*.py")),
    *(
        _ROOT / f"{name}.py"
        for name in ("batch_sum", "clipped_sum", "clipping", "per_example")
    ),
]


def _stored(source):
  """Attributes of `self` that any method but `__init__` sets."""
  found = []
  for function in ast.walk(ast.parse(source)):
    if isinstance(function, ast.FunctionDef) and function.name != "__init__":
      for node in ast.walk(function):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
          if isinstance(node.value, ast.Name) and node.value.id == "self":
            found.append(f"{function.name} sets {node.attr}")
  return found


@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.name)
def test_nothing_is_left_in_an_attribute(path):
  assert not _stored(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "line", ["self.x = 1", "aux, self.x = f()", "self.x += 1"]
)
def test_what_is_left_is_seen(line):
  source = f"class A:\n  def f(self):\n    {line}\n"
  assert _stored(source) == ["f sets x"]
  assert not _stored(source.replace("def f", "def __init__"))
