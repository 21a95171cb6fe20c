"""A source of rows of a table, encoded, in memory.

Invariant: `source[indices]` is a pure function of the indices; index -1 is
padding: zeros, and class 0 or the middle of a regression target's bounds.

>>> from jax_privacy.data.tables import splits
>>> rows = np.array([(41, "no"), (7, "yes")], [("age", int), ("rich", "U3")])
>>> source = splits.from_frame(rows, target="rich", num_examples=2, schema={
...     "columns": {"age": {"kind": "number", "bounds": [0, 82]},
...                 "rich": {"kind": "category", "values": ["no", "yes"]}}})
>>> batch = source[np.array([0, -1])]
>>> batch["numbers"].tolist(), batch["target"].tolist()
([[0.0], [0.0]], [0, 0])
>>> source.column("age").tolist()
[41, 7]
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from jax_privacy.data import bounded, digest
from jax_privacy.data import labels as labels_lib
from jax_privacy.data import source as source_lib
from jax_privacy.data.tables import cells as cells_lib
from jax_privacy.data.tables import columns as columns_lib
from jax_privacy.data.tables import encode
from jax_privacy.data.tables import schema as schema_lib

_OTHER_TABLE = "the table must be the one that was read, got other rows."
_MISSING = {"O": None, "f": np.nan, "M": np.datetime64("NaT", "D")}


class TableSource(source_lib.Described):
  """Rows of a table.

  Args:
    encoder: Encoder of the table.
    arrays: Arrays that `Encoder.encode` returns.
    num_examples: Stated number of rows; must be the number in the arrays.
    read_column: Function that returns the cells of a column of the whole
      table, by name.
    rows: Rows of the table that these are; None for all.

  Attributes:
    target: Column that is predicted.
    number_names: Names of the k columns of "numbers", in order.
    category_names: Names of the c columns of "categories", in order.
    category_sizes: Number of values of each of these.

  Raises:
    ValueError: If the stated number is not what was found.
  """

  in_memory = True

  def __init__(
      self,
      encoder: encode.Encoder,
      arrays: Mapping[str, np.ndarray],
      *,
      num_examples: int | None,
      read_column: Callable[[str], cells_lib.Cells],
      rows: np.ndarray | None = None,
  ):
    self.encoder = encoder
    self.target: schema_lib.Target = encoder.target
    self.number_names = encoder.number_names
    self.category_names = encoder.category_names
    self.category_sizes = encoder.category_sizes
    groups = {
        name: labels_lib.Group(
            names=encoder.group_names(name), codes=arrays["groups"][:, i]
        )
        for i, name in enumerate(encoder.groups)
    }
    super().__init__(
        len(arrays["target"]),
        label_names=self.target.label_names,
        num_classes=None,
        num_examples=num_examples,
        groups=groups,
    )
    self._arrays = {k: arrays[k] for k in ("numbers", "categories", "target")}
    self._read_cells, self._rows = read_column, rows

  @property
  def num_examples(self) -> int:
    """The stated number of rows.

    Raises:
      ValueError: If none was stated; the text has the number that was found,
        and says that it is private.
    """
    if self._stated is None:
      raise ValueError(
          "num_examples must be stated (in a config: data.num_examples) for the"
          " accounting, which makes it public, got None: this split has"
          f" {len(self)} rows ({bounded.PRIVATE}, unless you state it)."
      )
    return self._stated

  def __getitem__(self, indices: np.ndarray) -> source_lib.Batch:
    """Returns the rows at a 1-D array of integers; -1 is padding.

    Returns:
      "numbers", float32 [n, k] in [-1, 1]; "categories", int32 [n, c]; and
      "target", int32 [n] of classes, or float32 [n] in the column's units.
    """
    rows, padding = source_lib.check_indices(indices, length=len(self))
    batch = {name: array[rows] for name, array in self._arrays.items()}
    for array in batch.values():
      array[padding] = 0
    column = self.target.column
    if isinstance(column, columns_lib.Number):
      batch["target"][padding] = np.mean(column.bounds)
    return batch

  def describe(self) -> dict[str, Any]:
    """Returns what the columns are, for JSON: public, and not of the rows."""
    return encode.description(self.encoder)

  def as_arrays(self) -> source_lib.Batch:
    """Returns a copy of all the rows, in order of index."""
    return {name: array.copy() for name, array in self._arrays.items()}

  def digest_parts(self) -> Iterator[digest.Part]:
    """Yields what tells these rows from others: the encoded columns."""
    for name in sorted(self._arrays):
      yield name
      yield self._arrays[name]

  def column(self, name: str) -> np.ndarray:
    """Reads all values of one column of the table: private, as the rows are.

    Args:
      name: Name of any column, in the schema or not, such as one that says
        whose row it is.

    Returns:
      [n], row i being example i: text as it is written, numbers in their own
      type, datetime64[D] or objects; None, NaN or NaT where missing.

    Raises:
      ValueError: If there is no such column, or the table has changed.
    """
    cells = self._read_cells(name)
    # Whole numbers have nothing that means a missing one, and miss none.
    nothing = _MISSING.get(cells.values.dtype.kind, 0)
    values = cells.take(cells.values, missing=nothing)
    if self._rows is None:
      if len(values) != len(self):
        raise ValueError(_OTHER_TABLE)
      return values
    if len(self._rows) and len(values) <= self._rows.max():
      raise ValueError(_OTHER_TABLE)
    return values[self._rows]
