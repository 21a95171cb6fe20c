"""The configs of runs: where they differ, and what is not the default.

Invariant: a field is left out only where all runs have the same value of it.

>>> flat({"a": {"b": 1}, "c": []})
{'a.b': '1', 'c': '[]'}
>>> different({"x": {"a": {"b": 1}, "c": 2}, "y": {"a": {"b": 3}, "c": 2}})
{'a.b': ('1', '3')}
"""

import json
from collections.abc import Mapping
from typing import Any

_NONE = "–"
_MAX_LENGTH = 200


def flat(config: Any, prefix: str = "") -> dict[str, str]:
  """Returns fields by dotted name, each as JSON.

  Args:
    config: Config as JSON, or a section.
    prefix: Dotted name of the section, with its last dot.
  """
  if isinstance(config, Mapping) and (config or not prefix):
    found = {}
    for key, value in config.items():
      found |= flat(value, f"{prefix}.{key}" if prefix else str(key))
    return found
  return {prefix: json.dumps(config)}


def different(
    configs: Mapping[str, Mapping[str, Any]],
) -> dict[str, tuple[str, ...]]:
  """Returns fields that are not the same in all configs.

  Args:
    configs: Config of each run, by the run's name.

  Returns:
    Values in the order of the runs, by field; "–" where there is none.
  """
  each = [flat(config) for config in configs.values()]
  names = dict.fromkeys(name for fields in each for name in fields)
  rows = {n: tuple(fields.get(n, _NONE) for fields in each) for n in names}
  return {n: values for n, values in rows.items() if len(set(values)) > 1}


def short(text: str) -> str:
  """Returns a value as a table has room for it.

  Args:
    text: Value, as JSON.
  """
  return text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}..."


def not_default(
    config: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, tuple[str, str]]:
  """Returns fields that are not the default, with both values.

  Args:
    config: Config of a run.
    defaults: Config of every default.
  """
  base, mine = flat(defaults), flat(config)
  found = {name: (mine[name], base.get(name, _NONE)) for name in mine}
  return {name: pair for name, pair in found.items() if len(set(pair)) > 1}
