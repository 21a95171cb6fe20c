"""The fields of a config as a table: for docs, and for a run's own values.

Example:
  >>> from configs import fields
  >>> row = fields.table()[0]
  >>> row.name, row.kind, row.value, row.rule
  ('name', 'text', '""', 'Any text.')
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from configs.fields import declared

_KINDS = {
    bool: "true or false",
    dict: "options",
    float: "number",
    int: "integer",
    str: "text",
    tuple: "list",
}
_TOP = "The run"
_OPENING = """\
# Configs

This page lists every field of a config, with its default and its rule. It is
for anyone who writes a recipe or overrides one on the command line:

```
python -m experiments.train --config=configs/digits_cnn.py:epsilon=3.0 \\
  --workdir=runs/digits --config.train.learning_rate=0.5
```

[Recipes](recipes.md) explains how fields work together. This page is generated
from the entries in `configs/fields/`, by `python -m configs.fields`.
"""


class Row(NamedTuple):
  """One field, in words.

  Attributes:
    name: Dotted name, such as "dp.epsilon".
    kind: Kind of the value, such as "number".
    value: The default, or a given config's value, as Python writes it.
    meaning: Sentence: the effect of the field, with its unit.
    rule: Rule for valid values.
  """

  name: str
  kind: str
  value: str
  meaning: str
  rule: str


def table(values: Mapping[str, Any] | None = None) -> list[Row]:
  """Returns a row for every field, in order.

  Args:
    values: Values by dotted name, which replace the defaults; None for none.

  Raises:
    ValueError: If a name is no field's.
  """
  entries, values = dict(declared.leaves()), values or {}
  if unknown := sorted(set(values) - set(entries)):
    raise ValueError(f"values must be of fields, got {unknown[0]!r:.100}.")
  return [
      Row(
          name,
          _KINDS[entry.kind],
          _written(values.get(name, entry.default)),
          entry.meaning,
          entry.rule,
      )
      for name, entry in entries.items()
  ]


def page() -> str:
  """Returns docs/config.md: a table for each section."""
  text, section = _OPENING, None
  for row in table():
    head, dot, _ = row.name.partition(".")
    title = f"`{head}`" if dot else _TOP
    if title != section:
      section = title
      text += f"\n## {title}\n\n"
      text += (
          "| field | kind | default | meaning | rule |\n|---|---|---|---|---|\n"
      )
    name, value = f"`{row.name}`", f"`{row.value}`"
    cells = (name, row.kind, value, row.meaning, row.rule)
    text += f"| {' | '.join(cells)} |\n"
  return text


def _written(value: Any) -> str:
  return json.dumps(value) if isinstance(value, str) else repr(value)
