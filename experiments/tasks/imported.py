"""Finds a user's own code, which a config names as "package.module:name".

Modules are looked for on Python's path, in the current folder, and in the
folder of the config's file, in this order. The invariant: which source files a
run was made by is one of its facts. The digest covers each module that a config
names, the packages around it, and all that these import from outside the
project's own packages, Python's library and what is installed; so a run does
not go on with code that has changed.

>>> find("loss.name", "my_losses:focal")
Traceback (most recent call last):
ValueError: loss.name must name a module that can be found, got
'my_losses:focal': there is no module my_losses in the current folder, the
config's folder or on Python's path.
"""

import ast
import contextlib
import difflib
import hashlib
import importlib
import importlib.machinery
import importlib.util
import inspect
import pathlib
import sys
import sysconfig
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

FORM = '"package.module:name"'
# Fields of a config that may name own code.
FIELDS = (
    *("model.name", "data.source", "loss.name", "augment.names"),
    *("task.name", "eval.metrics"),
)
# A name before the colon that is no module: data sets of TensorFlow Datasets.
_NOT_MODULES = ("tfds",)
_MAX_SHOWN, _MAX_ERROR = 100, 300
_PROJECT = ("accounting", "jax_privacy", "experiments", "configs")
_INSTALLED = frozenset({"site-packages", "dist-packages"})
_folders: list[str] = []
# What came along when a module was first imported, by its name.
_loaded: dict[str, frozenset[str]] = {}


def is_own(name: Any) -> bool:
  """Returns whether a value is a name of own code: it has a colon.

  >>> is_own("my_models:Net"), is_own("linear"), is_own("tfds:mnist")
  (True, False, False)

  Args:
    name: Value of a field.
  """
  if not isinstance(name, str):
    return False
  before, colon, _ = name.partition(":")
  return bool(colon) and before not in _NOT_MODULES


def check(field: str, name: str) -> None:
  """Checks the form of a name of own code, and imports nothing.

  Args:
    field: The config's field, for the message.
    name: Such as "package.module:name".

  Raises:
    ValueError: If it is of another form, or names Python's own library, which
      has nothing that a run could be made of.
  """
  module, _, attribute = name.partition(":")
  parts = [*module.split("."), *attribute.split(".")]
  if not all(map(str.isidentifier, parts)):
    _fail(field, f"of the form {FORM}", name)
  if parts[0] in sys.stdlib_module_names:
    _fail(field, "own or installed code, not Python's library", name)


def search_in(folder: pathlib.Path) -> None:
  """Looks for own code in this folder too, after all others.

  Args:
    folder: Folder on the path of imports.
  """
  if (text := str(folder.absolute())) not in _folders:
    _folders.append(text)


def find(field: str, name: str) -> Any:
  """Imports the module of a name, and returns the object.

  Args:
    field: The config's field, for the message.
    name: Such as "package.module:name".

  Returns:
    The object, of any kind.

  Raises:
    ValueError: If there is no such module or object, or the import fails. The
      text names the field, and what the import raised.
  """
  check(field, name)
  module_name, _, attribute = name.partition(":")
  found = _import(field, name, module_name)
  for part in attribute.split("."):
    names = dir(found)
    try:
      found = getattr(found, part)
    except AttributeError:
      guess = difflib.get_close_matches(part, names, n=1)
      remedy = f" Did you mean {guess[0]!r}?" if guess else ""
      where = getattr(sys.modules[module_name], "__file__", None)
      raise ValueError(
          f"{field} must name something that there is, got {_shown(name)}:"
          f" {module_name} ({where}) has no {_shown(part)}.{remedy}"
      ) from None
  return found


def resolve(
    field: str, name: str, *, takes: Sequence[str], what: str
) -> str | Callable[..., Any]:
  """Returns the function or class of own code that is named, by its kind.

  Args:
    field: The config's field, for the message.
    name: Such as "package.module:name".
    takes: Parameters that it must have by name. One that takes anything is
      refused: options of a config must not reach a function that was never
      meant for it.
    what: The kind, in words, for the message.

  Returns:
    The object; or the name as it is, where it is of no own code.

  Raises:
    ValueError: If it is not found, or of another kind.
  """
  if not is_own(name):
    return name
  found = find(field, name)
  kind = type(found).__name__
  if not callable(found):
    raise ValueError(
        f"{field} must name {what}, got {_shown(name)}, which is of type"
        f" {kind}."
    )
  try:
    # A class of Flax has the signature of its metaclass.
    function = found.__init__ if inspect.isclass(found) else found
    parameters = inspect.signature(function).parameters
  except (TypeError, ValueError):  # Written in C.
    parameters = {}
  if missing := [name for name in takes if name not in parameters]:
    raise ValueError(
        f"{field} must name {what}, got {_shown(name)}, a {kind} without the"
        f" parameter {missing[0]}."
    )
  return found


def facts(names: Iterable[str]) -> dict[str, Any] | None:
  """Returns what own code a config names, as the run's files hold it.

  Args:
    names: All that the config names; those that are not of own code are left
      out. Each was found before.

  Returns:
    None where there is no own code, or else the `names`, sorted; the `modules`,
    each with its file's SHA-256; and the `sha256` of those together. Where the
    files lie is not among it.
  """
  own = sorted(set(filter(is_own, names)))
  if not own:
    return None
  files: dict[str, pathlib.Path] = {}
  for name in own:
    _collect(name.partition(":")[0], files)
  modules = {
      module: hashlib.sha256(files[module].read_bytes()).hexdigest()
      for module in sorted(files)
  }
  text = "".join(f"{module} {digest}\n" for module, digest in modules.items())
  total = hashlib.sha256(text.encode()).hexdigest()
  return {"names": own, "modules": modules, "sha256": total}


def difference(
    theirs: Mapping[str, Any] | None, ours: Mapping[str, Any] | None
) -> str | None:
  """Says in which modules two runs' `facts` differ; None if they do not.

  >>> theirs = {"modules": {"a": "0", "b": "1"}, "sha256": "2"}
  >>> ours = {"modules": {"a": "0", "b": "3"}, "sha256": "4"}
  >>> difference(theirs, ours)
  'b: imported.sha256 2, not 4'
  >>> difference(theirs, None)
  'a, b: imported.sha256 2, not None'

  Args:
    theirs: Facts of a run's folder, or None.
    ours: Facts of now, or None.

  Returns:
    The modules' names and both digests, in one line; or None.
  """
  theirs, ours = theirs or {}, ours or {}
  mine, yours = ours.get("sha256"), theirs.get("sha256")
  if mine == yours:
    return None
  a, b = theirs.get("modules", {}), ours.get("modules", {})
  names = sorted(
      name for name in a.keys() | b.keys() if a.get(name) != b.get(name)
  )
  return f"{', '.join(names)}: imported.sha256 {yours}, not {mine}"


def _import(field: str, name: str, module_name: str) -> types.ModuleType:
  _extend_path()
  importlib.invalidate_caches()  # A file may be a moment old.
  before = frozenset(sys.modules)
  try:
    module = importlib.import_module(module_name)
  except (Exception, SystemExit) as error:
    missing = getattr(error, "name", None)
    if isinstance(error, ModuleNotFoundError) and missing in _parents(
        module_name
    ):
      raise ValueError(
          f"{field} must name a module that can be found, got {_shown(name)}:"
          f" there is no module {missing} in the current folder, the config's"
          " folder or on Python's path."
      ) from None
    raise ValueError(
        f"{field} must name a module that can be imported, got {_shown(name)}:"
        f" {_raised(error)}."
    ) from error
  _loaded.setdefault(module_name, frozenset(sys.modules) - before)
  return module


def _extend_path() -> None:
  """Adds the folders at the end: none of them can hide an installed package."""
  here = str(pathlib.Path.cwd())
  for folder in (here, *_folders):
    known = {str(pathlib.Path(p).absolute()) for p in sys.path}
    if folder not in known:
      sys.path.append(folder)


def _raised(error: BaseException) -> str:
  """Returns an error's kind, text and place, on one line."""
  text = " ".join(str(error).split())
  text = f"{type(error).__name__}: {text}"[:_MAX_ERROR].rstrip(" .:")
  if isinstance(error, SyntaxError):  # Its text names the place.
    return text
  last = error.__traceback__
  while last is not None and last.tb_next is not None:
    last = last.tb_next
  if last is None:
    return text
  file = pathlib.Path(last.tb_frame.f_code.co_filename).name
  return f"{text} ({file}, line {last.tb_lineno})"


def _collect(module_name: str, files: dict[str, pathlib.Path]) -> None:
  """Adds a named module's file, and those that it imports, to `files`."""
  waiting = list(_parents(module_name))
  waiting += sorted(_loaded.get(module_name, ()))
  named = set(_parents(module_name))
  while waiting:
    name = waiting.pop()
    if name in files or (file := _file(name)) is None:
      continue
    # What a config names counts wherever it lies.
    if name in named or _is_outside(file):
      files[name] = file
      waiting += _imports(name, file)


def _parents(module_name: str) -> tuple[str, ...]:
  """("a.b.c") to ("a", "a.b", "a.b.c")."""
  parts = module_name.split(".")
  return tuple(".".join(parts[: i + 1]) for i in range(len(parts)))


def _file(name: str) -> pathlib.Path | None:
  """Returns a module's file, and runs nothing to find it."""
  module = sys.modules.get(name)
  file = getattr(module, "__file__", None) if module else _origin(name)
  if not isinstance(file, str) or not pathlib.Path(file).is_file():
    return None
  return pathlib.Path(file)


def _origin(name: str) -> str | None:
  path = None
  spec = None
  for parent in _parents(name):
    with contextlib.suppress(ImportError, ValueError):
      spec = importlib.machinery.PathFinder.find_spec(parent, path)
    if spec is None:
      return None
    path = spec.submodule_search_locations
    if path is None and parent != name:
      return None
  return spec.origin if spec and spec.has_location else None


def _imports(name: str, file: pathlib.Path) -> Iterator[str]:
  """Yields the names of modules that a file's text imports, at any depth."""
  if file.suffix != ".py":
    return
  package = name if file.name == "__init__.py" else name.rpartition(".")[0]
  for node in ast.walk(ast.parse(file.read_bytes())):
    if isinstance(node, ast.Import):
      for alias in node.names:
        yield from _parents(alias.name)
    elif isinstance(node, ast.ImportFrom):
      relative = "." * node.level + (node.module or "")
      with contextlib.suppress(ImportError):  # Beyond the top-level package.
        base = importlib.util.resolve_name(relative, package)
        yield from _parents(base)
        yield from (f"{base}.{alias.name}" for alias in node.names)


def _is_outside(file: pathlib.Path) -> bool:
  """Returns whether a file is of no installed package and not of ours."""
  file = file.resolve()
  if _INSTALLED & set(file.parts):
    return False
  library = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))
  roots = [pathlib.Path(path).resolve() for path in library]
  for name in _PROJECT:
    module = sys.modules.get(name)
    if module is not None and module.__file__:
      roots.append(pathlib.Path(module.__file__).resolve().parent)
  return not any(file.is_relative_to(root) for root in roots)


def _fail(field: str, rule: str, name: str) -> None:
  raise ValueError(f"{field} must be {rule}, got {_shown(name)}.")


def _shown(name: str) -> str:
  return repr(name) if len(name) <= _MAX_SHOWN else f"{name[:_MAX_SHOWN]!r}..."
