"""Which data sets count as neighbours, by name.

>>> checked("replace")
'replace_one'
"""

import enum
from typing import Any

from accounting import _validate

NEIGHBORING_RELATIONS = ("add_or_remove_one", "replace_one", "replace_special")
_ALIASES = {"add_or_remove": "add_or_remove_one", "replace": "replace_one"}


def checked(value: Any) -> str:
  """Turns an alias or dp-accounting's enum member into the stored name."""
  # By name, so that dp-accounting (a second's import) is not needed here.
  name = value.name if isinstance(value, enum.Enum) else value
  if isinstance(name, str):
    name = _ALIASES.get(name.lower(), name.lower())
  return _validate.choice(
      "neighboring_relation", name, options=NEIGHBORING_RELATIONS
  )
