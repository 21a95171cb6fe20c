"""Reads from a stream no more than is there, whatever a header promises.

Invariant: memory in use is bounded by the bytes that the stream really gives,
and these by the size of the file: never by a number read from it.

>>> import io
>>> read_exactly(io.BytesIO(b"abcd"), 3, what="x")
b'abc'
>>> read_exactly(io.BytesIO(b"abcd"), 10**15, what="x")
Traceback (most recent call last):
...
ValueError: x must hold 1000000000000000 more bytes, got 4.
"""

import os
import pathlib
from typing import Protocol

from jax_privacy._validate import PRIVATE as PRIVATE

_CHUNK = 1 << 20
# Deflate shrinks zeros 1000 times and images some 2 to 10 times.
_MOST_EXPANSION = 100
_ALWAYS_ALLOWED = 1 << 26
_MAX_SHOWN = 200


def is_regular(path: str | os.PathLike) -> bool:
  """Tells whether there is a regular file: opening a pipe waits for ever.

  Args:
    path: Path that should be a file's, or a link's to one.

  Returns:
    Whether it is.
  """
  # A number would be an open file's.
  is_path = isinstance(path, str | os.PathLike)
  return is_path and pathlib.Path(path).is_file()


def check_expansion(
    num_bytes: int, path: str | os.PathLike, *, what: str
) -> None:
  """Refuses a compressed file that expands beyond any set of images.

  Args:
    num_bytes: Size that the file states for its content, in bytes.
    path: The compressed file.
    what: The file, or its part, for the error text.

  Raises:
    ValueError: If that is more than 64 MiB and more than 100 times the size of
      the file.
  """
  most = max(_ALWAYS_ALLOWED, _MOST_EXPANSION * os.stat(path).st_size)
  if num_bytes > most:
    raise ValueError(
        f"{what} must expand to at most {most} bytes (64 MiB, or"
        f" {_MOST_EXPANSION} times the file), got {num_bytes}: store it"
        " uncompressed if that is right."
    )


class Readable(Protocol):
  """A stream of bytes: a file, a member of an archive, or bytes in memory."""

  def read(self, size: int, /) -> bytes:
    """Returns at most `size` bytes; none at the end.

    Args:
      size: Number of bytes.
    """
    ...


def read_exactly(stream: Readable, num_bytes: int, *, what: str) -> bytes:
  """Reads a number of bytes that comes from an untrusted header.

  Args:
    stream: Stream to read from.
    num_bytes: Number of bytes that must follow.
    what: The file, for the error text.

  Returns:
    The bytes.

  Raises:
    ValueError: If the stream ends before.
  """
  parts = []
  missing = num_bytes
  while missing:
    part = stream.read(min(missing, _CHUNK))
    if not part:
      raise ValueError(
          f"{what} must hold {num_bytes} more bytes, got"
          f" {num_bytes - missing}."
      )
    parts.append(part)
    missing -= len(part)
  return b"".join(parts)


def expect_end(stream: Readable, *, what: str) -> None:
  """Refuses a stream that goes on where its header says that it ends.

  Args:
    stream: Stream to read from.
    what: The file, for the error text.

  Raises:
    ValueError: If there is another byte.
  """
  if stream.read(1):
    raise ValueError(f"{what} must end where its header says, got more bytes.")


def short(text: object) -> str:
  """Returns what a file says, for an error: on one line, cut where it is long.

  Args:
    text: An error of another library, or a text from the file.

  Returns:
    The text without a full stop at its end.
  """
  line = " ".join(str(text).split()).rstrip(".")
  return line if len(line) <= _MAX_SHOWN else f"{line[:_MAX_SHOWN]}..."
