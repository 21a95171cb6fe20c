"""The encoding of rows inside a program: JAX alone, from raw arrays.

A program cannot read text. What remains outside of it is small: a number of its
text, a date's day from 1970, and a category's place among its stated values.
Bounds, scaling, clamping and what is missing are inside.

Invariant: a row becomes what `Encoder.encode_inputs` makes of it, but for the
rounding of float32. A row that it would refuse is marked, since a program
raises nothing.

>>> from jax_privacy.data.tables import encode, schema
>>> stated = schema.from_dict({"columns": {
...     "age": {"kind": "number", "bounds": [0, 100], "missing": "indicator"},
...     "job": {"kind": "category", "values": ["a", "b"]},
...     "rich": {"kind": "category", "values": ["no", "yes"]}}})
>>> encoder = encode.Encoder(stated, target="rich")
>>> raw = {"numbers": np.float32([[75], [np.nan], [101]]),
...        "categories": np.int32([[1], [0], [0]])}
>>> batch, is_refused = encode_raw(encoder, raw)
>>> batch["numbers"].tolist(), is_refused.tolist()
([[0.5, 0.0], [0.0, 1.0], [1.0, 0.0]], [False, False, True])
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_privacy.data.tables import columns as columns_lib
from jax_privacy.data.tables import encode

MISSING_CODE = -1
# Bounds this many times as far from 0 as from each other: float32 would lose
# digits of a value, so that it is given less an offset.
_FAR = 16.0


def blank(encoder: encode.Encoder) -> dict[str, np.ndarray]:
  """Returns one row of zeros: the shapes and dtypes that `encode_raw` takes.

  Args:
    encoder: Encoder of the table.
  """
  numbers, categories = _columns(encoder)
  return {
      "numbers": np.zeros((1, len(numbers)), np.float32),
      "categories": np.zeros((1, len(categories)), np.int32),
  }


def encode_raw(
    encoder: encode.Encoder, raw: Mapping[str, jax.Array]
) -> tuple[dict[str, jax.Array], jax.Array]:
  """Encodes rows as `Encoder.encode_inputs` does, under `jax.jit` too.

  Args:
    encoder: Encoder of the table.
    raw: Arrays by name. "numbers", float32 [n, numbers], in the columns' units
      less their offset, days for a date, NaN where missing; "categories", int32
      [n, categories], places in `values`, -1 where missing, any other number
      for what is not listed.

  Returns:
    "numbers" and "categories", as the model takes them; and bool [n], whether
    the schema refuses a row, whose arrays mean nothing.
  """
  numbers, categories = _columns(encoder)
  scaled, missing, codes = [], [], []
  is_refused = jnp.zeros(raw["numbers"].shape[0], bool)
  for i, name in enumerate(numbers):
    column = encoder.schema.columns[name]
    value, is_missing, refused = _number(column, raw["numbers"][:, i])
    scaled.append(value)
    if column.missing == "indicator":
      missing.append(is_missing.astype(jnp.float32))
    is_refused |= refused
  for i, name in enumerate(categories):
    column = encoder.schema.columns[name]
    code, refused = _code(column, raw["categories"][:, i])
    codes.append(code)
    is_refused |= refused
  size = is_refused.shape[0]
  return {
      "numbers": _stack([*scaled, *missing], size, jnp.float32),
      "categories": _stack(codes, size, jnp.int32),
  }, is_refused


def describe(encoder: encode.Encoder) -> dict[str, Any]:
  """Returns how text becomes the arrays of `encode_raw`, for JSON.

  Args:
    encoder: Encoder of the table.

  Returns:
    "missing_texts"; "numbers", in order: each "column", its "kind" and what the
    schema states of it, and the "offset" to take off; and "categories", each
    with its "codes" by text. A text that has none is any other negative number.
  """
  numbers, categories = _columns(encoder)
  stated = {x["column"]: x for x in encoder.describe()["numbers"]}
  missing = dict.fromkeys(encoder.schema.missing_texts, MISSING_CODE)
  return {
      "missing_texts": list(encoder.schema.missing_texts),
      "numbers": [
          {
              **{k: v for k, v in stated[name].items() if k != "becomes"},
              "offset": _offset(encoder.schema.columns[name]),
          }
          for name in numbers
      ],
      "categories": [
          {
              "column": name,
              "codes": {
                  **{k: i for i, k in enumerate(_values(encoder, name))},
                  **missing,
              },
          }
          for name in categories
      ],
  }


def _columns(encoder) -> tuple[list[str], list[str]]:
  """Returns the names of numbers and dates, and of categories, in order."""
  categories = list(encoder.category_names)
  return [k for k in encoder.inputs if k not in categories], categories


def _values(encoder, name) -> tuple[str, ...]:
  return encoder.schema.columns[name].values


def _bounds(column) -> tuple[float, float]:
  is_date = isinstance(column, columns_lib.Date)
  return column.days if is_date else column.bounds


def _offset(column) -> float:
  if isinstance(column, columns_lib.Date):
    return 0.0  # Days are exact in float32.
  low, high = column.bounds
  is_far = max(abs(low), abs(high)) > _FAR * (high - low)
  return low if is_far else 0.0


def _number(column, values):
  """Returns what is scaled, what is missing and what is refused, each [n]."""
  offset = _offset(column)
  low, high = (np.float32(bound - offset) for bound in _bounds(column))
  is_missing = jnp.isnan(values)
  found = jnp.where(is_missing, low, values)
  refused = is_missing & (column.missing == "refuse")
  if column.outside == "refuse":
    refused |= (found < low) | (found > high)
  first, last = _bounds(column)
  width = np.float32(last - first)
  scaled = 2 * ((jnp.clip(found, low, high) - low) / width) - 1
  return jnp.where(is_missing, 0.0, scaled), is_missing, refused


def _code(column, codes):
  num_values = len(column.values)
  is_missing = codes == MISSING_CODE
  is_listed = (codes >= 0) & (codes < num_values)
  refused = is_missing & (column.missing == "refuse")
  if column.outside == "refuse":
    refused |= ~is_missing & ~is_listed
  # The names are the listed ones, then "(other)", then "(missing)".
  found = jnp.where(is_listed, codes, num_values)
  last = len(column.names) - 1
  found = jnp.where(is_missing, last, found)
  return jnp.where(refused, 0, found), refused


def _stack(arrays, size, dtype):
  if not arrays:
    return jnp.zeros((size, 0), dtype)
  return jnp.stack(arrays, axis=1).astype(dtype)
