"""Writes a new file: whole or not at all, and its owner's alone.

Invariant: nothing that is there is ever replaced, however late it came, and a
name that is there has all of its content. What a model predicts may be as
private as its inputs, so the mode is 0600 whatever the umask.

>>> import pathlib, tempfile
>>> folder = tempfile.TemporaryDirectory()
>>> path = pathlib.Path(folder.name) / "new" / "file"
>>> with new_file(path) as file:
...   _ = file.write(b"all of it")
>>> path.read_bytes(), oct(path.stat().st_mode)
(b'all of it', '0o100600')
>>> check_new(path, name="output")
Traceback (most recent call last):
ValueError: output must be a new file, got ..., which is there.
>>> folder.cleanup()
"""

import contextlib
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from jax_privacy import _owner_only


def check_new(
    path: str | os.PathLike, *, name: str, suffixes: Sequence[str] = ()
) -> pathlib.Path:
  """Returns the path of a file that may be written.

  Args:
    path: The path.
    name: Name of the file, for the error text.
    suffixes: Those that it may have; any if empty.

  Raises:
    ValueError: If it is there, or has another suffix.
  """
  found = pathlib.Path(path)
  if suffixes and found.suffix not in suffixes:
    raise ValueError(
        f"{name} must end in {' or '.join(suffixes)}, got {found.name!r:.100}."
    )
  if found.exists() or found.is_symlink():
    raise ValueError(f"{name} must be a new file, got {found}, which is there.")
  return found


@contextlib.contextmanager
def new_file(
    path: pathlib.Path, *, is_durable: bool = True
) -> Iterator[BinaryIO]:
  """Opens a file that appears under its name once all was written.

  Args:
    path: The file; folders above it that are missing are made.
    is_durable: Whether it must outlast a fault of power; one of many files that
      can be made again need not.

  Yields:
    A binary file to write to.

  Raises:
    ValueError: If there is a file of that name in the end.
    OSError: If it cannot be written; nothing is left of it then.
  """
  _owner_only.make_folder(path.parent)
  # Of this process alone, so that two that write at once do not mix.
  partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
  descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
  try:
    with open(descriptor, "wb") as file:
      os.fchmod(descriptor, 0o600)
      yield file
      file.flush()
      if is_durable:
        os.fsync(descriptor)
    try:
      os.link(partial, path)  # Unlike a rename, it replaces nothing.
    except FileExistsError:
      raise ValueError(
          f"output must be a new file, got {path}, which came meanwhile."
      ) from None
  finally:
    partial.unlink(missing_ok=True)
