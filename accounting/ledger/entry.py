"""What one block of a ledger says: a release, a booking, a settlement.

Invariant: an entry that exists was checked field by field; `read` of the fields
that `fields` returns gives the same entry.

>>> from accounting import Laplace
>>> entry = Entry(
...     number=1, date=datetime.date(2026, 11, 28), what="ages",
...     visible_to="the public", released=Composition([Laplace(scale=2.0)]))
>>> Entry.read(entry.fields(), number=1, relation="add_or_remove_one") == entry
True
"""

import dataclasses
import datetime
import re
from collections.abc import Mapping
from typing import Any

from accounting import _validate, release_fields
from accounting.composition import MAX_RELEASES, Composition

RELEASE, BOOKING, SETTLEMENT = "release", "booking", "settlement"
KINDS = (RELEASE, BOOKING, SETTLEMENT)
_ID = re.compile(r"[0-9a-f]{32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_OPTIONAL = ("run", "booking", "params_sha256")
_WHAT = "a text that says what was released"
_SEEN = "a text that says who may see it"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
  """One entry of a ledger.

  Attributes:
    number: Its number, from 1.
    date: Date of the release.
    what: Text that says what was released.
    visible_to: Text that says who may see it. It counts whoever that is.
    released: Releases; None for a settlement, which releases nothing
      beyond its booking.
    kind: Name: "release"; "booking" for a run that is about to begin, and
      counts whole from then on; "settlement" for the end of one.
    run: Path of the run's folder, or None.
    booking: Random name of the booking, 32 hexadecimal digits, or None.
    params_sha256: Digest of the run's parameters, or None.
  """

  number: int
  date: datetime.date
  what: str
  visible_to: str
  released: Composition | None
  kind: str = RELEASE
  run: str | None = None
  booking: str | None = None
  params_sha256: str | None = None

  def __post_init__(self):
    _validate.integer("number", self.number)
    _validate.choice("kind", self.kind, options=KINDS)
    is_date = isinstance(self.date, datetime.date)
    if not is_date or isinstance(self.date, datetime.datetime):
      _validate.fail("date", "a date, such as 2026-11-28", self.date)
    _validate.text("what", self.what, rule=_WHAT)
    _validate.text("visible_to", self.visible_to, rule=_SEEN)
    if self.run is not None:
      _validate.text("run", self.run, rule="a path", most=1000)
    for name, pattern in (("booking", _ID), ("params_sha256", _SHA256)):
      value = getattr(self, name)
      if value is not None and not (
          isinstance(value, str) and pattern.fullmatch(value)
      ):
        _validate.fail(name, "hexadecimal digits", value)
    if (self.kind != RELEASE) != (self.booking is not None):
      _validate.fail("booking", "given for bookings alone", self.booking)
    if (self.kind == SETTLEMENT) != (self.released is None):
      _validate.fail("release", "given, but for a settlement", self.kind)

  def fields(self) -> dict[str, Any]:
    """Returns plain values, as the file holds them."""
    released = self.released
    return {
        "number": self.number,
        "entry": self.kind,
        "date": self.date,
        "what": self.what,
        "visible_to": self.visible_to,
        **{name: getattr(self, name) for name in _OPTIONAL},
        "release": [] if released is None else release_fields.write(released),
    }

  @classmethod
  def read(
      cls, fields: Mapping[str, Any], *, number: int, relation: str
  ) -> "Entry":
    """Makes an entry from its fields, trusting nothing.

    Args:
      fields: Mapping, as parsed from the file.
      number: Number that it must have.
      relation: Name of the ledger's neighbouring relation.

    Returns:
      The entry.

    Raises:
      ValueError: If a key is missing or unknown, or a value breaks its rule.
    """
    known = ("number", "entry", "date", "what", "visible_to")
    for key in known:
      if key not in fields:
        _validate.fail(key, "given in every entry", None)
    if unknown := set(fields) - {*known, *_OPTIONAL, "release"}:
      rule = "of " + ", ".join((*known, *_OPTIONAL, "release"))
      _validate.fail("entry", rule, min(unknown))
    if fields["number"] != number:
      _validate.fail("number", f"{number}, the next one", fields["number"])
    releases = fields.get("release", [])
    if not isinstance(releases, list) or len(releases) > MAX_RELEASES:
      rule = f"a list of at most {MAX_RELEASES} releases"
      _validate.fail("release", rule, releases)
    made = [release_fields.read(each, relation=relation) for each in releases]
    return cls(
        number=number,
        date=fields["date"],
        what=fields["what"],
        visible_to=fields["visible_to"],
        released=Composition(made) if made else None,
        kind=fields["entry"],
        **{name: fields.get(name) for name in _OPTIONAL},
    )
