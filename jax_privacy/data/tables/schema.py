r"""The schema of a table: every column that is read, and what it may hold.

Invariant: a schema comes from a file or a config. Whatever it does not state
has the strictest rule: a missing value and one out of bounds are refused.

>>> schema = parse('''
... [columns.age]
... kind = "number"
... bounds = [0, 120]
... [columns.income]
... kind = "category"
... values = ["low", "high"]
... ''')
>>> schema.columns["age"].bounds, schema.target("income").kind
((0.0, 120.0), 'binary')
>>> parse(to_toml(schema)) == schema
True
"""

import dataclasses
import datetime
import hashlib
import json
import os
import pathlib
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from jax_privacy.data import bounded
from jax_privacy.data.tables import columns as columns_lib

MAX_COLUMNS = 2**14
_MAX_BYTES = 2**24
_MAX_NAME = 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
  """What is predicted.

  Attributes:
    name: Name of the column.
    kind: Kind of prediction, "binary", "class" or "regression".
    column: A `Category`, or a `Number` for regression.
  """

  name: str
  kind: str
  column: columns_lib.Category | columns_lib.Number

  @property
  def label_names(self) -> tuple[str, ...]:
    """The classes; of a regression, the column alone."""
    if isinstance(self.column, columns_lib.Number):
      return (self.name,)
    return self.column.values


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schema:
  """What the owner of a table states of it.

  Args:
    columns: Columns by name; others of the table are not read.
    missing_texts: The texts that mean that a value is missing.

  Raises:
    ValueError: If one breaks its rule.
  """

  columns: Mapping[str, columns_lib.Column]
  missing_texts: tuple[str, ...] = ("",)

  def __post_init__(self):
    if not 0 < len(self.columns) <= MAX_COLUMNS:
      raise ValueError(
          f"columns must be 1 to {MAX_COLUMNS}, got {len(self.columns)}."
      )
    for name in self.columns:
      is_name = isinstance(name, str) and name.isprintable()
      if not is_name or not 0 < len(name) <= _MAX_NAME:
        raise ValueError(
            f"a column must have a printable name of 1 to {_MAX_NAME}"
            f" characters, got {bounded.short(repr(name))}."
        )
    texts = self.missing_texts
    is_texts = isinstance(texts, list | tuple)
    if not is_texts or not all(isinstance(text, str) for text in texts):
      raise ValueError(
          "missing_texts must be a list of texts, got"
          f" {bounded.short(repr(texts))}."
      )
    object.__setattr__(self, "missing_texts", tuple(texts))
    object.__setattr__(self, "columns", dict(self.columns))

  def column(self, name: str) -> columns_lib.Column:
    """Returns the column of that name.

    Args:
      name: Name of the column.

    Raises:
      ValueError: If the schema has none.
    """
    if name not in self.columns:
      shown = bounded.short(", ".join(self.columns))
      raise ValueError(
          f"the schema must state column {bounded.short(repr(name))}, got"
          f" {shown}."
      )
    return self.columns[name]

  def category(self, name: str) -> columns_lib.Category:
    """Returns the category of that name.

    Args:
      name: Name of the column.

    Raises:
      ValueError: If the schema has none, or it is of another kind.
    """
    column = self.column(name)
    if not isinstance(column, columns_lib.Category):
      raise ValueError(
          f"column {bounded.short(repr(name))} must be a category, got"
          f" {type(column).__name__}."
      )
    return column

  def target(self, name: str) -> Target:
    """Returns a column as what is predicted.

    Args:
      name: Name of the column.

    Raises:
      ValueError: If it is a date, or allows values that cannot be predicted.
    """
    column = self.column(name)
    if isinstance(column, columns_lib.Date):
      raise ValueError(
          f"target must be a category or a number, got {name!r}, a date."
      )
    if column.missing != "refuse" or column.outside == columns_lib.OTHER:
      raise ValueError(
          f"target {name!r} must refuse missing and unlisted values, got"
          f" missing = {column.missing!r}, outside = {column.outside!r}. State"
          ' missing = "refuse" for it, and outside = "refuse" for a category.'
      )
    if isinstance(column, columns_lib.Number):
      return Target(name=name, kind="regression", column=column)
    kind = "binary" if len(column.values) == 2 else "class"
    return Target(name=name, kind=kind, column=column)


def from_dict(stated: Any) -> Schema:
  """Returns a schema from nested dicts, as of a config.

  Args:
    stated: Mapping of "columns", by name as of `columns.from_dict`; and of
      "missing_texts", ("",) by default.

  Raises:
    ValueError: If a field breaks its rule; the text names the column.
  """
  if not isinstance(stated, Mapping) or set(stated) - {
      "columns",
      "missing_texts",
  }:
    shown = bounded.short(repr(stated))
    raise ValueError(
        f"a schema must be of columns and missing_texts, got {shown}."
    )
  given, columns = stated.get("columns"), {}
  if not isinstance(given, Mapping):
    raise ValueError(
        "columns must be tables by name, such as [columns.age], got"
        f" {bounded.short(repr(given))}."
    )
  for name, of_name in given.items():
    try:
      columns[name] = columns_lib.from_dict(of_name)
    except ValueError as error:
      raise ValueError(f"column {bounded.short(repr(name))}: {error}") from None
  return Schema(
      columns=columns, missing_texts=stated.get("missing_texts", ("",))
  )


def parse(text: str) -> Schema:
  """Returns the schema of a TOML text.

  Args:
    text: TOML.

  Raises:
    ValueError: If it is no TOML, or breaks a rule.
  """
  try:
    stated = tomllib.loads(text)
  except RecursionError:
    raise ValueError(
        "a schema must nest less deep, got more than can be read."
    ) from None
  return from_dict(stated)


def read(path: str | os.PathLike) -> Schema:
  """Returns the schema of a TOML file.

  Args:
    path: Path of the file.

  Raises:
    ValueError: If there is none, or it breaks a rule; the text names the file.
  """
  if not bounded.is_regular(path):
    raise ValueError(
        f"schema must be a file that states the columns' bounds and categories"
        f" (they are never read off the data), got no file {path}: draft one"
        " from PUBLIC rows with `python -m experiments.schema"
        f" --rows=PUBLIC.csv --out={path}`, and check it."
    )
  if os.path.getsize(path) > _MAX_BYTES:
    raise ValueError(f"{path} must have at most {_MAX_BYTES} bytes, got more.")
  try:
    return parse(pathlib.Path(path).read_text(encoding="utf-8"))
  except ValueError as error:
    raise ValueError(f"{path}: {bounded.short(error)}.") from None


def to_toml(schema: Schema, *, comments: Sequence[str] = ()) -> str:
  """Returns a text that `parse` takes.

  Args:
    schema: Schema to write.
    comments: Lines of comment to open with.
  """
  lines = [f"# {comment}" for comment in comments]
  lines.append(f"missing_texts = {_toml(schema.missing_texts)}")
  for name, column in schema.columns.items():
    lines += ["", f"[columns.{_toml(name)}]"]
    stated = columns_lib.to_dict(column)
    lines += [f"{key} = {_toml(value)}" for key, value in stated.items()]
  return "\n".join(lines) + "\n"


def sha256(schema: Schema) -> str:
  """Returns a digest of all that a schema states, in its order; hexadecimal.

  All its columns are in it: each decides which rows are held out, used by the
  model or not. Comments and spaces of a file are not.

  Args:
    schema: Schema.
  """
  return hashlib.sha256(to_toml(schema).encode()).hexdigest()


def _toml(value: Any) -> str:
  if isinstance(value, tuple):
    return f"[{', '.join(map(_toml, value))}]"
  if isinstance(value, datetime.date):
    return value.isoformat()
  if isinstance(value, float):
    return repr(value)
  return json.dumps(value, ensure_ascii=False)  # TOML's strings are JSON's.
