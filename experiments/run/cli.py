"""How the commands parse flags and fail: one line on stderr and exit code 2.

A mistake of the user's (a flag, a config field, a file) ends with one line that
names it. Anything else is a fault of ours and keeps its traceback.

The invariant: every flag counts. One that holds a single value and is given
twice is an error, not a value that is dropped.
"""

import collections
import contextlib
import difflib
import os
import pathlib
import re
import sys
import warnings
from collections.abc import Callable, Iterable

from absl import app, flags, logging
from ml_collections import config_flags

from experiments.tasks import imported
from jax_privacy import _owner_only

# ml_collections has no way to say that a number is None.
_NONE = re.compile(r"--?config\.([\w.]+)=None")
_DID_YOU_MEAN = re.compile(r'Did you mean "([^"]+)"')
# What absl says of a flag that holds no truth value: its tuple.
_NON_BOOLEAN = re.compile(
    r"flag --(\w+)=.*: \('Non-boolean argument to boolean flag', (.*)\)"
)
_RECIPES = pathlib.Path(__file__).parents[2] / "configs"
_NOT_RECIPES = ("__init__", "common", "denoisers", "families")
_MAX_LISTED = 3
_MEMORY = "memory"


def define_config(help_string: str) -> flags.FlagHolder:
  """Defines --config, a recipe's file; one that is not there is named.

  Args:
    help_string: Text of `--help`.

  Returns:
    The flag's holder.
  """
  holder = config_flags.DEFINE_config_file(
      "config", None, help_string, flag_values=flags.FLAGS
  )
  flag = flags.FLAGS[holder.name]
  flag.parser = _RecipeParser(flag.parser)
  return holder


def define_show() -> flags.FlagHolder:
  """Defines --show, which is true, false, or "memory".

  Returns:
    The flag's holder.
  """
  text = (
      "Print all fields, and what the run would be; train nothing."
      " --show=memory compiles a step, and says how much memory it needs."
  )
  flag = flags.BooleanFlag("show", False, text)
  flag.parser = _ShowParser()
  return flags.DEFINE_flag(flag, flag_values=flags.FLAGS)


def run(main: Callable[[], None], *, rest: str | None = None) -> None:
  """Parses the flags of the command line, then calls `main`.

  What the command writes, Orbax's files too, is its user's alone.

  Args:
    main: Function that does the command's work.
    rest: Name of a flag of many values, to which arguments without a name are
      added; None for none.

  Raises:
    SystemExit: With code 2, if the flags or the config cannot be used.
  """
  os.umask(_owner_only.UMASK)
  logging.set_verbosity(logging.WARNING)
  app.define_help_flags()
  # A config file is code: parsing it can end in any of these.
  with exit_on(flags.Error, ValueError, OSError, AttributeError, KeyError):
    set_to_none = [m[1] for m in map(_NONE.fullmatch, sys.argv) if m]
    argv = [arg for arg in sys.argv if not _NONE.fullmatch(arg)]
    if rest is not None:
      flags.FLAGS.set_gnu_getopt(True)  # Flags may follow them.
    others = flags.FLAGS(argv)[1:]
    _check_given_once(f"config.{name}" for name in set_to_none)
    if rest is not None:
      flags.FLAGS[rest].value += others
    elif others:
      raise ValueError(f"arguments must be flags, --name=value, got {others}.")
    for name in set_to_none:
      _set_to_none(flags.FLAGS.config, name.split("."))
  main()


@contextlib.contextmanager
def exit_on(*errors: type[Exception]):
  """Turns errors of these types into one line and exit code 2.

  Args:
    *errors: Types of the errors.
  """
  try:
    yield
  except errors as error:
    print(f"error: {_one_line(error)}", file=sys.stderr)
    sys.exit(2)


@contextlib.contextmanager
def warnings_as_lines():
  """Prints each warning of a user's own as one line, and not as code."""
  with warnings.catch_warnings():
    warnings.simplefilter("always", UserWarning)
    warnings.showwarning = _show_warning
    yield


def _show_warning(message, category, filename, lineno, file=None, line=None):
  del category, filename, lineno, file, line
  print(f"warning: {_one_line(message)}", file=sys.stderr)


class _ShowParser(flags.BooleanParser):
  """Takes "memory" as well."""

  def parse(self, argument):
    """Returns True, False or "memory".

    Raises:
      ValueError: If it is none of them.
    """
    if argument == _MEMORY:
      return argument
    try:
      return super().parse(argument)
    except ValueError:
      rule = f"must be true, false or {_MEMORY}"
      raise ValueError(f"{rule}, got {argument!r}") from None


class _RecipeParser(flags.ArgumentParser):
  """Says of a missing file what there is, before `parser` reads it."""

  def __init__(self, parser: flags.ArgumentParser):
    self._parser = parser
    self._is_read = False

  def parse(self, path):
    """Returns the config of `FILE` or `FILE:key=value,...`.

    Raises:
      FileNotFoundError: If there is no such file.
      flags.Error: If it is not the first.
    """
    if self._is_read:
      raise flags.Error(_given("config", 2))
    self._is_read = True
    name = path.partition(":")[0]
    if not pathlib.Path(name).is_file():
      raise FileNotFoundError(
          f"config must be a recipe's file, got {name!r}, which is no file in"
          f" {pathlib.Path.cwd()}. {_suggestion(name)}"
      )
    # Before it is read: it may import files of its folder.
    imported.search_in(pathlib.Path(name).parent)
    return self._parser.parse(path)

  def flag_type(self):
    """Returns what --help calls it."""
    return self._parser.flag_type()


def _suggestion(name: str) -> str:
  recipes = {
      path.stem: str(_shortest(path))
      for path in sorted(_RECIPES.glob("*.py"))
      if path.stem not in _NOT_RECIPES
  }
  close = difflib.get_close_matches(
      pathlib.Path(name).stem, recipes, n=_MAX_LISTED
  )
  if close:
    return f"Did you mean {' or '.join(recipes[stem] for stem in close)}?"
  return f"There are {', '.join(recipes.values())}."


def _shortest(path: pathlib.Path) -> pathlib.Path:
  here = pathlib.Path.cwd()
  return path.relative_to(here) if path.is_relative_to(here) else path


def _check_given_once(set_to_none: Iterable[str]) -> None:
  """Refuses a flag of one value that was given more than once.

  Args:
    set_to_none: Names of flags that were given as None, which absl never saw.
  """
  counts = collections.Counter(set_to_none)
  for flag in {id(flag): flag for flag in _flags()}.values():
    counts[flag.name] += flag.present
    if isinstance(flag, flags.MultiFlag):
      counts[flag.name] = 0  # All its values count.
  for name, count in counts.items():
    if count > 1:
      raise ValueError(_given(name, count))


def _given(name: str, count: int) -> str:
  return (
      f"--{name} must be given once, got {count} of them: each but the last"
      " would be dropped."
  )


def _flags() -> list[flags.Flag]:
  return [flags.FLAGS[name] for name in flags.FLAGS]


def _set_to_none(config, path) -> None:
  *parents, field = path
  for name in parents:
    config = config[name]
  config[field] = None  # An unknown field is an error: the config is locked.


def _one_line(error: Exception) -> str:
  if isinstance(error, (AttributeError, KeyError)):
    return _unknown_field(error)
  lines = [" ".join(line.split()) for line in str(error).strip().splitlines()]
  if isinstance(error, flags.Error):
    # absl quotes the traceback of a config file that failed: its last line
    # says what was wrong.
    return _NON_BOOLEAN.sub(_boolean_rule, lines[-1])
  return " ".join(lines)  # The name of a file may hold a line break.


def _boolean_rule(match: re.Match) -> str:
  return f"--{match[1]} must be true or false, got {match[2]}."


def _unknown_field(error: Exception) -> str:
  """Says which field: ml_collections gives its name, and perhaps a guess."""
  text = error
  while isinstance(text, Exception):  # It wraps one error into another.
    text = text.args[0] if text.args else type(text).__name__
  first, *_ = str(text).splitlines() or [""]
  name = first.strip("\"'")
  guess = _DID_YOU_MEAN.search(str(text))
  remedy = f'. Did you mean "{guess[1]}"?' if guess else ""
  return (
      f"config must have only known fields, got an unknown one: {name}{remedy}"
  )
