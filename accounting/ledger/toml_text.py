r"""Writes the values of a ledger as lines of TOML.

Invariant: `tomllib` reads back the value that was written, to the last digit.

>>> lines("entry", {"what": 'a "count"', "scale": 2.0, "at": [[0, 1.0]]})
['what = "a \\"count\\""', 'scale = 2.0', 'at = [[0, 1.0]]']
"""

import datetime
import json
import math
from collections.abc import Mapping
from typing import Any

from accounting import _validate


def lines(name: str, fields: Mapping[str, Any]) -> list[str]:
  """Returns a line for each field that is not None.

  Args:
    name: Name of the table, for an error.
    fields: Mapping of bare keys to values.

  Raises:
    ValueError: If a value cannot be written.
  """
  return [
      f"{key} = {_value(f'{name}.{key}', value)}"
      for key, value in fields.items()
      if value is not None
  ]


def _value(name: str, value: Any) -> str:
  if isinstance(value, bool):
    return "true" if value else "false"
  if isinstance(value, datetime.date):
    return value.isoformat()
  if isinstance(value, int):
    return str(value)
  if isinstance(value, float) and math.isfinite(value):
    return repr(value)
  if isinstance(value, str):
    if not value.isprintable():  # A line must stay one line.
      _validate.fail(name, "printable, in one line", value)
    return json.dumps(value, ensure_ascii=False)
  if isinstance(value, list | tuple):
    return "[" + ", ".join(_value(name, each) for each in value) + "]"
  if isinstance(value, Mapping):
    pairs = [
        f"{json.dumps(str(k), ensure_ascii=False)} = {_value(name, v)}"
        for k, v in value.items()
    ]
    return "{" + ", ".join(pairs) + "}"
  _validate.fail(name, "a value that TOML has", value)
