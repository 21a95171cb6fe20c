"""One release as plain fields, as files of releases and ledgers hold it.

`kind`, the fields of that kind, how often it was released, and, of disjoint
data, the part. Invariant: every key is checked, and an unknown one is refused
by name; what `write` gives, `read` reads back.

>>> made = read({"kind": "laplace", "scale": 2.0, "count": 3}, relation=None)
>>> made.releases[0].count, write(made)[0]["scale"]
(3, 2.0)
"""

from collections.abc import Mapping
from typing import Any

from accounting import _validate, mechanisms
from accounting.composition import TRAINING, Composition, kind_of
from accounting.disjoint import Disjoint
from accounting.mechanism import Mechanism

SPLIT, PART = "disjoint_by", "part"


def read(fields: Any, *, relation: str | None) -> Composition:
  """Makes a release from its fields, trusting nothing.

  Args:
    fields: Mapping of "kind", the fields of that kind, and maybe "count",
      "disjoint_by" and "part"; of a run "expected_batch_size" may replace
      "sampling_prob".
    relation: Name of the neighbouring relation where the fields have none; None
      for each kind's own.

  Returns:
    The release, so often.

  Raises:
    ValueError: If a key is missing or unknown, or a value breaks its rule.
  """
  if not isinstance(fields, Mapping):
    _validate.fail("release", "a table", fields)
  fields = dict(fields)
  count = _validate.integer("count", fields.pop("count", 1))
  by, part = fields.pop(SPLIT, None), fields.pop(PART, None)
  if (by is None) != (part is None):
    missing, given = (PART, SPLIT) if part is None else (SPLIT, PART)
    _validate.fail(missing, f"given with {given}", None)
  made = _mechanism(fields, relation)
  if by is not None:
    made = Disjoint(by=by, of={part: made})
  return Composition([(made, count)])


def _mechanism(fields: dict[str, Any], relation: str | None) -> Any:
  kinds = (TRAINING, *mechanisms.names())
  kind = _validate.choice("kind", fields.pop("kind", None), options=kinds)
  if relation is not None:
    fields.setdefault("neighboring_relation", relation)
  if kind != TRAINING:
    return mechanisms.get(kind).from_dict(fields)
  if "expected_batch_size" in fields and "sampling_prob" not in fields:
    total = _validate.integer("num_examples", fields.get("num_examples"))
    size = fields.pop("expected_batch_size")
    fields["sampling_prob"] = (
        _validate.real(
            "expected_batch_size", size, low=0, high=total, high_ok=True
        )
        / total
    )
  return Mechanism.from_dict(fields)


def write(composition: Composition) -> list[dict[str, Any]]:
  """Returns the fields of each release, without the relation.

  Args:
    composition: Releases to write.

  Raises:
    ValueError: If data are disjoint within a part of disjoint data.
  """
  found = []
  for mechanism, count in composition.releases:
    if not isinstance(mechanism, Disjoint):
      found.append(_fields(mechanism, count))
      continue
    for name, part in mechanism.of:
      for each, times in part.releases:
        if isinstance(each, Disjoint):
          rule = "of one split, to be written as a list of releases"
          _validate.fail(f"part {name!r}", rule, each.by)
        own = {SPLIT: mechanism.by, PART: name}
        found.append(_fields(each, count * times) | own)
  return found


def _fields(mechanism: Any, count: int) -> dict[str, Any]:
  values = mechanism.to_dict()
  del values["neighboring_relation"]
  # What has no value, or nothing in it, is left out: TOML has no null.
  kept = {k: v for k, v in values.items() if v not in (None, [], {})}
  return {"kind": kind_of(mechanism), "count": count} | kept
