"""Rows of a user's own file, to predict: no target.

Invariant: a row is encoded as in training, by the same schema.

>>> from jax_privacy.data.tables import encode, schema
>>> stated = schema.from_dict({"columns": {
...     "age": {"kind": "number", "bounds": [0, 82]},
...     "rich": {"kind": "category", "values": ["no", "yes"]}}})
>>> encoder = encode.Encoder(stated, target="rich")
>>> rows = np.array([(41,), (0,)], [("age", int)])
>>> inputs = read_inputs(rows, encoder)
>>> inputs[np.array([1, -1])]["numbers"].tolist()
[[-1.0], [0.0]]
"""

import collections
import os
from typing import Any

import numpy as np

from jax_privacy.data import source as source_lib
from jax_privacy.data.tables import columns as columns_lib
from jax_privacy.data.tables import encode, files, frames
from jax_privacy.data.tables import schema as schema_lib


class TableInputs:
  """Rows to predict, in memory.

  Args:
    encoder: Encoder of the columns.
    arrays: Arrays that `Encoder.encode_inputs` returns; None for no rows,
      where the description alone counts.
    notes: Texts; see below.

  Attributes:
    target: Column that is predicted.
    label_names: Names of its classes.
    number_names: Names of the k columns of "numbers", in order.
    category_names: Names of the c columns of "categories", in order.
    category_sizes: Number of values of each of these.
    groups: None: evaluation alone looks at groups.
    notes: Texts for whoever reads predictions: what was clamped.
  """

  in_memory = True

  def __init__(
      self,
      encoder: encode.Encoder,
      arrays: source_lib.Batch | None = None,
      *,
      notes: tuple[str, ...] = (),
  ):
    self.notes = notes
    self.encoder = encoder
    self.target: schema_lib.Target = encoder.target
    self.label_names = encoder.target.label_names
    self.number_names = encoder.number_names
    self.category_names = encoder.category_names
    self.category_sizes = encoder.category_sizes
    self.groups: dict[str, source_lib.Group] = {}
    self._arrays = _padding(encoder) if arrays is None else arrays

  def describe(self) -> dict[str, Any]:
    """Returns what the columns are, for JSON: public."""
    return encode.description(self.encoder)

  @property
  def num_classes(self) -> int:
    """The number of classes."""
    return len(self.label_names)

  @property
  def num_examples(self) -> int:
    """The number of rows."""
    return len(self)

  def __len__(self) -> int:
    return len(self._arrays["numbers"])

  def __getitem__(self, indices: np.ndarray) -> source_lib.Batch:
    """Returns "numbers" and "categories" at a 1-D array of integers."""
    rows, padding = source_lib.check_indices(indices, length=len(self))
    batch = {name: array[rows] for name, array in self._arrays.items()}
    for array in batch.values():
      array[padding] = 0
    return batch


def _padding(encoder: encode.Encoder) -> source_lib.Batch:
  num_numbers, num_categories = (
      len(names) for names in (encoder.number_names, encoder.category_names)
  )
  return {
      "numbers": np.zeros((1, num_numbers), np.float32),
      "categories": np.zeros((1, num_categories), np.int32),
  }


def read_inputs(table: Any, encoder: encode.Encoder) -> TableInputs:
  """Reads the rows of a file or a frame, which needs no target.

  Args:
    table: Path of a .csv, .csv.gz or .parquet file, or a frame.
    encoder: Encoder of the columns.

  Returns:
    The rows.

  Raises:
    ImportError: If a file is to be read, and pyarrow is not installed.
    ValueError: If a column is missing or a cell breaks its rule.
  """
  is_path = isinstance(table, str | os.PathLike)
  read = files.read_file if is_path else frames.read_frame
  name = str(table) if is_path else "the frame"
  encoded, outside = [], collections.Counter()
  with source_lib.named(name):
    for block in read(table, columns=encoder.inputs):
      encoded.append(encoder.encode_inputs(block))
      outside.update(encoder.num_outside(block))
    if not encoded:
      raise ValueError("a table must hold a row, got none.")
  arrays = {
      key: np.concatenate([some[key] for some in encoded]) for key in encoded[0]
  }
  notes = tuple(
      _note(name, encoder.schema.columns[name], count)
      for name, count in outside.items()
  )
  return TableInputs(encoder, arrays, notes=notes)


def _note(name: str, column: columns_lib.Column, count: int) -> str:
  taken = "beyond the stated bounds, and taken as the nearer one"
  if isinstance(column, columns_lib.Category):
    taken = f'not among the stated values, and taken as "({columns_lib.OTHER})"'
  return f"column {name!r}: {count} of the inputs' values are {taken}."
