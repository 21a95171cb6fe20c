"""Public files that a config names and a run rests on, such as a schema.

Invariant: a run goes on, and is evaluated, exported and predicts, with the
contents that it was begun with, or not at all. config.json holds their digests.

>>> difference({"data.options.schema": "0"}, {"data.options.schema": "1"})
('data.options.schema', '0', '1')
>>> difference({}, {}) is None
True
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import ml_collections

from accounting import json_object
from experiments.tasks import task as task_lib

KEY = "public_files"
_SHOWN = 12


def difference(
    theirs: Mapping[str, str], ours: Mapping[str, str]
) -> tuple[str, str | None, str | None] | None:
  """Returns the first field whose digests differ, with both; None if none.

  Args:
    theirs: Digests by field of a run's folder.
    ours: Digests by field of now.
  """
  for name in sorted(theirs.keys() | ours.keys()):
    if theirs.get(name) != ours.get(name):
      return name, theirs.get(name), ours.get(name)
  return None


def check(
    stored: Mapping[str, Any], task: task_lib.Task, *, folder: Any
) -> None:
  """Refuses files that are not what a run was begun with.

  Args:
    stored: Contents of the run's config.json; one of before there were digests
      has none, and is not refused.
    task: Task that reads them now.
    folder: The run's, for the error text.

  Raises:
    ValueError: If a file has changed or cannot be read; the text names it.
  """
  if KEY not in stored:
    return
  theirs = stored[KEY]
  if not isinstance(theirs, Mapping):
    raise ValueError(f"{KEY} must be digests by field, got {theirs!r:.100}.")
  try:
    ours = task.public_files()
  except (ValueError, OSError):  # Its advice is for a run that begins.
    ours = {}
  if (differs := difference(theirs, ours)) is None:
    return
  name, wanted, found = differs
  raise ValueError(
      f"{name} must be the file that the run in {folder} was begun with"
      f" ({_path(stored, name)}, sha256 of its content {_short(wanted)}), got"
      f" {_found(found)}: restore that file, or train anew in another folder."
  )


def check_continued(
    model_config: ml_collections.ConfigDict, task: task_lib.Task
) -> None:
  """Refuses files that are not those of a run that is continued.

  Args:
    model_config: A config's section; see `restore.same_data`.
    task: Task that reads them now.

  Raises:
    ValueError: As `check` does.
  """
  restore = model_config.restore
  if not restore.same_data or restore.path is None:
    return
  file = pathlib.Path(restore.path) / "config.json"
  if file.is_file():  # What else there must be is checked when it is read.
    stored = json_object.read(file, what=str(file))
    check(stored, task, folder=restore.path)


def _found(digest: str | None) -> str:
  if digest is None:
    return "none that can be read"
  return f"another ({_short(digest)})"


def _short(digest: str | None) -> str:
  return "none" if digest is None else f"{digest!s:.{_SHOWN}}..."


def _path(stored: Any, name: str) -> Any:
  for key in name.split("."):
    if not isinstance(stored, Mapping) or key not in stored:
      return "no path"
    stored = stored[key]
  return stored
