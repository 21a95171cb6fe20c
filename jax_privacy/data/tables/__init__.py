"""Tables: rows of a file or a frame, as arrays that a model takes.

Invariant: bounds and categories come from a schema that the owner states, and
never from the rows; see docs/tables.md.

>>> from jax_privacy.data import tables
>>> source = tables.load("breast_cancer", split="train")
>>> len(source), source.target.kind, len(source.number_names)
(455, 'binary', 30)
"""

from jax_privacy.data.tables.columns import Category as Category
from jax_privacy.data.tables.columns import Date as Date
from jax_privacy.data.tables.columns import Number as Number
from jax_privacy.data.tables.draft import draft_schema as draft_schema
from jax_privacy.data.tables.encode import Encoder as Encoder
from jax_privacy.data.tables.inputs import TableInputs as TableInputs
from jax_privacy.data.tables.inputs import read_inputs as read_inputs
from jax_privacy.data.tables.raw import blank as blank_raw
from jax_privacy.data.tables.raw import describe as describe_raw
from jax_privacy.data.tables.raw import encode_raw as encode_raw
from jax_privacy.data.tables.registry import load as load
from jax_privacy.data.tables.registry import names as names
from jax_privacy.data.tables.schema import Schema as Schema
from jax_privacy.data.tables.schema import Target as Target
from jax_privacy.data.tables.schema import read as read_schema
from jax_privacy.data.tables.schema import sha256 as schema_sha256
from jax_privacy.data.tables.source import TableSource as TableSource
from jax_privacy.data.tables.splits import from_frame as from_frame

__all__ = (
    "Category",
    "Date",
    "Encoder",
    "Number",
    "Schema",
    "TableInputs",
    "TableSource",
    "Target",
    "blank_raw",
    "describe_raw",
    "draft_schema",
    "encode_raw",
    "from_frame",
    "load",
    "names",
    "read_inputs",
    "read_schema",
    "schema_sha256",
)


def __dir__() -> list[str]:
  return list(__all__)
