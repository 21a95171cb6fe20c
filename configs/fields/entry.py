"""What is written down of one field of a config."""

from typing import Any, NamedTuple


class Field(NamedTuple):
  """One field of a config.

  Attributes:
    default: Value where neither a recipe nor the command line sets another.
    meaning: Sentence: the effect of the field, with its unit.
    rule: Rule for valid values; `experiments.plan` checks them.
    type_if_none: Type of the value, for a field whose default is None.
  """

  default: Any
  meaning: str
  rule: str
  type_if_none: type | None = None

  @property
  def kind(self) -> type:
    """Type of the value."""
    return self.type_if_none or type(self.default)
