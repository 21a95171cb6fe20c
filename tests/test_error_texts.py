"""An error says which name breaks which rule, and what it is.

"<name> must be <rule>, got <value>. <remedy>": read off the syntax trees. What
`_validate.fail` raises has the form by itself.
"""

import ast
import pathlib
import re

import pytest

_ROOT = pathlib.Path(__file__).parents[1]
_ERRORS = ("ValueError", "TypeError", "WorkdirError", "CheckpointError")
_ERRORS += ("ImageError", "ExampleError")
# An error that begins with another's text, or with a rule that has a name.
_QUOTES = re.compile(r"(--)?\{\}(.*\{\}| [A-Z]|.*, got )")
# What is stated in two places, and differs: both are shown.
_TWO = re.compile(r"must .*(: summary.json states|stated )")
# The verdict of an audit; no argument is wrong.
_OWN = ("NO STATEMENT:",)


def _text(node) -> str | None:
  """A literal with {} for what is filled in, or None."""
  if isinstance(node, ast.Constant) and isinstance(node.value, str):
    return node.value
  if isinstance(node, ast.JoinedStr):
    return "".join(
        v.value if isinstance(v, ast.Constant) else "{}" for v in node.values
    )
  return None


def _raised(source: str):
  """Yields (line, text) of errors with a literal text that ends a sentence."""
  for node in ast.walk(ast.parse(source)):
    if not isinstance(node, ast.Raise) or not isinstance(node.exc, ast.Call):
      continue
    name = ast.unparse(node.exc.func).split(".")[-1]
    if name in _ERRORS and node.exc.args:
      text = _text(node.exc.args[0])
      if text and text.endswith("."):  # Others are quoted by one that does.
        yield node.lineno, text


def _is_well_formed(text: str) -> bool:
  if re.search(r"must .*\bgot\b", text) or text.startswith(_OWN):
    return True
  # The reader's own reason is the value: "must be valid TOML: {}."
  if re.search(r"must .*: (\w+ \w+: )?\{\}\.", text) or _TWO.search(text):
    return True
  return bool(_QUOTES.match(text)) and "must" not in text


def _files():
  for folder in ("accounting", "jax_privacy", "experiments", "configs"):
    yield from sorted((_ROOT / folder).rglob("*.py"))


def test_errors_have_the_one_form():
  faults, count = [], 0
  for path in _files():
    for line, text in _raised(path.read_text("utf-8")):
      count += 1
      if not _is_well_formed(text):
        faults.append(f"{path.relative_to(_ROOT)}:{line}: {text}")
  assert not faults, "\n".join(faults)
  assert count > 300


@pytest.mark.parametrize(
    "text",
    ["Bad value.", "give x.", "x must be positive.", "x is no option of y."],
)
def test_another_form_is_found(text):
  ((_, found),) = _raised(f"raise ValueError({text!r})")
  assert not _is_well_formed(found)
