"""Writes predictions as a table: CSV or Parquet, a row an input.

Invariant: text in a CSV file is never a formula. Spreadsheets run what begins
with =, +, - or @. Such text, the names of files, classes and columns too, has
an apostrophe put before it. Parquet keeps text as it is.

>>> import io
>>> file = io.BytesIO()
>>> table = writer(file, ".csv")
>>> table.append({"input": np.array(["=1+1", "b"]), "p": np.array([-0.5, 2.0])})
>>> table.close()
>>> file.getvalue().decode().split()
['input,p', "'=1+1,-0.5", 'b,2.0']
"""

import csv
import io
import pathlib
from collections.abc import Mapping
from typing import BinaryIO, Protocol

import numpy as np

from experiments.release import model as model_lib
from experiments.release import output
from experiments.tasks import task as task_lib
from jax_privacy import _extras, batch_selection

SUFFIXES = (".csv", ".parquet")
_INPUT = "input"
# What spreadsheets take for the beginning of a formula, wide forms included.
_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


class Table(Protocol):
  """A table that grows by some rows at a time."""

  def append(self, columns: Mapping[str, np.ndarray]) -> None:
    """Adds rows: arrays [n] by name, the same names each time.

    Args:
      columns: Arrays [n] by name of the column.
    """

  def close(self) -> None:
    """Writes what is left; the file stays open."""


def write(
    model: model_lib.SavedModel, path: pathlib.Path, *, batch_size: int
) -> int:
  """Predicts for all of a model's source, and writes it to a new file.

  Args:
    model: Loaded for a user's inputs.
    path: Ends in one of `SUFFIXES`. Its first column is the input's name, or
      its row's number, counted from 1; the others are the task's.
    batch_size: Examples at a time.

  Returns:
    The number of rows.

  Raises:
    ValueError: If the file is there, or an input cannot be used; nothing is
      written then.
  """
  source = model.source
  names = getattr(source, "names", None)
  names = np.arange(1, len(source) + 1) if names is None else np.asarray(names)
  size = min(batch_size, len(source))
  padded = batch_selection.pad_to_multiple_of(np.arange(len(source)), size)
  with output.new_file(path) as file:
    table = writer(file, path.suffix)
    for indices in padded.reshape(-1, size):
      outputs = model.outputs(model.signature.read(source[indices]))
      rows = indices[indices >= 0]
      outputs = task_lib.take(outputs, slice(len(rows)))  # Padding is behind.
      columns = model.task.columns(source, outputs)
      label = _INPUT
      while label in columns:  # A class may be called so.
        label += "_"
      table.append({label: names[rows], **columns})
    table.close()
  return len(source)


def writer(file: BinaryIO, suffix: str) -> Table:
  """Returns a table that is written to a file.

  Args:
    file: File to write.
    suffix: One of `SUFFIXES`.

  Raises:
    ImportError: If it is Parquet, and pyarrow is not installed.
  """
  return {".csv": _Csv, ".parquet": _Parquet}[suffix](file)


class _Csv:

  def __init__(self, file: BinaryIO):
    self._text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    # RFC 4180's ends of lines: else a lone carriage return is not quoted.
    self._csv = csv.writer(self._text, lineterminator="\r\n")
    self._has_header = False

  def append(self, columns: Mapping[str, np.ndarray]) -> None:
    if not self._has_header:
      self._csv.writerow(map(_harmless, columns))
      self._has_header = True
    cells = [[_cell(value) for value in column] for column in columns.values()]
    self._csv.writerows(zip(*cells, strict=True))

  def close(self) -> None:
    self._text.flush()
    self._text.detach()


class _Parquet:

  def __init__(self, file: BinaryIO):
    with _extras.needed("tables"):
      import pyarrow as pa
      import pyarrow.parquet as pq

    self._pa, self._pq = pa, pq
    self._file, self._writer = file, None

  def append(self, columns: Mapping[str, np.ndarray]) -> None:
    table = self._pa.table(
        # NumPy's text ends at a NUL for pyarrow.
        {
            name: self._pa.array(
                column.tolist() if column.dtype.kind == "U" else column
            )
            for name, column in columns.items()
        }
    )
    if self._writer is None:
      self._writer = self._pq.ParquetWriter(self._file, table.schema)
    self._writer.write_table(table)

  def close(self) -> None:
    if self._writer is not None:
      self._writer.close()


def _cell(value: np.generic | str) -> str:
  # str() of NumPy's own float is as short as its dtype allows.
  return _harmless(value) if isinstance(value, str) else str(value)


def _harmless(text: str) -> str:
  """Returns text that no spreadsheet runs, and that has no NUL in it."""
  text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
  # Some strip spaces before they look.
  is_formula = text.lstrip(" ").startswith(_FORMULA)
  return f"'{text}" if is_formula else text
