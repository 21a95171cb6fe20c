"""Releases of disjoint data: each unit is in one part, and pays for that alone.

Parallel composition holds only where no unit is in two parts, and nobody but
who holds the data can know that. Invariant: disjointness is stated, by the name
of what splits the data, and every statement prints it; without a name there is
none. Code that does not know of disjoint data composes all parts: it errs on
the safe side.

>>> from accounting import Laplace, epsilon
>>> north, south = Laplace(scale=2.0), Laplace(scale=4.0)
>>> split = Disjoint(by="hospital", of={"north": north, "south": south})
>>> epsilon(split, delta=1e-5) == epsilon(north, delta=1e-5)
True

Source: McSherry 2009, "Privacy integrated queries", Theorem 4.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from accounting import _dominance, _validate
from accounting._composable import Composable

if TYPE_CHECKING:
  from accounting.composition import Composition


@dataclasses.dataclass(frozen=True, kw_only=True)
class Disjoint(Composable):
  """Releases of parts of the data that have no unit in common.

  Attributes:
    kind: Name that `Composition.to_dict` writes.
    by: Name of what splits the data, in a word or two: "hospital". Splits of
      one name in a composition are the same split: a unit is in the same part
      of each.
    of: Mapping from a part's name to what was released of it: a mechanism, or a
      composition. Kept as sorted pairs of a name and a `Composition`.
    unit: Name of the unit of privacy; None for what the parts state.

  Raises:
    ValueError: At construction. If there is no part, relations or units differ,
      or the relation is "replace_one": whoever replaces a unit can move it to
      another part, and then two parts change.

  Guarantee:
    What was released of other parts does not depend on a unit's data. So delta
    at an epsilon is the largest of the parts'. It holds only if no unit is in
    two parts, and if the part of a unit does not depend on other units.
  """

  kind: ClassVar[str] = "disjoint"

  by: str
  of: Any
  unit: str | None = None

  def __post_init__(self):
    from accounting import composition  # It imports this file.

    _validate.unit("by", self.by)
    held = composition.parts_of_split(self.of, unit=self.unit)
    relation = held[0][1].neighboring_relation
    if relation == "replace_one":
      rule = "add_or_remove_one or replace_special for disjoint data"
      why = "a unit that is replaced may come to be in another part"
      _validate.fail("neighboring_relation", f"{rule} ({why})", relation)
    object.__setattr__(self, "unit", held[0][1].unit)
    plain = tuple((n, dataclasses.replace(p, unit=None)) for n, p in held)
    object.__setattr__(self, "of", plain)  # The first write of two.

  @property
  def neighboring_relation(self) -> str:
    """Which data sets count as neighbours, for every part."""
    return self.of[0][1].neighboring_relation

  @property
  def num_examples(self) -> int | None:
    """The largest of the stated numbers of examples; None if none is stated."""
    sizes = [part.num_examples for _, part in self.of]
    return max((n for n in sizes if n is not None), default=None)

  @property
  def num_steps(self) -> int:
    """Updates of the releases of all parts together."""
    return sum(part.num_steps for _, part in self.of)

  @property
  def expected_epochs(self) -> float:
    """Expected number of steps that an example takes part in, at most."""
    return max(part.expected_epochs for _, part in self.of)

  @property
  def parts(self) -> tuple[tuple[Any, int], ...]:
    """The phases of all parts, and how often each is released.

    It is more than any unit pays for; see `Composition.parts`.
    """
    return tuple(pair for _, part in self.of for pair in part.parts)

  @property
  def alternatives(self) -> tuple["Composition", ...]:
    """What a unit may pay for: one part's releases.

    Parts that reveal no more than another one are left out.
    """
    return _dominance.worst(
        [a for _, part in self.of for a in part.alternatives]
    )

  @property
  def described(self) -> str:
    """The split and the relation, for a message."""
    return f"data disjoint by {self.by!r} under {self.neighboring_relation!r}"

  @property
  def words(self) -> str:
    """What it is, for a statement."""
    return f"disjoint data, split by {self.by}, as stated"

  def each(self, change: Callable[["Composition"], Any]) -> "Disjoint":
    """Returns the same split of changed releases.

    Args:
      change: Function of a part's composition.
    """
    held = {name: change(part) for name, part in self.of}
    return Disjoint(by=self.by, of=held, unit=self.unit)

  def with_neighboring_relation(self, relation: str) -> "Disjoint":
    """Returns the same releases under another relation; see `Composition`.

    Args:
      relation: Name of the relation.
    """
    return self.each(lambda part: part.with_neighboring_relation(relation))

  def unsampled(self) -> "Disjoint":
    """Returns the releases with no chance counted on; see `Mechanism`."""
    return self.each(lambda part: part.unsampled())

  def to_dict(self) -> dict[str, Any]:
    """Returns plain values, as JSON gives them back."""
    parts = {name: part.to_dict() for name, part in self.of}
    return {"by": self.by, "of": parts, "unit": self.unit}

  @classmethod
  def from_dict(cls, fields: Any) -> "Disjoint":
    """Makes a split from the result of `to_dict`, trusting nothing.

    Args:
      fields: A mapping, such as parsed JSON.

    Returns:
      The split. `from_dict(d.to_dict()) == d`.

    Raises:
      ValueError: If `fields` is no such mapping, or a part is none.
    """
    from accounting import composition

    _validate.keys("disjoint", fields, ("by", "of", "unit"))
    if not isinstance(fields["of"], Mapping):
      _validate.fail("of", "a mapping from names of parts", fields["of"])
    of = {
        name: composition.Composition.from_dict(part)
        for name, part in fields["of"].items()
    }
    return cls(by=fields["by"], of=of, unit=fields["unit"])
