r"""Reads documents of untrusted files: text, JSON lines, Parquet, folders.

Invariant: every mistake is a ValueError that names the file and the rule; the
text is UTF-8. Memory in use is bounded by the sizes of the files.

>>> import pathlib, tempfile
>>> folder = tempfile.TemporaryDirectory()
>>> path = pathlib.Path(folder.name) / "notes.txt"
>>> _ = path.write_text("one\n\ntwo words\n")
>>> [document.text for document in read(path)]
['one', 'two words']
>>> [document.text for document in read(folder.name)]
['one\n\ntwo words\n']
>>> folder.cleanup()
"""

import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from jax_privacy import _extras, _validate
from jax_privacy.data import bounded
from jax_privacy.data import source as source_lib
from jax_privacy.data.tables import files

_MAX_LINE = 2**26
_MAX_FILES = 2**20
# What says that `datasets` saved a folder, and in which files.
_STATE = "state.json"
# Columns that a folder, or any file, has without being asked for them.
FILE, FOLDER, DOCUMENT = "file", "folder", "document"


class Document(NamedTuple):
  """One document.

  Attributes:
    text: Text that is learnt.
    context: Text before it, which is seen and not learnt; "" for none.
    cells: Values of other columns, by name.
  """

  text: str
  context: str
  cells: Mapping[str, Any]


def read(
    path: str | os.PathLike,
    *,
    text_column: str = "text",
    context_column: str = "",
    whole_files: bool = False,
    columns: Sequence[str] = (),
) -> Iterator[Document]:
  """Yields the documents of a file or a folder, in order.

  Args:
    path: A folder that Hugging Face's `datasets` saved by `save_to_disk`, which
      needs pyarrow alone; any other folder, whose files that end in .txt, at
      any depth, are a document each; or a file that ends in .txt (a document a
      line; blank lines are none), .jsonl (an object a line) or .parquet (a
      row).
    text_column: Name of the column, or key, that holds the text.
    context_column: Name of the one that holds the text before it; "" for none.
    whole_files: Whether a .txt file is one document.
    columns: Names of further columns to read. Every document has "document",
      its number; of a folder, "file" and "folder" too: the file's name, and
      the name of the folder that it is in.

  Raises:
    ImportError: If pyarrow is needed, and not installed.
    ValueError: If the path is none of these, a column is missing, or a text is
      no text.
  """
  path = source_lib.check_path(path)
  found = _read(path, text_column, context_column, whole_files, columns)
  number = -1
  for number, (text, context, cells) in enumerate(found):
    for column, value in ((text_column, text), (context_column, context)):
      if not isinstance(value, str):
        raise ValueError(
            f"{path}: column {bounded.short(repr(column))} must hold text in"
            f" every row, got {type(value).__name__} in document {number}"
            f" ({bounded.PRIVATE})."
        )
    yield Document(text, context, {DOCUMENT: number, **cells})
  if number < 0:
    raise ValueError(f"{path} must hold a document, got none.")


def _read(path, text_column, context_column, whole_files, columns):
  """Yields (text, context, cells)."""
  names = [text_column, *filter(None, [context_column])]
  names += [name for name in columns if name != DOCUMENT]
  if (path / _STATE).is_file():
    return _cells(_saved_dataset(path, names), text_column, context_column)
  if path.is_dir():
    _refuse_columns(path, context_column, columns, has=(FILE, FOLDER, DOCUMENT))
    return _folder(path)
  if not bounded.is_regular(path):
    raise ValueError(f"path must be a file or a folder of text, got {path}.")
  if path.suffix == ".txt":
    _refuse_columns(path, context_column, columns, has=(DOCUMENT,))
    return ((text, "", {}) for text in _texts(path, whole_files))
  if path.suffix == ".jsonl":
    rows = _json_lines(path, names)
  elif path.suffix == ".parquet":
    rows = _parquet(path, names)
  else:
    raise ValueError(
        f"path must end in .txt, .jsonl or .parquet, or be a folder, got {path}"
        "."
    )
  return _cells(rows, text_column, context_column)


def _cells(rows, text_column, context_column):
  return (
      (row[text_column], row[context_column] if context_column else "", row)
      for row in rows
  )


def _refuse_columns(path, context_column, columns, has) -> None:
  if context_column:
    rule = f"'' for {path}, which has no such column"
    _validate.fail("context_column", rule, context_column)
  for name in columns:
    if name not in has:
      rule = f"one of {', '.join(has)} for {path}"
      _validate.fail("column", rule, name)


def _folder(path: pathlib.Path):
  found = sorted(path.rglob("*.txt"))
  if len(found) > _MAX_FILES:
    raise ValueError(f"{path} must hold at most {_MAX_FILES} files, got more.")
  for file in found:
    if bounded.is_regular(file):
      (text,) = _texts(file, whole_file=True)
      yield text, "", {FILE: file.name, FOLDER: file.parent.name}


def _texts(path: pathlib.Path, whole_file: bool) -> Iterator[str]:
  try:
    if whole_file:
      # Not `read_text`, which would change the ends of lines.
      yield path.read_bytes().decode()
      return
    with open(path, encoding="utf-8") as file:
      for line in file:
        if text := line.rstrip("\n"):
          yield text
  except UnicodeDecodeError:
    raise ValueError(
        f"{path} must be text in UTF-8, got other bytes."
    ) from None


def _json_lines(path: pathlib.Path, names: Sequence[str]):
  with open(path, "rb") as file:
    number = 0
    while line := file.readline(_MAX_LINE + 1):
      number += 1
      if len(line) > _MAX_LINE:
        rule = f"must have at most {_MAX_LINE} bytes"
        raise ValueError(f"{path}, line {number}: it {rule}, got more.")
      if not line.strip():
        continue
      try:
        row = json.loads(line)
      except (ValueError, RecursionError):
        row = None
      if not isinstance(row, dict):
        raise ValueError(
            f"{path}, line {number}: it must be an object of JSON, got other"
            " text."
        )
      for name in names:
        if name not in row:
          raise ValueError(
              f"{path}, line {number}: it must have the key"
              f" {bounded.short(repr(name))}, got none."
          )
      yield {name: row[name] for name in names}


def _saved_dataset(path: pathlib.Path, names: Sequence[str]):
  with _extras.needed("tables"):
    import pyarrow as pa
  for file in _saved_files(path):
    try:
      with pa.memory_map(str(file)) as stream:
        reader = pa.ipc.open_stream(stream)
        for name in names:
          if reader.schema.names.count(name) != 1:
            shown = bounded.short(", ".join(reader.schema.names))
            raise ValueError(
                f"{file}: column {bounded.short(repr(name))} must be in the"
                f" file once, got {shown}."
            )
        for batch in reader:
          cells = [batch.column(name).to_pylist() for name in names]
          for row in zip(*cells, strict=True):
            yield dict(zip(names, row, strict=True))
    except pa.ArrowException as error:
      shown = f"{bounded.short(error)} ({bounded.PRIVATE})"
      raise ValueError(f"{file}: {shown}.") from None


def _saved_files(path: pathlib.Path) -> list[pathlib.Path]:
  state = path / _STATE
  content = b""
  if os.stat(state).st_size <= _MAX_LINE:
    content = state.read_bytes()
  try:
    names = [entry["filename"] for entry in json.loads(content)["_data_files"]]
  except (ValueError, KeyError, TypeError, RecursionError):
    names = [""]
  for name in names:
    # A name with a folder in it would lead out of the data.
    is_name = isinstance(name, str) and name
    if not is_name or pathlib.PurePath(name).name != name:
      shown = bounded.short(repr(name))
      raise ValueError(
          f"{state} must name the files in its folder, got {shown}."
      )
    if not bounded.is_regular(path / name):
      raise ValueError(f"{path} must hold {bounded.short(name)}, got none.")
  return [path / name for name in names]


def _parquet(path: pathlib.Path, names: Sequence[str]):
  for block in files.read_file(path, columns=tuple(dict.fromkeys(names))):
    columns = {
        name: cells.take(cells.values, missing=None)
        if cells.values.dtype == object
        else cells.take(cells.values, missing=cells.values[0])
        for name, cells in block.items()
    }
    for row in zip(*columns.values(), strict=True):
      yield dict(zip(columns, row, strict=True))
