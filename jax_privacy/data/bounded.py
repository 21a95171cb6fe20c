"""Reads from a stream no more than is there, whatever a header promises.

Invariant: memory in use is bounded by the bytes that the stream really gives,
never by a number read from the file.

>>> import io
>>> read_exactly(io.BytesIO(b"abcd"), 3, what="x")
b'abc'
>>> read_exactly(io.BytesIO(b"abcd"), 10**15, what="x")
Traceback (most recent call last):
...
ValueError: x must hold 1000000000000000 more bytes, got 4.
"""

from typing import BinaryIO

_CHUNK = 1 << 20


def read_exactly(stream: BinaryIO, num_bytes: int, *, what: str) -> bytes:
  """Reads a number of bytes that comes from an untrusted header.

  Args:
    stream: where to read from.
    num_bytes: how many bytes must follow.
    what: the file, for the error text.

  Returns:
    The bytes.

  Raises:
    ValueError: if the stream ends before.
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


def expect_end(stream: BinaryIO, *, what: str) -> None:
  """Refuses a stream that goes on where its header says that it ends.

  Args:
    stream: where to read from.
    what: the file, for the error text.

  Raises:
    ValueError: if there is another byte.
  """
  if stream.read(1):
    raise ValueError(f"{what} must end where its header says, got more bytes.")
