"""Reads a JSON object from a file that anyone may have written.

Invariant: whatever the file holds, the outcome is a dict or a ValueError (an
OSError where it cannot be opened) of one line that names it. Memory is bounded
by `max_bytes`; nothing waits on a pipe; nothing nests deeper than the code that
prints and compares it can follow.

>>> parse(b'{"epsilon": 1, "epsilon": 3}', what="summary.json")
Traceback (most recent call last):
ValueError: summary.json must hold each key once, got 'epsilon' twice.
"""

import json
import pathlib
from typing import Any

from accounting import _validate

# A real summary or config is 2 kB, and nests four deep.
MAX_BYTES = 1_000_000
_MAX_DEPTH = 20


def read(
    path: pathlib.Path, *, what: str, max_bytes: int = MAX_BYTES
) -> dict[str, Any]:
  """Reads a JSON object from a regular file.

  Args:
    path: The file.
    what: Its name, for the error text.
    max_bytes: The most that it may hold.

  Returns:
    The object.

  Raises:
    ValueError: If it is no regular file, too long, or `parse` refuses it.
    OSError: If it cannot be read.
  """
  if not path.is_file():  # Opening a named pipe would wait for ever.
    _validate.fail(what, "a regular file", str(path))
  with path.open("rb") as file:
    data = file.read(max_bytes + 1)
  if len(data) > max_bytes:
    raise ValueError(f"{what} must hold at most {max_bytes} bytes, got more.")
  return parse(data, what=what)


def parse(data: bytes, *, what: str, finite: bool = True) -> dict[str, Any]:
  """Parses a JSON object.

  Args:
    data: Bytes of the file, in UTF-8.
    what: Name of the file, for the error text.
    finite: Whether to refuse NaN and Infinity, which are not JSON.

  Returns:
    The object.

  Raises:
    ValueError: If it is not valid JSON, not an object, nested too deep, or an
      object in it has a key twice: then readers differ in what it says.
  """
  twice = []

  def make(pairs):
    found = dict(pairs)
    if len(found) < len(pairs):
      keys = [key for key, _ in pairs]
      twice.append(max(keys, key=keys.count))
    return found

  try:
    value = json.loads(
        data.decode("utf-8"),
        parse_constant=_no_constant if finite else None,
        object_pairs_hook=make,
    )
  except (ValueError, RecursionError) as error:
    reason = _validate.shown(str(error))[1:-1]
    raise ValueError(f"{what} must be valid JSON: {reason}.") from None
  if twice:
    key = _validate.shown(twice[0])
    raise ValueError(f"{what} must hold each key once, got {key} twice.")
  if not isinstance(value, dict):
    _validate.fail(what, "a JSON object", value)
  _check_depth(value, what, depth=1)
  return value


def _no_constant(name: str):
  raise ValueError(f"{name} is no number")


def _check_depth(value: Any, what: str, *, depth: int) -> None:
  if not isinstance(value, dict | list):
    return
  if depth > _MAX_DEPTH:
    raise ValueError(f"{what} must nest at most {_MAX_DEPTH} deep, got more.")
  for part in value.values() if isinstance(value, dict) else value:
    _check_depth(part, what, depth=depth + 1)
