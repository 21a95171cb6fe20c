r"""A file that is changed as a whole, by one process at a time.

Invariant: whenever a process is killed, the file holds what it held before or
what was to be written, never a part; and between `locked` and its end no other
process that asks for the lock writes it.

>>> import tempfile
>>> path = pathlib.Path(tempfile.mkdtemp()) / "a.toml"
>>> with locked(path):
...   replace(path, "a = 1\n")
>>> path.read_text()
'a = 1\n'
"""

import contextlib
import os
import pathlib
import stat
import time
from collections.abc import Generator

_WAIT_SECONDS = 60.0
_POLL_SECONDS = 0.02
_NEW_MODE = 0o644


class LockedError(OSError):
  """Another process holds the file."""


@contextlib.contextmanager
def locked(
    path: pathlib.Path, *, wait_seconds: float = _WAIT_SECONDS
) -> Generator[None]:
  """A context in which no other process writes the file.

  The system lets go of the lock however the process ends. The lock is a file
  of its own, NAME.lock, since the file itself is replaced.

  Args:
    path: The file; it need not exist.
    wait_seconds: Seconds to wait for another process.

  Returns:
    The context.

  Raises:
    LockedError: If another process does not end in time.
    OSError: If there is no such folder, or it cannot be written.
  """
  import fcntl  # Not on Windows, where the rest of this package works.

  # A link has the lock of its file.
  real = pathlib.Path(os.path.realpath(path))
  lock = real.with_name(f"{real.name}.lock")
  descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
  try:
    end = time.monotonic() + wait_seconds
    while True:
      try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        break
      except BlockingIOError:
        if time.monotonic() >= end:
          raise LockedError(
              f"{path.name} must be written by one process at a time, got"
              f" another that held it for {wait_seconds:g} s. Try again."
          ) from None
        time.sleep(_POLL_SECONDS)
    yield
  finally:
    os.close(descriptor)


def replace(path: pathlib.Path, text: str) -> None:
  """Writes a file whole; it is on disk on return.

  Args:
    path: The file; a symbolic link stays one.
    text: All that it shall hold.

  Raises:
    OSError: If it cannot be written; the file is then as it was.
  """
  path = pathlib.Path(os.path.realpath(path))
  partial = path.with_name(f"{path.name}.partial")
  mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else _NEW_MODE
  try:
    _write(partial, text.encode("utf-8"), mode)
    os.replace(partial, path)
  except OSError as error:
    with contextlib.suppress(OSError):
      partial.unlink()
    # A full disk is met here, and its error does not name the file.
    raise OSError(
        f"{path.name} must be written whole, got {error}. It is as it was:"
        " make room, and try again."
    ) from error
  _sync_folder(path.parent)


def _write(path: pathlib.Path, data: bytes, mode: int) -> None:
  flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
  descriptor = os.open(path, flags, mode)
  try:
    os.fchmod(descriptor, mode)  # One of an earlier, killed process stays.
    while data:
      data = data[os.write(descriptor, data) :]
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def _sync_folder(path: pathlib.Path) -> None:
  """Puts the new name on disk too."""
  descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)
