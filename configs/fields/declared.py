"""All fields of a config, by section.

Invariant: every leaf is a complete `Field`, so that no field is without its
meaning and its rule. `configs.common.base` is made from these entries, and so
is the table in docs/config.md.

Example:
  >>> from configs import fields
  >>> field = dict(fields.leaves())["dp.delta"]
  >>> field.default, field.kind, field.rule
  (None, <class 'float'>, 'In (0, 1). Required.')
  >>> fields.check({"dp": {"delta": 1e-5}})
  Traceback (most recent call last):
  ...
  TypeError: dp.delta must be a Field(default, meaning, rule), got 1e-05.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from configs.fields import data, dp, model, run, task, train
from configs.fields.entry import Field

FIELDS: dict[str, Any] = {
    **run.TOP,
    "task": task.TASK,
    "data": data.DATA,
    "model": model.MODEL,
    "augment": data.AUGMENT,
    "loss": model.LOSS,
    "dp": dp.DP,
    "train": train.TRAIN,
    "eval": run.EVAL,
    "mesh": run.MESH,
}


def check(tree: Mapping[str, Any], prefix: str = "") -> None:
  """Checks that every leaf is a complete entry.

  Args:
    tree: Nested dicts whose leaves are `Field`s.
    prefix: Dotted name of the section, with a dot at its end; "" for all.

  Raises:
    TypeError: If a leaf is no `Field`, or lacks a meaning, rule or type.
  """
  for key, value in tree.items():
    name = f"{prefix}{key}"
    if isinstance(value, Mapping) and value:
      check(value, f"{name}.")
    elif not isinstance(value, Field):
      rule = "a Field(default, meaning, rule)"
      raise TypeError(f"{name} must be {rule}, got {value!r:.100}.")
    elif not (value.meaning and value.rule):
      raise TypeError(f"{name} must have a meaning and a rule, got {value}.")
    elif value.kind is type(None):
      raise TypeError(f"{name} must have a type, got only the default None.")


def leaves(
    tree: Mapping[str, Any] = FIELDS, prefix: str = ""
) -> Iterator[tuple[str, Field]]:
  """Yields (dotted name, entry) of every field, in order.

  Args:
    tree: Nested dicts whose leaves are `Field`s; all fields by default.
    prefix: Dotted name of the section, with a dot at its end; "" for all.
  """
  for key, value in tree.items():
    if isinstance(value, Field):
      yield f"{prefix}{key}", value
    else:
      yield from leaves(value, f"{prefix}{key}.")
