"""Nothing outside of tasks knows what an example is made of.

Read off the syntax trees of the other folders: no file reads an array of a
batch by name, or what the sources of one task alone have.
"""

import ast

import pytest

from tests.support import launch

_FOLDERS = ("plan", "run", "evaluation", "audits", "release")
# What image sources have, and other sources need not.
_OF_IMAGES = {
    *("image_shape", "image_dtype", "label_names", "num_classes"),
    "is_multi_label",
}
_LEAVES = {"image", "label", "images", "labels"}


def _faults(source: str) -> list[str]:
  faults = []
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Attribute) and node.attr in _OF_IMAGES:
      faults.append(f"line {node.lineno} reads {node.attr}")
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
      if node.slice.value in _LEAVES:
        faults.append(f"line {node.lineno} reads {node.slice.value!r}")
    if isinstance(node, ast.Constant) and node.value in _OF_IMAGES:
      faults.append(f"line {node.lineno} names {node.value!r}")
  return faults


def _files():
  folder = launch.ROOT / "experiments"
  yield from sorted(folder.glob("*.py"))
  for name in _FOLDERS:
    yield from sorted((folder / name).rglob("*.py"))


@pytest.mark.parametrize(
    "path", list(_files()), ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_examples_are_opaque(path):
  assert not _faults(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "planted",
    [
        "grads = grad_fn(params, batch['image'], keys)",
        "def size(source):\n  return source.image_shape",
        "names = getattr(source, 'label_names', ())",
    ],
)
def test_a_file_that_looks_into_an_example_is_caught(planted):
  assert _faults(planted)


def test_what_is_looked_for_is_there():
  folder = launch.ROOT / "experiments" / "tasks" / "images"
  text = (folder / "image_task.py").read_text(encoding="utf-8")
  assert len(_faults(text)) > 5
