"""Public docstrings are complete, and prose keeps to plain words.

Read off the syntax trees. A function is public if no part of its dotted name
begins with "_"; so is a class, and its methods.
"""

import ast
import io
import pathlib
import re
import tokenize

import pytest

_ROOT = pathlib.Path(__file__).parents[1]
_PACKAGES = ("jax_privacy", "accounting", "experiments", "configs")
# Sections of a docstring, at the indent of its text.
_SECTION = re.compile(
    r"^(Args|Returns|Yields|Raises|Attributes|Guarantee|Source|Example|"
    r"Examples|Note|Invariant|Warning|Fields):",
    re.M,
)
_ENTRY = re.compile(r"^  (\*{0,2}\w+): (.*)$", re.M)
# A noun says what an argument is; these say whose it is, or point elsewhere.
_NO_NOUN = re.compile(
    r"(Of|As|See|In|Is|Likewise|Given|Asked|Has|At|From|For|To|By|On|With|Where"
    r"|What|Which|How|Called)\b"
)
# Words that slow a reader down, or say less than they seem to.
_BANNED = re.compile(
    r"\b(told|stands?|beside|likewise|so\s+many|that\s+of|had)\b", re.I
)


def _sections(text: str) -> dict[str, str]:
  """Returns the text of each section of a docstring, by its title."""
  starts = [(m[1], m.start(), m.end()) for m in _SECTION.finditer(text)]
  ends = [start for _, start, _ in starts][1:] + [len(text)] * bool(starts)
  return {
      title: text[begin:end]
      for (title, _, begin), end in zip(starts, ends, strict=True)
  }


def _own(node):
  """Yields what a function does itself, without what it only defines."""
  for child in ast.iter_child_nodes(node):
    if isinstance(child, ast.FunctionDef | ast.Lambda | ast.ClassDef):
      continue
    yield child
    yield from _own(child)


def _raises(node) -> bool:
  for child in _own(node):
    if isinstance(child, ast.Raise) and child.exc is not None:
      return True
    if isinstance(child, ast.Call):
      called = child.func
      if (
          isinstance(called, ast.Attribute)
          and getattr(called.value, "id", "") == "_validate"
          and called.attr not in ("shown", "as_float")  # These never raise.
      ):
        return True
  return False


def _arguments(node) -> list[str]:
  found = node.args
  names = [*found.posonlyargs, *found.args, *found.kwonlyargs]
  if found.vararg:
    names.append(found.vararg)
  if found.kwarg:
    names.append(found.kwarg)
  return [
      arg.arg
      for arg in names
      if arg.arg not in ("self", "cls") and arg.arg[0] != "_"
  ]


def _decorators(node) -> set[str]:
  return {ast.unparse(each).split("(")[0] for each in node.decorator_list}


def _returns_value(node) -> bool:
  if node.returns is None:
    return any(
        isinstance(child, ast.Return) and child.value is not None
        for child in _own(node)
    )
  return ast.unparse(node.returns) not in (
      "None",
      "NoReturn",
      "typing.NoReturn",
  )


def _function_faults(node, name: str) -> list[str]:
  text = ast.get_docstring(node) or ""
  if not text:
    return [f"{name}: no docstring"]
  if text.startswith(("See base class", "See `")):
    return []  # What it overrides has them.
  sections = _sections(text)
  entries = dict(_ENTRY.findall(sections.get("Args", "")))
  entries = {key.lstrip("*"): value for key, value in entries.items()}
  faults = []
  for argument in _arguments(node):
    if argument not in entries:
      faults.append(f"{name}: Args lacks {argument}")
  for entry in entries.keys() - set(_arguments(node)):
    faults.append(f"{name}: Args has {entry}, which is no argument")
  faults += _entry_faults(name, entries)
  first = text.split()[0]
  is_property = any("property" in each for each in _decorators(node))
  if (
      _returns_value(node)
      and not is_property
      and first not in ("Returns", "Yields", "Whether")
      and not sections.keys() & {"Returns", "Yields"}
  ):
    faults.append(f"{name}: no Returns")
  if _raises(node) and "Raises" not in sections:
    faults.append(f"{name}: no Raises")
  return faults


def _entry_faults(name: str, entries: dict[str, str]) -> list[str]:
  return [
      f"{name}: {key} must start with a noun, got {value!r}"
      for key, value in entries.items()
      if not (value[:1].isupper() or value[:1] in "`") or _NO_NOUN.match(value)
  ]


def _class_faults(node, name: str) -> list[str]:
  text = ast.get_docstring(node) or ""
  if not text:
    return [f"{name}: no docstring"]
  sections = _sections(text)
  faults = []
  for title in ("Args", "Attributes"):
    entries = dict(_ENTRY.findall(sections.get(title, "")))
    faults += _entry_faults(name, entries)
  init = next(
      (n for n in node.body if getattr(n, "name", "") == "__init__"), None
  )
  if init is not None:
    entries = dict(_ENTRY.findall(sections.get("Args", "")))
    entries = {key.lstrip("*"): value for key, value in entries.items()}
    own = ast.get_docstring(init) or ""
    entries |= dict(_ENTRY.findall(_sections(own).get("Args", "")))
    faults += [
        f"{name}: Args lacks {argument}"
        for argument in _arguments(init)
        if argument not in entries
    ]
    if _raises(init) and "Raises" not in sections:
      faults.append(f"{name}: no Raises")
  elif _fields(node):
    said = sections.get("Attributes", "") + sections.get("Args", "")
    said += sections.get("Fields", "")
    entries = dict(_ENTRY.findall(said))
    faults += [
        f"{name}: Attributes lacks {field}"
        for field in _fields(node)
        if field not in entries
    ]
  return faults


def _fields(node) -> list[str]:
  """Returns the fields of a dataclass, a NamedTuple or a TypedDict."""
  bases = {ast.unparse(base) for base in node.bases}
  is_record = bool(bases & {"NamedTuple", "TypedDict", "Protocol"}) or any(
      "dataclass" in each for each in _decorators(node)
  )
  if not is_record:
    return []
  return [
      child.target.id
      for child in node.body
      if isinstance(child, ast.AnnAssign)
      and isinstance(child.target, ast.Name)
      and not child.target.id.startswith("_")
  ]


def _faults(body, prefix: str, in_class: bool = False) -> list[str]:
  faults = []
  for node in body:
    name = getattr(node, "name", "_")
    if name.startswith("_"):
      continue
    if isinstance(node, ast.FunctionDef):
      if any(
          "overload" in each or ".setter" in each for each in _decorators(node)
      ):
        continue
      faults += _function_faults(node, f"{prefix}.{name}")
    elif isinstance(node, ast.ClassDef):
      faults += _class_faults(node, f"{prefix}.{name}")
      faults += _faults(node.body, f"{prefix}.{name}", True)
  return faults


def _public_files():
  for package in _PACKAGES:
    for path in sorted((_ROOT / package).rglob("*.py")):
      parts = path.relative_to(_ROOT).with_suffix("").parts
      if not any(part.startswith("_") for part in parts):
        yield path


def _id(path: pathlib.Path) -> str:
  return path.relative_to(_ROOT).as_posix()


@pytest.mark.parametrize("path", list(_public_files()), ids=_id)
def test_docstrings_are_complete(path):
  tree = ast.parse(path.read_text(encoding="utf-8"))
  assert not _faults(tree.body, path.stem)


@pytest.mark.parametrize(
    "source, fault",
    [
        ("def f(x):\n  return x", "no docstring"),
        ('def f(x):\n  """Doubles.\n\n  Returns:\n    2x.\n  """', "lacks x"),
        (
            'def f(x):\n  """Returns it.\n\n  Args:\n    x: Of it.\n  """',
            "start with a noun",
        ),
        (
            'def f():\n  """Returns it.\n\n  Args:\n    y: B.\n  """',
            "y, which is no argument",
        ),
        ('def f() -> int:\n  """Counts."""\n  return 1', "no Returns"),
        ('def f():\n  """Fails."""\n  raise ValueError', "no Raises"),
        ('def f():\n  """Fails."""\n  _validate.fail("x")', "no Raises"),
        (
            'class A(NamedTuple):\n  """One.\n\n  """\n  x: int',
            "Attributes lacks x",
        ),
        (
            'class A:\n  """One."""\n  def __init__(self, x):\n    self.x = x',
            "Args lacks x",
        ),
        ('class A:\n  """One."""\n  def f(self, x):\n    """F."""', "lacks x"),
    ],
)
def test_a_fault_is_named(source, fault):
  found = _faults(ast.parse(source).body, "module")
  assert len(found) == 1 and fault in found[0]


_STRINGS = {"COMMENT", "STRING", "FSTRING_MIDDLE"}  # The last from 3.12 on.


def _prose(text: str, suffix: str):
  """Yields (line, text) of comments and strings, or of a whole page."""
  if suffix == ".md":
    yield 1, text
    return
  for token in tokenize.generate_tokens(io.StringIO(text).readline):
    if tokenize.tok_name[token.type] in _STRINGS:
      prose = token.string
      if re.match("[rR]?[fF]", prose):  # Until 3.12 a token holds its values.
        prose = re.sub(r"\{[^{}]*\}", "", prose)
      yield token.start[0], prose


def _banned(text: str, suffix: str) -> list[str]:
  return [
      f"line {line + prose[: found.start()].count(chr(10))}: {found[0]!r}"
      for line, prose in _prose(text, suffix)
      for found in _BANNED.finditer(prose)
  ]


def _pages():
  for folder in ("jax_privacy", "accounting", "experiments", "configs"):
    yield from sorted((_ROOT / folder).rglob("*.py"))
  yield from sorted((_ROOT / "docs").glob("*.md"))
  yield _ROOT / "README.md"
  yield _ROOT / "CONTRIBUTING.md"


@pytest.mark.parametrize("path", list(_pages()), ids=_id)
def test_prose_is_plain(path):
  assert not _banned(path.read_text(encoding="utf-8"), path.suffix)


@pytest.mark.parametrize(
    "source, word",
    [
        ("x = 1  # What it stands for.", "line 1: 'stands'"),
        ('def f():\n  """Is told\n  so\n  many."""', "line 2: 'told'"),
        ('"""One.\n\nOf so\nmany."""', "line 3: 'so\\nmany'"),
        ('raise ValueError(f"x beside {y}")', "line 1: 'beside'"),
    ],
)
def test_a_banned_word_is_found(source, word):
  assert _banned(source, ".py")[0] == word


def test_a_variable_may_have_any_name():
  assert not _banned("told = stands_for = 1", ".py")
  assert not _banned('text = f"twin: {beside.name}"', ".py")
