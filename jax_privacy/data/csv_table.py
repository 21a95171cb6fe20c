r"""Reads columns of an untrusted CSV file, gzipped or not, row by row.

Invariant: every mistake is a ValueError that names the file, the line and the
rule; memory in use is bounded by what is kept of the rows, and these by the
size of the file. A row is one line: a line break inside quotes is refused.

>>> import pathlib, tempfile
>>> folder = tempfile.TemporaryDirectory()
>>> path = pathlib.Path(folder.name) / "ages.csv"
>>> _ = path.write_text('name,age\n"Doe, J",41\n')
>>> read_rows(path, columns=("age", "name"), parse=lambda *row: row)
[('41', 'Doe, J')]
>>> folder.cleanup()
"""

import csv
import gzip
import io
import os
import pathlib
import zlib
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

from jax_privacy.data import bounded

_MAX_LINE = 2**16
_MAX_ROWS = 2**21

T = TypeVar("T")


def read_rows(
    path: str | os.PathLike,
    *,
    columns: Sequence[str],
    parse: Callable[..., T],
    key: Callable[[T], Hashable] | None = None,
) -> list[T]:
  """Reads some columns of every row.

  Args:
    path: The file; gzipped if its name ends in ".gz".
    columns: Names in the header, which may have others.
    parse: Gets the texts of these columns, in this order, and returns what is
      kept of the row; what it refuses is a ValueError.
    key: Function of what is kept of a row; no two rows may have the same key.
      None for no such rule.

  Returns:
    What `parse` returned, in the order of the file.

  Raises:
    ValueError: If the file cannot be read, lacks a column, has more than 2^21
      rows, lines of more than 64 KiB or rows of other lengths than its header,
      expands beyond the limit of `bounded.check_expansion`, or a row is
      refused.
  """
  if not bounded.is_regular(path):
    raise ValueError(f"{path} must be a CSV file, got no regular file.")
  found, line = [], 1
  try:
    with _open(path) as stream:
      # What some programs put before the header is no part of it.
      header = _read_fields(stream, encoding="utf-8-sig") or []
      places = _places(header, columns)
      add = _adder(found, key)
      line += 1
      while (fields := _read_fields(stream)) is not None:
        bounded.check_expansion(stream.tell(), path, what="the file")
        if len(fields) != len(header):
          wanted = f"as many fields as the header, {len(header)}"
          raise ValueError(f"it must have {wanted}, got {len(fields)}")
        add(parse(*[fields[place] for place in places]))
        line += 1
  except (ValueError, csv.Error, EOFError, OSError, zlib.error) as error:
    reason = bounded.short(error)
    raise ValueError(f"{path}, line {line}: {reason}.") from error
  return found


def find(folder: pathlib.Path, name: str) -> pathlib.Path:
  """Returns the path of `name`, or of `name`.gz where only that is there.

  Args:
    folder: Folder to look in.
    name: The file's name, not gzipped.

  Returns:
    A path, which need not exist.
  """
  gzipped = folder / f"{name}.gz"
  is_plain = (folder / name).exists() or not gzipped.exists()
  return folder / name if is_plain else gzipped


def _open(path: str | os.PathLike) -> io.BufferedIOBase:
  is_gzipped = str(path).endswith(".gz")
  return gzip.open(path) if is_gzipped else open(path, "rb")


def _read_fields(
    stream: io.BufferedIOBase, encoding: str = "utf-8"
) -> list[str] | None:
  """Returns the fields of the next line, or None at the end."""
  content = stream.readline(_MAX_LINE + 1)
  if not content:
    return None
  if len(content) > _MAX_LINE:
    raise ValueError(f"it must have at most {_MAX_LINE} bytes, got more")
  text = content.decode(encoding).rstrip("\r\n")
  return next(csv.reader([text], strict=True))


def _places(header: list[str], columns: Sequence[str]) -> list[int]:
  for name in columns:
    if header.count(name) != 1:
      shown = ", ".join(header) or "nothing"
      raise ValueError(f"the header must hold {name!r} once, got {shown}")
  return [header.index(name) for name in columns]


def _adder(found: list[T], key: Callable[[T], Hashable] | None):
  """Returns a function that adds a row, if it may be there."""
  keys = set()

  def add(row):
    if len(found) == _MAX_ROWS:
      raise ValueError(f"there must be at most {_MAX_ROWS} rows, got more")
    found.append(row)
    if key is None:
      return
    keys.add(key(row))
    if len(keys) != len(found):
      raise ValueError(f"{key(row)!r} must be there once, got it twice")

  return add
