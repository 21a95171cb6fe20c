"""A privacy ledger: all that was released of one data set, in one file.

Invariant: what a `Ledger` holds was read from a file of which every line is
sealed, or was just written to one; and no entry is written that takes what is
spent beyond the budget.

>>> import tempfile
>>> from accounting import Laplace
>>> path = pathlib.Path(tempfile.mkdtemp()) / "ledger.toml"
>>> ledger = Ledger.create(
...     path, unit="patient", num_examples=50_000, epsilon=1.0, delta=1e-6)
>>> ledger = ledger.append(
...     Laplace(scale=4.0), what="ages", visible_to="the public")
>>> round(ledger.spent, 3), round(Ledger.read(path).left, 3)
(0.25, 0.75)
>>> ledger.append(Laplace(scale=1.0), what="ages", visible_to="staff")
Traceback (most recent call last):
accounting.ledger.ledger.BudgetError: what is released must be within the \
ledger's budget, epsilon 1 at delta 1e-06, got epsilon 1.250, of which 0.250 \
is spent. Release it with more noise, or not at all: nothing was written.
"""

import dataclasses
import datetime
import functools
import os
import pathlib
from typing import Any

from accounting import _relations, _validate, accountants, claims
from accounting.composition import AnyMechanism, Composition, unit_of
from accounting.epsilons import check_supported, evaluate
from accounting.ledger import entry as entry_lib
from accounting.ledger import file, text
from accounting.ledger.entry import Entry

# A sum that meets the budget may come out above it by rounding.
_ROUNDING = 1 + 1e-9


class BudgetError(ValueError):
  """A release does not fit in the budget."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ledger:
  """The ledger of one data set.

  Attributes:
    path: File that holds it.
    unit: Name of the unit of privacy: "patient". No other is ever mixed in.
    num_examples: Stated, hence public, number of units.
    epsilon: Budget: epsilon of all releases together, at `delta`.
    delta: Delta of the budget.
    neighboring_relation: Name of the relation of every release.
    what: Text that says which data set it is.
    created: Date of the first line.
    entries: Releases, bookings and settlements, in order.
    seal: SHA-256 of the whole file: to be kept elsewhere.
  """

  path: pathlib.Path
  unit: str
  num_examples: int
  epsilon: float
  delta: float
  neighboring_relation: str
  what: str
  created: datetime.date
  entries: tuple[Entry, ...] = ()
  seal: str = ""

  def __post_init__(self):
    _validate.unit("unit", self.unit)
    _validate.integer("num_examples", self.num_examples)
    _validate.text("what", self.what, rule="a text that names the data set")
    if not isinstance(self.created, datetime.date):
      _validate.fail("created", "a date, such as 2026-11-28", self.created)
    checked = {
        "epsilon": _validate.real("epsilon", self.epsilon, low=0),
        "delta": _validate.real("delta", self.delta, low=0, high=1),
        "neighboring_relation": _relations.checked(self.neighboring_relation),
    }
    for name, value in checked.items():
      object.__setattr__(self, name, value)  # The first write of two.

  @classmethod
  def create(
      cls,
      path: str | os.PathLike,
      *,
      unit: str,
      num_examples: int,
      epsilon: float,
      delta: float,
      neighboring_relation: str = "add_or_remove_one",
      what: str = "a data set",
      created: datetime.date | None = None,
  ) -> "Ledger":
    """Writes a new ledger without releases.

    Args:
      path: File to make; there must be none.
      unit: Name of the unit of privacy; see `Ledger` for this and all below.
      num_examples: Stated number of units.
      epsilon: Budget.
      delta: Delta of the budget.
      neighboring_relation: Name of the relation of every release.
      what: Text that says which data set it is.
      created: Date; None for today.

    Returns:
      The ledger, as read back from the file.

    Raises:
      ValueError: If there is such a file, or an argument breaks its rule.
      OSError: If it cannot be written.
    """
    path = pathlib.Path(path)
    made = cls(
        path=path,
        unit=unit,
        num_examples=num_examples,
        epsilon=epsilon,
        delta=delta,
        neighboring_relation=neighboring_relation,
        what=what,
        created=created or datetime.date.today(),
    )
    fields = {name: getattr(made, name) for name in text.HEADER}
    with file.locked(path):
      if path.exists():
        _validate.fail("ledger", "a file that is not there yet", str(path))
      file.replace(path, text.of_header(fields))
      return cls.read(path)

  @classmethod
  def read(cls, path: str | os.PathLike) -> "Ledger":
    """Reads and checks a ledger, trusting nothing.

    Args:
      path: File that holds it.

    Returns:
      The ledger.

    Raises:
      ValueError: If a line is not as it was sealed, or a value breaks its rule;
        the message names the line or the entry.
      OSError: If it cannot be read.
    """
    path = pathlib.Path(path)
    return _parse(path, text.read(path))

  @functools.cached_property
  def released(self) -> Composition | None:
    """All releases, and all runs that are booked; None if there is none."""
    held = [e.released for e in self.entries if e.released is not None]
    return Composition(held, unit=self.unit) if held else None

  @functools.cached_property
  def spent(self) -> float:
    """Epsilon of all releases together, at the budget's delta."""
    return self._epsilon(self.released)

  @property
  def left(self) -> float:
    """Budget less what is spent; at least 0.

    A release of this epsilon fits, and one that is a little larger may too:
    guarantees compose to less than their sum. `after` says.
    """
    return max(0.0, self.epsilon - self.spent)

  @property
  def open_bookings(self) -> tuple[Entry, ...]:
    """Bookings that were not settled: each counts whole."""
    settled = {e.booking for e in self.entries if e.released is None}
    return tuple(
        e
        for e in self.entries
        if e.kind == entry_lib.BOOKING and e.booking not in settled
    )

  def after(self, planned: AnyMechanism) -> float:
    """Returns the epsilon of all releases together with one more.

    Args:
      planned: Mechanism or composition.

    Raises:
      ValueError: If its unit, relation or size is not the ledger's.
    """
    made = self._checked(planned)
    return self._epsilon(
        made if self.released is None else self.released + made
    )

  def append(
      self,
      released: AnyMechanism,
      *,
      what: str,
      visible_to: str,
      date: datetime.date | None = None,
      run: str | None = None,
      params_sha256: str | None = None,
      booking: str | None = None,
  ) -> "Ledger":
    """Writes one more release, if it fits.

    Args:
      released: Mechanism or composition.
      what: Text that says what was released.
      visible_to: Text that says who may see it.
      date: Date of the release; None for today.
      run: Path of the run's folder.
      params_sha256: Digest of the run's parameters.
      booking: Random name; then the run is booked, and has yet to begin.

    Returns:
      The ledger with it, and with what others wrote since this one was read.

    Raises:
      BudgetError: If it does not fit.
      ValueError: If the file was changed by hand, the release is in it already,
        or an argument breaks its rule. Nothing was written.
      OSError: If the file cannot be written; it is as it was.
    """
    made = self._checked(released)
    entry = Entry(
        number=1,
        kind=entry_lib.RELEASE if booking is None else entry_lib.BOOKING,
        date=date or datetime.date.today(),
        what=what,
        visible_to=visible_to,
        released=made,
        run=run,
        booking=booking,
        params_sha256=params_sha256,
    )

    def check(ledger: "Ledger") -> None:
      _check_new(ledger, entry)
      ledger.check_fits(made)

    return self._write(entry, check)

  def settle(self, booking: str, *, params_sha256: str, date=None) -> "Ledger":
    """Writes that a booked run is over. What it costs stays as booked.

    Args:
      booking: Name of the booking.
      params_sha256: Digest of the run's parameters.
      date: Date; None for today.

    Returns:
      The ledger with it.

    Raises:
      ValueError: If there is no such booking, or it is settled.
      OSError: If the file cannot be written; it is as it was.
    """
    booked = self.booked(booking)
    if booked is None:
      _validate.fail("booking", f"one of {self.path.name}", booking)
    entry = dataclasses.replace(
        booked,
        kind=entry_lib.SETTLEMENT,
        date=date or datetime.date.today(),
        released=None,
        params_sha256=params_sha256,
    )

    def check(ledger: "Ledger") -> None:
      if booking not in {e.booking for e in ledger.open_bookings}:
        _validate.fail("booking", "one that is not settled", booking)

    return self._write(entry, check)

  def booked(self, booking: str) -> Entry | None:
    """Returns the booking of that name, or None.

    Args:
      booking: Name of the booking.
    """
    return next(
        (
            e
            for e in self.entries
            if e.booking == booking and e.kind == entry_lib.BOOKING
        ),
        None,
    )

  def check_fits(self, planned: AnyMechanism) -> float:
    """Returns the epsilon with one more release, if it is within the budget.

    Args:
      planned: Mechanism or composition.

    Raises:
      BudgetError: If it is not.
    """
    found = self.after(planned)
    if found > self.epsilon * _ROUNDING:
      raise BudgetError(
          "what is released must be within the ledger's budget, epsilon"
          f" {claims.exact(self.epsilon)} at delta {claims.exact(self.delta)},"
          f" got epsilon {claims.at_most(found)}, of which"
          f" {claims.at_most(self.spent)} is spent. Release it with more"
          " noise, or not at all: nothing was written."
      )
    return found

  def _write(self, entry: Entry, check) -> "Ledger":
    """Appends an entry to what the file holds now."""
    with file.locked(self.path):
      written = text.read(self.path)
      now = _parse(self.path, written)
      check(now)
      numbered = dataclasses.replace(entry, number=len(now.entries) + 1)
      written += text.of_entry(now.seal, numbered)
      made = _parse(self.path, written)  # What is written can be read.
      file.replace(self.path, written)
    return made

  def _checked(self, planned: Any) -> Composition:
    """Returns what is planned, if it can be of this data set."""
    made = Composition([planned])
    unit, size = unit_of(made), made.num_examples
    if unit is not None and unit != self.unit:
      rule = f"{self.unit!r}, as all of the ledger is"
      _validate.fail("unit", f"{rule} (units are never mixed)", unit)
    if made.neighboring_relation != self.neighboring_relation:
      rule = f"{self.neighboring_relation!r}, as the ledger's"
      _validate.fail("neighboring_relation", rule, made.neighboring_relation)
    if size is not None and size > self.num_examples:
      rule = f"at most {self.num_examples}, as the ledger states"
      _validate.fail("num_examples", rule, size)
    return Composition([made], unit=self.unit)

  def _epsilon(self, released: Composition | None) -> float:
    if released is None:
      return 0.0
    names = [
        n for n in accountants.names() if accountants.get(n).supports(released)
    ]
    name = names[0] if names else accountants.TIGHTEST
    check_supported(released, accountant=name)
    return evaluate(released, delta=self.delta, accountant=name).epsilon


def _check_new(ledger: Ledger, entry: Entry) -> None:
  """Refuses what the ledger has already."""
  for held in ledger.entries:
    for name in ("booking", "params_sha256"):
      value = getattr(entry, name)
      if value is not None and value == getattr(held, name):
        _validate.fail(name, f"new, and not of entry {held.number}", value)


def _parse(path: pathlib.Path, written: str) -> Ledger:
  """Returns the ledger that a text holds, each line checked."""
  header, entries, seal = text.parse(path.name, written)
  return Ledger(path=path, entries=entries, seal=seal, **header)
