"""How the commands parse flags and fail: one line on stderr and exit code 2.

A mistake of the user's (a flag, a config field, a file) ends with one line that
names it. Anything else is a fault of ours and keeps its traceback.
"""

import contextlib
import re
import sys
from collections.abc import Callable

from absl import app, flags, logging

# ml_collections has no way to say that a number is None.
_NONE = re.compile(r"--config\.([\w.]+)=None")


def run(main: Callable[[], None]) -> None:
  """Parses the flags of the command line, then calls `main`."""
  logging.set_verbosity(logging.WARNING)
  app.define_help_flags()
  # A config file is code: parsing it can end in any of these.
  with exit_on(flags.Error, ValueError, OSError, AttributeError, KeyError):
    set_to_none = [m[1] for m in map(_NONE.fullmatch, sys.argv) if m]
    argv = [arg for arg in sys.argv if not _NONE.fullmatch(arg)]
    rest = flags.FLAGS(argv)[1:]
    if rest:
      raise ValueError(f"arguments must be flags, --name=value, got {rest}.")
    for name in set_to_none:
      _set_to_none(flags.FLAGS.config, name.split("."))
  main()


@contextlib.contextmanager
def exit_on(*errors: type[Exception]):
  """Turns errors of these types into one line and exit code 2."""
  try:
    yield
  except errors as error:
    print(f"error: {_one_line(error)}", file=sys.stderr)
    sys.exit(2)


def _set_to_none(config, path) -> None:
  *parents, field = path
  for name in parents:
    config = config[name]
  config[field] = None  # An unknown field is an error: the config is locked.


def _one_line(error: Exception) -> str:
  if isinstance(error, (AttributeError, KeyError)):
    # ml_collections says no more than the name.
    name = str(error.args[0]).strip("\"'")
    return f"config must have only known fields, got an unknown one: {name}"
  lines = [" ".join(line.split()) for line in str(error).strip().splitlines()]
  if isinstance(error, flags.Error):
    # absl quotes the traceback of a config file that failed: its last line
    # says what was wrong.
    return lines[-1]
  return " ".join(lines)  # The name of a file may hold a line break.
