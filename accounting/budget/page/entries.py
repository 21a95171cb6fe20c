"""The page's list of releases, as the text of a file of releases.

Invariant: what is computed is what `dp-budget compose` reads of the text that
the page shows. A release keeps the relation and the unit that it was stated
for; under another it is refused, never read anew.

>>> form = {"unit": "patient"}
>>> added = {"kind": "laplace", "scale": "10", "count": "3", "name": "ages"}
>>> added |= {"unit": "patient", "neighboring_relation": "add_or_remove_one"}
>>> print(text([], [added], form))
unit = "patient"
<BLANKLINE>
# ages
[[release]]
kind = "laplace"
count = 3
scale = 10
neighboring_relation = "add_or_remove_one"
<BLANKLINE>
"""

import dataclasses
import math
import pathlib
from collections.abc import Callable
from typing import Any

from accounting import _validate, mechanisms, release_fields
from accounting.budget import releases, whole
from accounting.budget.page import forms
from accounting.composition import Composition
from accounting.ledger import toml_text
from accounting.mechanism import Mechanism

FILE = "releases.toml"
_MAX_ENTRIES = 100
_RUN = "run"
_COMMON = ("kind", "count", "name", "unit", "neighboring_relation")
_NAME = "a name of the release"

Entry = dict[str, Any]


def kinds() -> list[dict[str, Any]]:
  """Returns what may be added to the list: kinds, and their fields."""
  return [
      {
          "kind": kind,
          "fields": [
              {
                  "name": field.name,
                  "default": (
                      ""
                      if field.default is dataclasses.MISSING
                      else f"{field.default:g}"
                  ),
              }
              for field in dataclasses.fields(mechanisms.get(kind))
              if field.name != "neighboring_relation"
          ],
          "relation": mechanisms.get(kind).neighboring_relation,
      }
      for kind in mechanisms.names()
  ]


def names() -> tuple[str, ...]:
  """Returns the names of all fields of what may be added."""
  own = [field["name"] for kind in kinds() for field in kind["fields"]]
  return tuple(dict.fromkeys(("name", "count", *own)))


def checked(entries: Any) -> list[Entry]:
  """Returns the list, if each of it is a mapping of names to texts.

  Args:
    entries: List, as sent.

  Raises:
    ValueError: If it is none.
  """
  rule = f"a list of at most {_MAX_ENTRIES} mappings of names to texts"
  if not isinstance(entries, list) or len(entries) > _MAX_ENTRIES:
    _validate.fail("releases", rule, type(entries).__name__)
  for each in entries:
    if not isinstance(each, dict):
      _validate.fail("releases", rule, each)
    for name, value in each.items():
      if name == _RUN:
        forms.checked(value)
      elif not isinstance(value, str) or len(value) > 200:
        _validate.fail(name, "a text of at most 200 characters", value)
  return entries


def text(
    runs: list[Mechanism],
    entries: list[Entry],
    form: forms.Form,
    *,
    read: Callable[[forms.Form], Mechanism] | None = None,
) -> str:
  """Returns the text of a file of releases.

  Args:
    runs: Runs to begin with.
    entries: Checked list.
    form: Checked form, of which the unit is read.
    read: Function that makes a run of a form.

  Raises:
    ValueError: If a name or a unit breaks its rule.
  """
  parts = []
  if unit := form.get("unit"):
    parts.append(toml_text.lines("file", {"unit": unit}))
  parts += [_table("the run", _of_run(each, 1)) for each in runs]
  for number, entry in enumerate(entries, 1):
    try:
      parts.append(_entry(entry, form, read))
    except ValueError as error:
      raise ValueError(f"release {number} of the list: {error}") from None
  return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def parse(written: str) -> releases.Found:
  """Reads the text back, as `dp-budget compose` does.

  Args:
    written: Text of the file.

  Returns:
    What it holds.

  Raises:
    ValueError: If a value breaks its rule.
  """
  return releases.parse(
      written.encode("utf-8"), what=FILE, folder=pathlib.Path()
  )


def _entry(entry: Entry, form: forms.Form, read) -> list[str]:
  name = _validate.text("name", entry.get("name") or "a release", rule=_NAME)
  if (stated := entry.get("unit", "")) != form.get("unit", ""):
    rule = f"{stated!r}, as when it was added"
    _validate.fail("unit", rule, form.get("unit", ""))
  count = _number(entry.get("count") or "1")
  if entry.get("kind") == _RUN:
    run = forms.checked(entry.get(_RUN))
    return _table(name, _of_run(read(run), count))
  fields = {
      key: value if key == "what" else _number(value)
      for key, value in entry.items()
      if key not in _COMMON and value.strip()
  }
  kind = _validate.choice(
      "kind", entry.get("kind"), options=(*mechanisms.names(), _RUN)
  )
  relation = {"neighboring_relation": entry.get("neighboring_relation")}
  return _table(name, {"kind": kind, "count": count} | fields | relation)


def _of_run(run: Mechanism, count: Any) -> dict[str, Any]:
  [fields] = release_fields.write(Composition([run]))
  relation = {"neighboring_relation": run.neighboring_relation}
  return fields | {"count": count} | relation


def _table(name: str, fields: dict[str, Any]) -> list[str]:
  return [f"# {name}", "[[release]]", *toml_text.lines("release", fields)]


def _number(value: str) -> Any:
  """Returns the number that a text says, or the text, for the error."""
  try:
    return whole.parse(value)
  except ValueError:
    pass
  try:
    number = float(value)
  except ValueError:
    return value
  return number if math.isfinite(number) else value  # TOML has no others.
