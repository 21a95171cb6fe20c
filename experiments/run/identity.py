"""What makes a run this run: fields of its config, and their digest.

Invariant: what may differ on a resume is left out, and so is a newer field that
has the value of before it was there: an older run is still itself.

>>> sorted(differing_fields({"a": {"b": 1, "c": 2}}, {"a": {"b": 3, "c": 2}}))
['a.b']
>>> of_config({"name": "run", "mesh": {"data": 2}, "data": {"unit": ""}})
{'name': 'run', 'data': {}}
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import ml_collections

from experiments.plan import fields as plan_fields
from experiments.plan import not_private

_NO_IDENTITY = ("mesh", *plan_fields.RECORDED, not_private.LABEL)
# Fields, and the value with which a run is as it was before the field.
_NEWER = (
    *(("data.unit", ""), ("data.max_rows_per_unit", None)),
    *(("dp.enabled", True), ("dp.sampling_options", {})),
    *(("dp.noise", "independent"), ("dp.noise_options", {})),
    *(("dp.clipping", "standard"), ("dp.clipping_options", {})),
    *(("eval.metrics", []), ("model.restore.same_data", False)),
)
_INPUT_FIELDS = ("on_device", "num_workers", "prefetch")


def of_config(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the fields that make a run this run.

  The mesh changes no more than how sums round, and how examples are brought to
  the devices changes nothing: these may differ on a resume. A task that a run
  from before there were tasks would have is left out, as it was then, and so
  are newer fields that change nothing, and what is no field.

  Args:
    config: Config as JSON, by section.
  """
  fields = {k: v for k, v in config.items() if k not in _NO_IDENTITY}
  for name, value in _NEWER:
    fields = _without(fields, name.split("."), value)
  if fields.get("task") == plan_fields.task_of_older(fields):
    del fields["task"]
  if isinstance(fields.get("data"), dict):
    fields["data"] = {
        k: v for k, v in fields["data"].items() if k not in _INPUT_FIELDS
    }
  return fields


def _without(fields: Any, keys: list[str], value: Any) -> Any:
  """Returns nested fields without one of them, if it has this value."""
  first, *rest = keys
  if not isinstance(fields, dict) or first not in fields:
    return fields
  if rest:
    return fields | {first: _without(fields[first], rest, value)}
  if fields[first] == value:
    return {k: v for k, v in fields.items() if k != first}
  return fields


def plain(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Returns the config as JSON would give it back.

  Args:
    config: Config with the fields of `configs.common.base`.
  """
  return json.loads(config.to_json())


def json_sha256(value: Any) -> str:
  """Returns a digest of what JSON can hold, whatever its order of keys.

  Args:
    value: Value that JSON can hold.
  """
  return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def differing_fields(a: Any, b: Any, prefix: str = ""):
  """Yields the dotted names of fields in which two configs differ.

  Args:
    a: Config as JSON, or a part of one.
    b: The other, or its same part.
    prefix: Dotted name of the part, with its last dot.
  """
  if not (isinstance(a, dict) and isinstance(b, dict)):
    if a != b:
      yield prefix
    return
  for key in a.keys() | b.keys():
    name = f"{prefix}.{key}" if prefix else key
    yield from differing_fields(a.get(key), b.get(key), name)
