"""Loads a table's split, from a file or from a frame.

Invariant: which split a row is in depends on that row alone. Were it to depend
on its place, adding one row would move others between the splits, and the two
training sets would not be neighbours.

>>> rows = np.array(
...     [(i, "yes" if i % 3 else "no") for i in range(50)],
...     [("age", int), ("rich", "U3")])
>>> stated = {"columns": {
...     "age": {"kind": "number", "bounds": [0, 100]},
...     "rich": {"kind": "category", "values": ["no", "yes"]}}}
>>> train, test = (
...     from_frame(rows, schema=stated, target="rich", split=split)
...     for split in ("train", "test"))
>>> len(train) + len(test)
50
"""

import functools
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from jax_privacy.data import bounded
from jax_privacy.data import source as source_lib
from jax_privacy.data.tables import cells as cells_lib
from jax_privacy.data.tables import encode, files, frames
from jax_privacy.data.tables import schema as schema_lib
from jax_privacy.data.tables import source as table_source

# (columns) -> blocks of rows
_Read: TypeAlias = Callable[..., Iterator[files.Block]]


def load_table(
    *,
    split: str = "train",
    path: str | os.PathLike,
    schema: str | Mapping[str, Any],
    target: str,
    test_path: str | os.PathLike = "",
    test_fraction: float = 0.2,
    split_by: str = "",
    features: Sequence[str] = (),
    groups: Sequence[str] = (),
    num_examples: int | None = None,
) -> table_source.TableSource:
  """Loads a split of a CSV or Parquet file.

  Args:
    split: Name of the split, "train" or "test".
    path: The file, whose name ends in .csv, .csv.gz or .parquet.
    schema: A TOML file that states bounds and categories (docs/tables.md), or
      the same as nested dicts.
    target: The column that is predicted.
    test_path: A file of the same columns for "test"; "" to hold out rows of
      `path`.
    test_fraction: The chance of each row to be held out, by a hash of its cells
      in all columns of the schema; equal rows are in the same split.
    split_by: Name of a column, such as the persons' ids, whose cells are hashed
      instead, so that all rows of a person are in the same split; "" for none.
    features: Columns that the model sees; all others of the schema if empty.
    groups: Categories that evaluation looks at.
    num_examples: The stated number of rows of the split.

  Returns:
    The source.

  Raises:
    ImportError: If pyarrow is not installed.
    ValueError: If an option breaks its rule, or the file does; the text names
      the file and the column.
  """
  split = source_lib.check_split(split)
  for name, value in (("path", path), ("test_path", test_path)):
    source_lib.check_path(value, name=name)
  if test_path and split == "test":
    path = test_path
  read = functools.partial(files.read_file, path)
  with source_lib.named(str(path)):
    return _load(
        read,
        encoder=_encoder(schema, target, features, groups),
        part=_part(split, test_fraction, split_by, is_whole=bool(test_path)),
        num_examples=num_examples,
    )


def from_frame(
    frame: Any,
    *,
    schema: str | Mapping[str, Any],
    target: str,
    split: str | None = None,
    test_fraction: float = 0.2,
    split_by: str = "",
    features: Sequence[str] = (),
    groups: Sequence[str] = (),
    num_examples: int | None = None,
) -> table_source.TableSource:
  """Makes a source of a pandas or polars frame, or a NumPy structured array.

  Args:
    frame: The rows.
    schema: A file or nested dicts, as for `load_table`.
    target: Name of a column, as for `load_table`.
    split: Name of the split, "train" or "test"; None for all rows.
    test_fraction: A chance, as for `load_table`.
    split_by: Name of a column, as for `load_table`.
    features: Names of columns, as for `load_table`.
    groups: Names of categories, as for `load_table`.
    num_examples: The stated number of rows of the split.

  Returns:
    The source.

  Raises:
    ValueError: If an argument or a cell breaks its rule.
  """
  whole = split is None
  return _load(
      functools.partial(frames.read_frame, frame),
      encoder=_encoder(schema, target, features, groups),
      part=_part(
          source_lib.check_split("train" if whole else split),
          test_fraction,
          split_by,
          is_whole=whole,
      ),
      num_examples=num_examples,
  )


class _Part:
  """Which rows of a table a split has.

  Args:
    split: Its name, "" for the whole table.
    test_fraction: The chance of a row to be in "test".
    split_by: The column that decides, "" for all that the schema has.
  """

  def __init__(self, split: str, test_fraction: float, split_by: str = ""):
    self._split, self._limit = split, int(test_fraction * 2**64)
    self._split_by = split_by

  @property
  def is_whole(self) -> bool:
    """Whether these are all rows."""
    return not self._split

  def columns(self, encoder: encode.Encoder) -> tuple[str, ...]:
    """Returns the columns to read: the encoder's, and those that decide."""
    if self.is_whole:
      return encoder.columns
    # All that the schema has, so that no option but the schema moves a row.
    decide = (self._split_by,) if self._split_by else encoder.schema.columns
    return tuple(dict.fromkeys((*encoder.columns, *decide)))

  def is_in(self, block: files.Block, schema: schema_lib.Schema) -> np.ndarray:
    """Returns bool [num_rows], by a hash of each row's cells."""
    columns = tuple(schema.columns)
    if self._split_by:
      columns = (self._split_by,)
      with source_lib.named(f"column {self._split_by!r}"):
        block[self._split_by].without(schema.missing_texts).refuse_missing(
            remedy="split_by must name a column that has no gaps"
        )
    is_test = _hashes(block, columns) < self._limit
    return is_test == (self._split == "test")


def _part(
    split: str, test_fraction: float, split_by: str, *, is_whole: bool
) -> _Part:
  if not isinstance(split_by, str) or (split_by and is_whole):
    raise ValueError(
        'split_by must be the name of a column, and "" where no rows are held'
        f" out of this table, got {split_by!r}."
    )
  if is_whole:
    return _Part("", 0.0)
  is_number = isinstance(test_fraction, float)
  if not is_number or not 0.0 < test_fraction < 1.0:
    raise ValueError(f"test_fraction must be in (0, 1), got {test_fraction!r}.")
  return _Part(split, test_fraction, split_by)


def _encoder(schema, target, features, groups) -> encode.Encoder:
  if isinstance(schema, str | os.PathLike):
    schema = schema_lib.read(schema)
  elif not isinstance(schema, schema_lib.Schema):
    schema = schema_lib.from_dict(schema)
  return encode.Encoder(schema, target=target, features=features, groups=groups)


def _load(
    read: _Read,
    *,
    encoder: encode.Encoder,
    part: _Part,
    num_examples: int | None,
) -> table_source.TableSource:
  encoded, is_in = [], []
  for block in read(columns=part.columns(encoder)):
    encoded.append(encoder.encode(block))
    if not part.is_whole:
      is_in.append(part.is_in(block, encoder.schema))
  if not encoded:
    raise ValueError("a table must hold a row, got none.")
  arrays = {
      name: np.concatenate([some[name] for some in encoded])
      for name in encoded[0]
  }
  _refuse_constant(encoder, arrays)
  rows = None if part.is_whole else np.flatnonzero(np.concatenate(is_in))
  if rows is not None:
    if not len(rows):
      raise ValueError(
          "each split must hold a row, got none for one: state another"
          " test_fraction, or test_path."
      )
    arrays = {name: array[rows] for name, array in arrays.items()}
  return table_source.TableSource(
      encoder,
      arrays,
      num_examples=num_examples,
      read_column=functools.partial(_read_column, read),
      rows=rows,
  )


def _read_column(read: _Read, name: str) -> cells_lib.Cells:
  """Joins a column's blocks; each value stays in its block's list."""
  blocks = [block[name] for block in read(columns=(name,), exact=True)]
  places, offset = [], 0
  for cells in blocks:
    places.append(np.where(cells.is_missing, -1, cells.places + offset))
    offset += len(cells.values)
  return cells_lib.Cells(
      np.concatenate([cells.values for cells in blocks]),
      np.concatenate(places),
  )


def _refuse_constant(encoder: encode.Encoder, arrays) -> None:
  """Refuses a column of one value, which most likely is a mistake."""
  if len(arrays["target"]) < 2:
    return
  found = dict(
      zip(encoder.number_names, arrays["numbers"].T, strict=True)
  ) | dict(zip(encoder.category_names, arrays["categories"].T, strict=True))
  found[encoder.target.name] = arrays["target"]
  for name in (*encoder.inputs, encoder.target.name):
    if (found[name] == found[name][0]).all():
      raise ValueError(
          f"column {name!r} must have two different values or more, got one"
          f" ({bounded.PRIVATE}): leave it out of the schema."
      )


def _hashes(block: files.Block, columns: Sequence[str]) -> np.ndarray:
  """uint64 [num_rows], each of its own row's values in these columns."""
  rows = np.stack([_digests(block[name]) for name in columns], axis=1)
  digests = [_digest(row.tobytes()) for row in rows]
  return np.frombuffer(b"".join(digests), "<u8")


def _digests(cells: cells_lib.Cells) -> np.ndarray:
  """uint64 [num_rows], each of its own cell's text."""
  texts = [cells_lib.text(value).encode() for value in cells.values]
  found = np.frombuffer(b"".join(map(_digest, texts)), "<u8")
  return cells.take(found, missing=0)


def _digest(content: bytes) -> bytes:
  return hashlib.blake2b(content, digest_size=8, person=b"split").digest()
