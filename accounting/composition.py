"""Several releases of the same data, as one value.

A person's privacy is spent by all that was ever released about them: phases of
other noise, a run that was continued, two runs. A `Composition` holds the
mechanism of each, and how often it was released. Invariant: all releases have
one neighbouring relation and one unit of privacy; what differs in either is
refused by name.

>>> from accounting import epsilon
>>> from accounting.mechanism import Mechanism
>>> first = Mechanism(noise_multiplier=4.0, sampling_prob=0.01, num_steps=1000)
>>> second = Mechanism(noise_multiplier=2.0, sampling_prob=0.01, num_steps=500)
>>> both = first + second
>>> round(epsilon(both, delta=1e-5), 3)
0.521
>>> round(epsilon(3 * first, delta=1e-5), 3)
0.492
>>> Composition.from_dict(both.to_dict()) == both
True
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeAlias

from accounting import _dominance, _validate, mechanisms
from accounting._composable import Composable
from accounting._composable import unit_of as unit_of
from accounting.disjoint import Disjoint
from accounting.mechanism import Mechanism
from accounting.mechanisms import Basic, Public

# The version that `to_dict` writes, and `from_dict` reads.
VERSION = 1
# Different ones; each is put on a grid and transformed by itself.
MAX_RELEASES = 1000
_MAX_STEPS = 2**53
# Combinations of parts of the splits of disjoint data, each accounted for.
MAX_ALTERNATIVES = 500
# The kind of a `Mechanism`; every other is in the registry of mechanisms.
TRAINING = "dp_sgd"


class Release(NamedTuple):
  """A mechanism, and how often it was released, each time with fresh noise.

  Attributes:
    mechanism: Description of one release.
    count: Number of releases.
  """

  mechanism: "Mechanism | Basic | Disjoint"
  count: int


@dataclasses.dataclass(frozen=True)
class Composition(Composable):
  """All that was released of the same data.

  `a + b` and `3 * a` make one too. The order of releases makes no difference,
  and later ones may depend on what earlier ones gave.

  Attributes:
    releases: Mechanisms, pairs of a mechanism and a count, or compositions.
      Kept as `Release`s; equal mechanisms are one with the sum of their counts.
    unit: Name of what one example of every release is, in a word or two:
      "patient". None where nobody has said.

  Raises:
    ValueError: At construction. If there is no release, or more than 1000 that
      differ; if relations differ; if units differ, or some are stated and
      others not; or if an argument breaks its rule.

  Guarantee:
    Composing is exact (by PLD, but for the grid): every step of every release
    is composed, each direction (adding, removing) by itself. A loss that is
    asymmetric is never replaced by the worse of its two directions. Of
    disjoint data (`Disjoint`) a unit pays for one part: all combinations of
    parts are computed, and the worst is the answer.

    Stated numbers of examples may differ. Composition needs one person's data
    to be the same in all releases, not the number of other people: a data set
    that has grown between two runs is the usual case, and whoever is in both
    is protected as stated. It does need that what a run was given of a data
    set does not depend on the values in it: a run on the first 10,000
    patients qualifies, one on all who look alike does not. A statement says so
    where sizes differ, and a delta is compared with the largest.

  Source: Zhu, Dong and Wang 2022 (2106.08567), Theorem 10, for releases that
    depend on earlier ones.
  """

  releases: tuple[Release, ...]
  unit: str | None = None

  if TYPE_CHECKING:

    def __init__(self, releases: Sequence[Any], unit: str | None = None):
      ...

  def __post_init__(self):
    unit = None if self.unit is None else _validate.unit("unit", self.unit)
    found, units = _flattened(self.releases)
    found = _of_one_relation(_of_one_split_each(found))
    if unit is not None:  # It is said of all that do not state their own.
      units = {unit, *(units - {None})}
    if len(units) > 1:
      _differ("unit", units, "State it for all, as Composition(..., unit=...).")
    relations = {m.neighboring_relation for m in found}
    if len(relations) > 1:
      _differ("neighboring_relation", relations, "Give all the same one.")
    total = sum(count * max(1, m.num_steps) for m, count in found.items())
    if total > _MAX_STEPS:
      _validate.fail("the steps of all releases", "at most 2**53", total)
    releases = tuple(Release(m, count) for m, count in found.items())
    object.__setattr__(self, "releases", releases)
    object.__setattr__(self, "unit", next(iter(units)))

  @property
  def neighboring_relation(self) -> str:
    """Which data sets count as neighbours, for every release."""
    return self.releases[0].mechanism.neighboring_relation

  @property
  def num_examples(self) -> int | None:
    """The largest of the stated numbers of examples; None if none is stated."""
    sizes = [m.num_examples for m, _ in self.releases]
    return max((n for n in sizes if n is not None), default=None)

  @property
  def num_steps(self) -> int:
    """Updates of all releases together."""
    return sum(count * m.num_steps for m, count in self.releases)

  @property
  def expected_epochs(self) -> float:
    """Expected number of steps that an example takes part in, of them all."""
    return sum(count * m.expected_epochs for m, count in self.releases)

  @property
  def parts(self) -> tuple[tuple[Any, int], ...]:
    """The phases of all releases, and how often each is released.

    It is what the accountants read. Each phase has one sampling probability.
    Of disjoint data these are all parts; see `alternatives`.
    """
    return tuple(
        (part, count * times)
        for m, count in self.releases
        for part, times in m.parts
    )

  @property
  def alternatives(self) -> tuple["Composition", ...]:
    """What a unit may pay for: one part of each split of disjoint data.

    Without disjoint data it is the composition itself. A guarantee is the worst
    of these.

    Raises:
      ValueError: If there are more than 500.
    """
    splits = [m for m, _ in self.releases if isinstance(m, Disjoint)]
    if not splits:
      return (self,)
    others = [r for r in self.releases if not isinstance(r.mechanism, Disjoint)]
    choices = [split.alternatives for split in splits]
    if math.prod(map(len, choices)) > MAX_ALTERNATIVES:
      names = ", ".join(repr(split.by) for split in splits)
      raise ValueError(
          f"parts of disjoint data must make at most {MAX_ALTERNATIVES}"
          f" combinations, got {math.prod(map(len, choices))} of {names}. Give"
          " parts the same releases, or the same split the same name."
      )
    found = [
        Composition([*others, *choice], unit=self.unit)
        for choice in itertools.product(*choices)
    ]
    return _dominance.worst(found)

  @property
  def described(self) -> str:
    """The releases and the relation, for a message."""
    number = sum(count for _, count in self.releases)
    return f"{number} releases under {self.neighboring_relation!r}"

  def unsampled(self) -> "Composition":
    """Returns the releases with no chance counted on; see `Mechanism`."""
    return self._each(lambda m: m.unsampled())

  def with_neighboring_relation(self, relation: str) -> "Composition":
    """Returns the same releases under another relation.

    Args:
      relation: Name of the relation; see `Mechanism`.

    Raises:
      ValueError: If it is none, or a release is no training run: its
        sensitivity is stated for one relation.
    """
    if relation == self.neighboring_relation:
      return self
    return self._each(lambda m: m.with_neighboring_relation(relation))

  def _each(self, change) -> "Composition":
    return Composition(
        tuple((change(m), count) for m, count in self.releases), unit=self.unit
    )

  def to_dict(self) -> dict[str, Any]:
    """Returns plain values, as JSON gives them back, and their version."""
    return {
        "version": VERSION,
        "unit": self.unit,
        "releases": [
            {"kind": kind_of(m), "count": count, "mechanism": m.to_dict()}
            for m, count in self.releases
        ],
    }

  @classmethod
  def from_dict(cls, fields: Mapping[str, Any]) -> "Composition":
    """Makes a composition from the result of `to_dict`, trusting nothing.

    Args:
      fields: A mapping, such as parsed JSON.

    Returns:
      The composition. `from_dict(c.to_dict()) == c`.

    Raises:
      ValueError: If `fields` is no such mapping, its version is another one, or
        a release is none.
    """
    _validate.keys("fields", fields, ("version", "unit", "releases"))
    # True == 1, and 1.0 too.
    if type(fields["version"]) is not int or fields["version"] != VERSION:
      _validate.fail("version", f"{VERSION}", fields["version"])
    releases = fields["releases"]
    if not isinstance(releases, list | tuple):
      _validate.fail("releases", "a list of mappings", releases)
    if len(releases) > MAX_RELEASES:
      _validate.fail("releases", f"at most {MAX_RELEASES}", len(releases))
    return cls([_read(each) for each in releases], unit=fields["unit"])


AnyMechanism: TypeAlias = Mechanism | Basic | Disjoint | Composition


def kind_of(mechanism: Mechanism | Basic | Disjoint) -> str:
  """Returns the kind that `Composition.to_dict` writes.

  Args:
    mechanism: Mechanism of one release.
  """
  return TRAINING if isinstance(mechanism, Mechanism) else mechanism.kind


def mechanisms_of(mechanism: AnyMechanism) -> tuple[Mechanism | Basic, ...]:
  """Returns the mechanism, or those that a composition holds.

  Args:
    mechanism: Mechanism or composition; of disjoint data, those of all parts.
  """
  if isinstance(mechanism, Composition):
    return tuple(e for m, _ in mechanism.releases for e in mechanisms_of(m))
  if isinstance(mechanism, Disjoint):
    return tuple(e for _, part in mechanism.of for e in mechanisms_of(part))
  return (mechanism,)


def parts_of_split(
    given: Any, *, unit: str | None
) -> tuple[tuple[str, Composition], ...]:
  """Returns the parts of `Disjoint.of`, checked and sorted.

  Args:
    given: Mapping of names to releases, or pairs of these.
    unit: Name of the unit of privacy; None for what they state.

  Raises:
    ValueError: If it is none, or units or relations differ.
  """
  try:
    held = dict(given)
  except (TypeError, ValueError):
    _validate.fail("of", "a mapping from names of parts", given)
  if not 0 < len(held) <= MAX_RELEASES:
    _validate.fail("of", f"1 to {MAX_RELEASES} parts", len(held))
  parts = [
      (_validate.unit("a part's name", name), Composition([each], unit=unit))
      for name, each in sorted(held.items(), key=lambda pair: str(pair[0]))
  ]
  Composition([part for _, part in parts])  # Checks units and relations.
  return tuple(parts)


def _of_one_split_each(found: dict) -> dict:
  """Merges splits of one name: a unit is in the same part of each."""
  splits: dict[str, dict[str, list]] = {}
  for m, count in found.items():
    if isinstance(m, Disjoint):
      for name, part in m.of:
        held = splits.setdefault(m.by, {}).setdefault(name, [])
        held.append((part, count))
  if not splits:
    return found
  others = {m: k for m, k in found.items() if not isinstance(m, Disjoint)}
  for by, of in splits.items():
    others[Disjoint(by=by, of={n: Composition(p) for n, p in of.items()})] = 1
  return others


def _of_one_relation(found: dict) -> dict:
  """Gives public steps the relation of the others; to them it is nothing."""
  relations = {
      m.neighboring_relation for m in found if not isinstance(m, Public)
  }
  if len(relations) != 1:
    return found
  [relation], made = relations, {}
  for m, count in found.items():
    if isinstance(m, Public):
      m = dataclasses.replace(m, neighboring_relation=relation)
    made[m] = made.get(m, 0) + count
  return made


def check_single(mechanism: Any, *, caller: str) -> None:
  """Refuses a composition where one mechanism is needed.

  Args:
    mechanism: Argument of a public function.
    caller: Name of that function.

  Raises:
    ValueError: If it is a composition.
  """
  if isinstance(mechanism, Composition | Basic | Disjoint):
    name = type(mechanism).__name__
    raise ValueError(
        f"mechanism must be one Mechanism for {caller}, got a {name} of "
        f"{mechanism.described}. Call it for each mechanism."
    )


def _flattened(
    releases: Any,
) -> tuple[dict[Any, int], set[str | None]]:
  """Returns each mechanism's count, and the units that were stated."""
  if isinstance(releases, str | bytes) or not isinstance(releases, Sequence):
    _validate.fail("releases", "a sequence of mechanisms", releases)
  counts: dict[Any, int] = {}
  units: set[str | None] = set()
  for item in releases:
    held, times = _pair(item)
    nested = isinstance(held, Composition)
    units.add(unit_of(held))
    if isinstance(held, Disjoint):
      held = dataclasses.replace(held, unit=None)
    for m, count in held.releases if nested else ((held, 1),):
      counts[m] = counts.get(m, 0) + count * times
  if not counts:
    _validate.fail("releases", "at least one mechanism", releases)
  if len(counts) > MAX_RELEASES:
    rule = f"at most {MAX_RELEASES} that differ"
    _validate.fail("releases", rule, len(counts))
  return counts, units


def _pair(item: Any) -> tuple[Any, int]:
  """Returns what was released, and how often."""
  is_pair = isinstance(item, tuple) and len(item) == 2
  held, times = item if is_pair else (item, 1)
  if not isinstance(held, Composable):
    rule = "a sequence of mechanisms, or of pairs of one and a count"
    _validate.fail("releases", rule, item)
  return held, _validate.integer("count", times)


def _differ(name: str, values: set, remedy: str) -> NoReturn:
  shown = " and ".join(sorted(map(repr, values)))
  raise ValueError(
      f"{name} must be the same for all releases, got {shown}. {remedy}"
  )


def _read(fields: Any) -> Release:
  _validate.keys("a release", fields, ("kind", "count", "mechanism"))
  kinds = (TRAINING, *mechanisms.names(), Disjoint.kind)
  kind = _validate.choice("kind", fields["kind"], options=kinds)
  count = _validate.integer("count", fields["count"])
  own = {TRAINING: Mechanism, Disjoint.kind: Disjoint}
  made = own.get(kind) or mechanisms.get(kind)
  return Release(made.from_dict(fields["mechanism"]), count)
