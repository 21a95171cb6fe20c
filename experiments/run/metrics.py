r"""Reads metrics.jsonl, which a kill may have cut short.

The invariant: every line that is returned has a step and the seconds of
training so far; the last line may be half a line, and is then left, and any
other fault is a ValueError that names the line.

>>> import tempfile
>>> folder = tempfile.TemporaryDirectory()
>>> path = pathlib.Path(folder.name) / "metrics.jsonl"
>>> _ = path.write_text('{"step": 1, "train_seconds": 0.5}\n{"step": 2, "tr')
>>> read(path)
[{'step': 1, 'train_seconds': 0.5}]
>>> folder.cleanup()
"""

import pathlib
from typing import Any

from accounting import json_object

# A real one is 200 bytes.
_MAX_LINE = 10_000


def read(path: pathlib.Path) -> list[dict[str, Any]]:
  """Returns the lines of metrics.jsonl.

  Args:
    path: The file.

  Returns:
    One dict a line, in order; each has "step" and "train_seconds".

  Raises:
    ValueError: If it is no regular file, or a line before the last is no such
      object.
    OSError: If it cannot be read.
  """
  if not path.is_file():
    raise ValueError(f"{path} must be a regular file, got another kind.")
  metrics = []
  with path.open("rb") as file:
    number = 0
    while line := file.readline(_MAX_LINE):
      number += 1
      try:
        metrics.append(_parse(line, what=f"line {number} of {path}"))
      except ValueError:
        if len(line) == _MAX_LINE or file.read(1):  # Not the last.
          raise
  return metrics


def _parse(line: bytes, *, what: str) -> dict[str, Any]:
  metrics = json_object.parse(
      line, what=what, finite=False
  )  # A loss may be NaN.
  for key, kinds in (("step", int), ("train_seconds", int | float)):
    value = metrics.get(key)
    if not isinstance(value, kinds) or isinstance(value, bool):
      raise ValueError(f"{what} must have a number as {key!r}, got none.")
  return metrics
