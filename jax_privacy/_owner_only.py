"""Keeps files to the user who owns them: modes 0600 and 0700.

The invariant: whatever the umask, only the owner can read and write what this
module creates.

Example:
  >>> import pathlib, tempfile
  >>> from jax_privacy import _owner_only
  >>> folder = pathlib.Path(tempfile.mkdtemp()) / "a" / "b"
  >>> _owner_only.make_folder(folder)
  >>> with _owner_only.open_text(folder / "file", "w") as file:
  ...   _ = file.write("secret")
  >>> [f"{path.stat().st_mode & 0o777:o}" for path in (folder, folder / "file")]
  ['700', '600']
"""

import contextlib
import os
import pathlib
import stat
from typing import IO

UMASK = 0o077
_FOLDER = 0o700
_FILE = 0o600


def make_folder(path: pathlib.Path) -> None:
  """Makes a folder, and those above it that are missing.

  One that is there stays as it is; see `restrict`.

  Args:
    path: The folder.

  Raises:
    OSError: If it cannot be made, or is a file.
  """
  if path.is_dir():
    return
  make_folder(path.parent)
  path.mkdir(exist_ok=True)
  path.chmod(_FOLDER)  # A umask may have taken bits of the owner, too.


def open_text(path: pathlib.Path, mode: str) -> IO[str]:
  """Opens a UTF-8 file for "w" or "a"; it is the owner's alone from then on."""

  def opener(name, flags):
    descriptor = os.open(name, flags, _FILE)
    with contextlib.suppress(PermissionError):  # Of another owner.
      os.fchmod(descriptor, _FILE)
    return descriptor

  return open(path, mode, encoding="utf-8", opener=opener)


def restrict(path: str | os.PathLike[str]) -> None:
  """Takes a folder, and all that is in it, away from everybody but its owner.

  What belongs to somebody else stays as it is, and so does what a link points
  to from inside. What vanishes meanwhile is left out.

  Args:
    path: The folder.
  """
  _set_mode(path, _FOLDER)  # First: it may have been closed to its owner.
  entries = []
  with contextlib.suppress(FileNotFoundError, PermissionError):
    with os.scandir(path) as found:
      entries = list(found)
  for entry in entries:
    if entry.is_dir(follow_symlinks=False):
      restrict(entry.path)
    elif entry.is_file(follow_symlinks=False):
      _set_mode(entry.path, _FILE)


def _set_mode(path: str | os.PathLike[str], mode: int) -> None:
  with contextlib.suppress(FileNotFoundError, PermissionError):
    if stat.S_IMODE(os.stat(path).st_mode) != mode:
      os.chmod(path, mode)


def others_may_read(path: pathlib.Path) -> str | None:
  """Returns why somebody else can read a folder, or None if nobody can."""
  found = path.stat()
  if found.st_uid != os.geteuid():
    return f"belongs to user {found.st_uid}, not to you, user {os.geteuid()}"
  if found.st_mode & UMASK:
    return f"stays open to others (mode {stat.S_IMODE(found.st_mode):o})"
  return None
