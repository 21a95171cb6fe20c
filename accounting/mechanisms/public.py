"""A step that reads no private data, and so costs nothing.

Listing it says that it was thought of. Invariant: it adds nothing to any
epsilon, and every statement says what it was.

>>> Public(what="normalised by the mean of ImageNet").words
'a public step, which costs nothing: normalised by the mean of ImageNet'
"""

import dataclasses
from typing import Any, Self

from accounting import _validate
from accounting.mechanisms.basic import Basic


@dataclasses.dataclass(frozen=True, kw_only=True)
class Public(Basic):
  """A step that depends on no private data.

  Attributes:
    what: Text that says what was done, and with which public data.
    neighboring_relation: Name of the relation; to a public step it is nothing,
      and a composition gives it the others'.
  """

  kind = "public"
  largest_loss = 0.0

  what: str

  def checked(self) -> dict[str, Any]:
    """See `Basic`."""
    rule = "a text that says what was done, and with which public data"
    return {"what": _validate.text("what", self.what, rule=rule)}

  @property
  def words(self) -> str:
    """See `Basic`."""
    return f"a public step, which costs nothing: {self.what}"

  @property
  def parts(self) -> tuple[tuple[Self, int], ...]:
    """Nothing that an accountant reads."""
    return ()

  def with_neighboring_relation(self, relation: str) -> Self:
    """See `Basic`; any will do.

    Args:
      relation: Name of the relation.
    """
    return dataclasses.replace(self, neighboring_relation=relation)

  def of_group(self, count: int) -> Basic:
    """See `Basic`."""
    return self
