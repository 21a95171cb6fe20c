"""Turns rows of a table into the arrays that a model takes.

Invariant: what a row becomes depends on that row and on the schema alone, never
on the other rows: no mean, no deviation and no list is taken from the data.

>>> from jax_privacy.data.tables import frames, schema
>>> stated = schema.from_dict({"columns": {
...     "age": {"kind": "number", "bounds": [0, 100], "missing": "indicator"},
...     "job": {"kind": "category", "values": ["a", "b"]},
...     "rich": {"kind": "category", "values": ["no", "yes"]}}})
>>> encoder = Encoder(stated, target="rich")
>>> encoder.number_names, encoder.category_sizes
(('age', 'age is missing'), (2,))
>>> rows = np.array(
...     [(75.0, "b", "no"), (np.nan, "a", "yes")],
...     [("age", float), ("job", "U1"), ("rich", "U3")])
>>> (block,) = frames.read_frame(rows, columns=encoder.columns)
>>> encoded = encoder.encode(block)
>>> encoded["numbers"].tolist(), encoded["target"].tolist()
([[0.5, 0.0], [0.0, 1.0]], [0, 1])
"""

import contextlib
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import numpy as np

from jax_privacy.data import bounded
from jax_privacy.data.tables import cells as cells_lib
from jax_privacy.data.tables import columns as columns_lib
from jax_privacy.data.tables import schema as schema_lib


class Encoder:
  """What the columns of a schema are to a model.

  Args:
    schema: Schema of the table.
    target: Name of the column that is predicted.
    features: Columns that the model sees; all but the target if empty.
    groups: Categories that evaluation looks at. One that the model is not to
      see must be left out of `features`.

  Attributes:
    schema: Schema of the table.
    target: Column that is predicted.
    number_names: Names of the k columns of "numbers", in order.
    category_names: Names of the c columns of "categories", in order.
    category_sizes: Number of values of each of these.
    groups: Columns that evaluation looks at.
    columns: Names of the columns that are read.

  Raises:
    ValueError: If a name is not in the schema, is there twice, or is of
      another kind.
  """

  def __init__(
      self,
      schema: schema_lib.Schema,
      *,
      target: str,
      features: Sequence[str] = (),
      groups: Sequence[str] = (),
  ):
    self.schema, self.target = schema, schema.target(target)
    features = _names("features", features)
    self.groups = _names("groups", groups)
    self._features = features or tuple(k for k in schema.columns if k != target)
    if target in self._features or not self._features:
      raise ValueError(
          "features must be one or more columns, not the target"
          f" {target!r}, got {bounded.short(self._features)}."
      )
    self._numbers, categories = [], {}
    for name in self._features:
      column = schema.column(name)
      if isinstance(column, columns_lib.Category):
        categories[name] = len(column.names)
      else:
        self._numbers.append(name)
    for name in self.groups:
      if not isinstance(schema.column(name), columns_lib.Category):
        raise ValueError(
            f"groups must be categories, got {name!r}, which is none."
        )
    self.category_names = tuple(categories)
    self.category_sizes = tuple(categories.values())
    self._with_indicator = [
        name
        for name in self._numbers
        if schema.columns[name].missing == "indicator"
    ]
    self.number_names = (
        *self._numbers,
        *(f"{name} is missing" for name in self._with_indicator),
    )
    self.columns = tuple(dict.fromkeys((*self._features, *self.groups, target)))

  @property
  def inputs(self) -> tuple[str, ...]:
    """Names of the columns that the model sees: what a prediction needs."""
    return self._features

  def to_dict(self) -> dict[str, Any]:
    """Returns what `from_dict` takes, for JSON; all is public."""
    return {
        "schema": schema_lib.to_toml(self.schema),
        "target": self.target.name,
        "features": list(self._features),
        "groups": list(self.groups),
    }

  @classmethod
  def from_dict(cls, stated: Mapping[str, Any]) -> "Encoder":
    """Returns the encoder of a run, from its folder.

    Args:
      stated: Values that `to_dict` returned.

    Raises:
      ValueError: If it is not that.
    """
    wanted = {"schema", "target", "features", "groups"}
    if set(stated) != wanted or not isinstance(stated["schema"], str):
      raise ValueError(
          f"a table must be described by {', '.join(sorted(wanted))}, got"
          f" {bounded.short(', '.join(map(repr, stated)))}."
      )
    return cls(
        schema_lib.parse(stated["schema"]),
        target=stated["target"],
        features=stated["features"],
        groups=stated["groups"],
    )

  def describe(self) -> dict[str, Any]:
    """Returns how a row becomes the model's arrays, for JSON; all is public.

    Returns:
      "missing_texts"; and the entries of "numbers" and "categories", in order,
      each with its "column" and what the schema states of it. Of a number or
      date, "becomes" is "scaled": 2 (value - low) / (high - low) - 1, by
      bounds, in days for a date, 0 if missing; or "is_missing": 1 or 0. Of a
      category, "codes" names what each code means.
    """
    stated = {
        name: columns_lib.to_dict(self.schema.columns[name])
        for name in self._features
    }
    for fields in stated.values():
      if "bounds" in fields:
        fields["bounds"] = [
            bound if isinstance(bound, float) else bound.isoformat()
            for bound in fields["bounds"]
        ]
    numbers = [(name, "scaled") for name in self._numbers]
    numbers += [(name, "is_missing") for name in self._with_indicator]
    return {
        "missing_texts": list(self.schema.missing_texts),
        "numbers": [
            {"column": name, "becomes": becomes, **stated[name]}
            for name, becomes in numbers
        ],
        "categories": [
            {
                "column": name,
                **stated[name],
                "values": list(stated[name]["values"]),
                "codes": list(self.schema.category(name).names),
            }
            for name in self.category_names
        ],
    }

  def group_names(self, name: str) -> tuple[str, ...]:
    """Returns the names of a group column's values.

    Args:
      name: Name of the column.
    """
    return self.schema.category(name).names

  def encode(
      self, block: Mapping[str, cells_lib.Cells]
  ) -> dict[str, np.ndarray]:
    """Returns the arrays of some rows: what `encode_inputs` does, and others.

    Args:
      block: Cells by column, of all `columns`.

    Returns:
      Also "target", int32 of classes or float32 within the target's bounds; and
      "groups", int32 [num_rows, num_groups].

    Raises:
      ValueError: If a cell is refused; the text names the column and the rule.
    """
    found = self.encode_inputs(block)
    with _column(self.target.name):
      cells, column = self._cells(block, self.target.name), self.target.column
      is_number = isinstance(column, columns_lib.Number)
      found["target"] = (column.raw if is_number else column.encode)(cells)
    codes = [self._encode(block, name) for name in self.groups]
    found["groups"] = _stack(codes, len(found["target"]), np.int32)
    return found

  def encode_inputs(
      self, block: Mapping[str, cells_lib.Cells]
  ) -> dict[str, np.ndarray]:
    """Returns what the model sees of some rows.

    Args:
      block: Cells by column, of all `inputs`.

    Returns:
      "numbers", float32 [num_rows, k] in [-1, 1], and "categories", int32
      [num_rows, c].

    Raises:
      ValueError: If a cell is refused; the text names the column and the rule.
    """
    num_rows = len(block[self._features[0]].places)
    numbers = [self._encode(block, name) for name in self._numbers]
    numbers += [
        self._cells(block, name).is_missing for name in self._with_indicator
    ]
    codes = [self._encode(block, name) for name in self.category_names]
    return {
        "numbers": _stack(numbers, num_rows, np.float32),
        "categories": _stack(codes, num_rows, np.int32),
    }

  def num_outside(self, block: Mapping[str, cells_lib.Cells]) -> dict[str, int]:
    """Returns how many cells of a column are not as stated, where any are.

    Such a number or date is clamped, and such a category is "(other)".

    Args:
      block: Cells by column, of all `inputs`.
    """
    counts = {
        name: int(
            self.schema.columns[name].is_outside(self._cells(block, name)).sum()
        )
        for name in self._features
    }
    return {name: count for name, count in counts.items() if count}

  def _encode(self, block, name) -> np.ndarray:
    with _column(name):
      return self.schema.columns[name].encode(self._cells(block, name))

  def _cells(self, block, name) -> cells_lib.Cells:
    return block[name].without(self.schema.missing_texts)


def description(encoder: Encoder) -> dict[str, Any]:
  """Returns what a table's columns are, for JSON: public, not of the rows.

  Args:
    encoder: Encoder of the table.
  """
  return {
      "target": encoder.target.name,
      "target_kind": encoder.target.kind,
      "label_names": list(encoder.target.label_names),
      "number_names": list(encoder.number_names),
      "category_names": list(encoder.category_names),
      "schema_sha256": schema_lib.sha256(encoder.schema),
  }


@contextlib.contextmanager
def _column(name: str) -> Generator[None, None, None]:
  try:
    yield
  except ValueError as error:
    raise ValueError(f"column {name!r} {error}") from None


def _names(what: str, names: Sequence[str]) -> tuple[str, ...]:
  is_list = isinstance(names, list | tuple)
  if not is_list or not all(isinstance(name, str) for name in names):
    raise ValueError(
        f"{what} must be names of columns, got {bounded.short(repr(names))}."
    )
  if len(set(names)) != len(names):
    raise ValueError(
        f"{what} must be different, got {bounded.short(repr(names))}."
    )
  return tuple(names)


def _stack(arrays, num_rows, dtype) -> np.ndarray:
  if not arrays:
    return np.zeros((num_rows, 0), dtype)
  return np.stack(arrays, axis=1).astype(dtype)
