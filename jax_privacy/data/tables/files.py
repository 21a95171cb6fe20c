r"""Reads columns of an untrusted CSV or Parquet file, some rows at a time.

Invariant: memory in use is bounded by a block of rows, and what is read by the
size of the file: never by a number that the file claims. Text is text: nothing
in a cell is run, and a formula is a category like any other.

>>> import pathlib, tempfile
>>> folder = tempfile.TemporaryDirectory()
>>> path = pathlib.Path(folder.name) / "ages.csv"
>>> _ = path.write_text('name,age\n"Doe, J",41\n"=1+1",\n')
>>> (block,) = read_file(path, columns=("age", "name"))
>>> block["name"].values.tolist(), block["age"].values.tolist()
(['Doe, J', '=1+1'], ['41', ''])
>>> folder.cleanup()
"""

import codecs
import contextlib
import csv
import gzip
import io
import os
import zlib
from collections.abc import Generator, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from jax_privacy import _extras
from jax_privacy.data import bounded
from jax_privacy.data.tables import cells as cells_lib
from jax_privacy.data.tables import schema as schema_lib

_MAX_HEADER = 2**20
_MAX_LINE = 2**20
_ROWS = 2**16  # Of Parquet, at a time.
_BYTES_A_CELL = 4  # At least, once it is read.
_MAX_ROW_GROUPS = 2**16
# What pyarrow says of a row that is longer than a block.
_STRADDLES = "straddling object"
_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}

Block: TypeAlias = dict[str, cells_lib.Cells]
"""Some rows: cells by column."""


def read_file(
    path: str | os.PathLike, *, columns: Sequence[str], exact: bool = False
) -> Iterator[Block]:
  """Yields the rows of some columns, in blocks, in the order of the file.

  Args:
    path: A file whose name ends in .csv, .csv.gz or .parquet.
    columns: Names of columns that the file must have.
    exact: Whether numbers keep their type, as ids must.

  Raises:
    ImportError: If pyarrow is not installed.
    ValueError: If the file is another, lacks a column, or is damaged.
  """
  name = _checked(path)
  with _extras.needed("tables"):
    import pyarrow
  with _one_error(name, pyarrow.ArrowException):
    if name.endswith(".parquet"):
      yield from _read_parquet(name, columns, exact)
    else:  # All of it is text.
      yield from _read_csv(name, columns)


def column_names(path: str | os.PathLike) -> tuple[str, ...]:
  """Returns the names of a file's columns, in its order.

  Args:
    path: A file, as for `read_file`.

  Raises:
    ImportError: If pyarrow is not installed.
    ValueError: If the file cannot be read.
  """
  name = _checked(path)
  with _extras.needed("tables"):
    import pyarrow
  with _one_error(name, pyarrow.ArrowException):
    if name.endswith(".parquet"):
      with _parquet(name) as file:
        return tuple(file.schema_arrow.names)
    with _open(name) as stream:
      return tuple(_header(stream))


def _checked(path: str | os.PathLike) -> str:
  """Returns the path as text, if it can be a table's."""
  name = str(path)
  if not name.endswith((".csv", ".csv.gz", ".parquet")):
    raise ValueError(
        "the path of a table must end in .csv, .csv.gz or .parquet, got"
        f" {bounded.short(name)}."
    )
  if not bounded.is_regular(path):
    raise ValueError(f"{path} must be a table, got no regular file.")
  return name


@contextlib.contextmanager
def _one_error(
    path: str, *others: type[Exception]
) -> Generator[None, None, None]:
  """Makes any error of reading one ValueError that names the file."""
  try:
    yield
  except (ValueError, csv.Error, EOFError, OSError, zlib.error) as error:
    if str(error).startswith(path):
      raise
    if _STRADDLES in str(error):
      rule = f"a row must have at most {_MAX_LINE} bytes, got more"
      raise ValueError(f"{path}: {rule}.") from None
    # An error of pyarrow's may show a row.
    is_ours = type(error) in (ValueError, csv.Error)
    private = "" if is_ours else f" ({bounded.PRIVATE})"
    raise ValueError(f"{path}: {bounded.short(error)}{private}.") from None
  except others as error:
    shown = f"{bounded.short(error)} ({bounded.PRIVATE})"
    raise ValueError(f"{path}: {shown}.") from None


class _Checked(io.RawIOBase):
  """A stream of text that refuses NUL, and what expands beyond any table."""

  def __init__(self, stream: io.BufferedIOBase, path: str):
    self._stream, self._path, self._total = stream, path, 0
    self._decoder = codecs.getincrementaldecoder("utf-8")()

  def readable(self) -> bool:
    return True

  def close(self) -> None:
    self._stream.close()
    super().close()

  def readinto(self, buffer) -> int:
    content = self._stream.read(len(buffer))
    self._total += len(content)
    bounded.check_expansion(self._total, self._path, what="the file")
    # Here, and not by pyarrow, which skips some rows that it cannot decode.
    try:
      text = self._decoder.decode(content, final=not content)
    except UnicodeDecodeError:
      text = "\0"
    if "\0" in text:
      raise ValueError("the file must be text in UTF-8 without NUL, got other")
    buffer[: len(content)] = content
    return len(content)


def _open(path: str) -> io.BufferedReader:
  opened = gzip.open(path) if path.endswith(".gz") else open(path, "rb")
  return io.BufferedReader(_Checked(opened, path))


def _header(stream: io.BufferedReader) -> list[str]:
  """Reads the first line."""
  line = stream.readline(_MAX_HEADER + 1)
  if len(line) > _MAX_HEADER:
    raise ValueError(f"the header must have at most {_MAX_HEADER} bytes")
  if line.count(b",") >= schema_lib.MAX_COLUMNS:
    most = schema_lib.MAX_COLUMNS
    raise ValueError(f"a table must have at most {most} columns, got more")
  # What some programs put before the header is no part of it.
  text = line.decode("utf-8-sig").rstrip("\r\n")
  if not text:
    raise ValueError("the file must begin with a header line, got none")
  if "\r" in text:
    raise ValueError("lines must end in LF or CR LF, got CR alone")
  try:
    return next(csv.reader([text], strict=True))
  except csv.Error:
    raise ValueError(
        "the header must be one line, with each quote closed, got another"
    ) from None


def _check_columns(found: Sequence[str], columns: Sequence[str]) -> None:
  for name in columns:
    if found.count(name) != 1:
      shown = bounded.short(", ".join(found)) or "nothing"
      raise ValueError(
          f"column {bounded.short(repr(name))} must be in the file once, got"
          f" {shown}{_spelling_hint(name, found)}{_delimiter_hint(found)}"
      )


def _spelling_hint(name: str, found: Sequence[str]) -> str:
  """Says of a name that is there but for spaces or case that these count."""
  alike = [x for x in found if x.strip().casefold() == name.strip().casefold()]
  if name in found or not alike:
    return ""
  shown = bounded.short(repr(alike[0]))
  return f": spaces and capitals count, and {shown} is another"


def _delimiter_hint(found: Sequence[str]) -> str:
  """Says of a file with one column what may separate its columns."""
  if len(found) != 1:
    return ""
  used = [name for mark, name in _DELIMITERS.items() if mark in found[0]]
  if not used:
    return ""
  return (
      f": the header has no comma, and {used[0]}. Columns must be separated by"
      " commas: save the file so"
  )


def _read_csv(path: str, columns: Sequence[str]) -> Iterator[Block]:
  import pyarrow as pa
  from pyarrow import csv as pa_csv

  with _open(path) as stream:
    header = _header(stream)
    _check_columns(header, columns)
    # By place: names of columns that are not read need not differ.
    places = {name: str(header.index(name)) for name in columns}
    wrong = []

    def refuse(row):
      wrong.append((row.actual_columns, row.number))
      return "skip"

    reader = pa_csv.open_csv(
        _with_line_end(stream),
        read_options=pa_csv.ReadOptions(
            use_threads=False,
            block_size=_MAX_LINE,
            column_names=[str(i) for i in range(len(header))],
        ),
        parse_options=pa_csv.ParseOptions(
            invalid_row_handler=refuse,
            # A row of one column may be empty: it is no blank line.
            ignore_empty_lines=len(header) > 1,
        ),
        convert_options=pa_csv.ConvertOptions(
            include_columns=list(places.values()),
            column_types={place: pa.string() for place in places.values()},
        ),
    )
    row = 1
    for batch in reader:
      if wrong:
        break
      yield _block(batch, places, row)
      row += batch.num_rows
    if wrong:
      count, number = wrong[0]
      raise ValueError(
          "a row must have as many fields as the header,"
          f" {len(header)}, got {count} in row {number}"
          f" ({bounded.PRIVATE})"
      )


def _with_line_end(stream: io.BufferedReader) -> io.BufferedReader:
  """What is left of the stream, which must not be empty for pyarrow."""
  if not stream.peek(1):
    raise ValueError("the file must hold a row below its header, got none")
  return stream


@contextlib.contextmanager
def _parquet(path: str, dictionaries: Sequence[str] | None = None):
  from pyarrow import parquet

  with parquet.ParquetFile(
      path,
      read_dictionary=list(dictionaries or ()),
      thrift_string_size_limit=2**26,
      thrift_container_size_limit=4 * schema_lib.MAX_COLUMNS,
  ) as file:
    if file.metadata.num_columns > schema_lib.MAX_COLUMNS:
      raise ValueError(
          f"a table must have at most {schema_lib.MAX_COLUMNS} columns, got"
          f" {file.metadata.num_columns}"
      )
    yield file


def _read_parquet(
    path: str, columns: Sequence[str], exact: bool
) -> Iterator[Block]:
  import pyarrow as pa

  with _parquet(path) as file:
    names, types = file.schema_arrow.names, file.schema_arrow.types
    _check_columns(names, columns)
    _check_sizes(file.metadata, path, len(columns))
    texts = []
    for name in columns:
      of_name = types[names.index(name)]
      if pa.types.is_nested(of_name):
        raise ValueError(
            f"column {name!r} must be of numbers, dates or text, got {of_name}"
        )
      if pa.types.is_string(of_name) or pa.types.is_large_string(of_name):
        texts.append(name)
  # A text is kept once, however many rows a small file repeats it in.
  with _parquet(path, texts) as file:
    row = 1
    for batch in file.iter_batches(batch_size=_ROWS, columns=list(columns)):
      bounded.check_expansion(
          (row + batch.num_rows) * len(columns) * _BYTES_A_CELL,
          path,
          what="the file",
      )
      yield _block(batch, {name: name for name in columns}, row, exact)
      row += batch.num_rows
    if row == 1:
      raise ValueError("the file must hold a row, got none")


def _check_sizes(metadata: Any, path: str, num_columns: int) -> None:
  """Refuses a file that says that it expands beyond any table."""
  if metadata.num_row_groups > _MAX_ROW_GROUPS:
    raise ValueError(f"it must have at most {_MAX_ROW_GROUPS} row groups")
  sizes = [metadata.num_rows * num_columns * _BYTES_A_CELL]
  sizes += [
      metadata.row_group(i).total_byte_size
      for i in range(metadata.num_row_groups)
  ]
  bounded.check_expansion(max(sizes), path, what="the file")


def _block(
    batch: Any, places: dict[str, str], first_row: int, exact: bool = False
) -> Block:
  return {
      name: _cells(batch.column(place), name, first_row, exact)
      for name, place in places.items()
  }


def _cells(
    array: Any, name: str, first_row: int, exact: bool
) -> cells_lib.Cells:
  """Returns the cells of one of pyarrow's arrays."""
  import pyarrow as pa

  kind = array.type
  if pa.types.is_string(kind) or pa.types.is_large_string(kind):
    array = array.dictionary_encode()
  if pa.types.is_dictionary(array.type):
    places = array.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    values = np.empty(len(array.dictionary), object)
    values[:] = array.dictionary.to_pylist()
    return cells_lib.Cells(values, places.astype(np.int64), first_row)
  if pa.types.is_duration(kind) or pa.types.is_interval(kind):
    raise ValueError(
        f"column {name!r} must be of numbers, dates or text, got {kind}"
    )
  try:
    if pa.types.is_temporal(kind) and not pa.types.is_time(kind):
      array = array.cast(pa.date32())
    elif pa.types.is_decimal(kind):
      array = array.cast(pa.string() if exact else pa.float64())
    found = array.to_numpy(zero_copy_only=False)
    return cells_lib.from_array(found, first_row=first_row, exact=exact)
  except (pa.ArrowException, ValueError) as error:
    raise ValueError(f"column {name!r}: {bounded.short(error)}") from None
