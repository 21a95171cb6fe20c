"""`dp-budget ledger`: what was released of one data set, and what is left.

Invariant: `show`, `check` and `plan` write nothing; `add` writes one entry, or
nothing and says why.
"""

import argparse
import datetime
import pathlib
from collections.abc import Callable
from typing import Any

from accounting import _html, _validate, claims
from accounting import ledger as ledger_lib
from accounting.budget import compose
from accounting.budget import releases as releases_lib
from accounting.budget.answer import Answer, table
from accounting.composition import Composition
from accounting.ledger import Entry, Ledger

HEADER = ("entry", "date", "what", "who may see it", "releases")


def run(arguments: argparse.Namespace) -> Answer:
  """Runs an action.

  Args:
    arguments: Parsed command line, with `action`.

  Returns:
    The answer.

  Raises:
    ValueError: If the ledger was changed by hand, or a release does not fit.
    OSError: If a file cannot be read or written.
  """
  return _RUN[arguments.action](arguments)


def _init(arguments) -> Answer:
  ledger = Ledger.create(
      arguments.ledger,
      unit=arguments.unit,
      num_examples=arguments.num_examples,
      epsilon=arguments.epsilon,
      delta=arguments.delta,
      neighboring_relation=arguments.neighboring,
      what=arguments.what,
  )
  return Answer(
      fields=_facts(ledger), text=f"wrote {arguments.ledger}\n{_state(ledger)}"
  )


def _show(arguments) -> Answer:
  return show(Ledger.read(arguments.ledger))


def show(ledger: Ledger) -> Answer:
  """Returns what was released, what is spent, and what is left.

  Args:
    ledger: Ledger to show.
  """
  fields = _facts(ledger)
  fields["entries"] = [_entry_fields(each) for each in ledger.entries]
  head = (
      f"{ledger.what}: {ledger.num_examples} stated, one {ledger.unit} each,"
      f" {ledger.neighboring_relation}"
  )
  rows = _rows(ledger)
  shown = [table(HEADER, rows)] if rows else []
  text = "\n".join([head, *shown, _state(ledger)])
  return Answer(fields=fields, text=text, rows=rows)


def _check(arguments) -> Answer:
  ledger = Ledger.read(arguments.ledger)
  fields = _facts(ledger)
  if arguments.seal is not None:
    known = ledger_lib.seals(pathlib.Path(arguments.ledger))
    if arguments.seal not in known:
      rule = "one of the ledger's: entries are missing, or all is another's"
      _validate.fail("--seal", rule, arguments.seal)
  text = (
      f"{len(ledger.entries)} entries, every line as it was written\n"
      f"seal {ledger.seal}"
  )
  return Answer(fields=fields, text=text)


def _add(arguments) -> Answer:
  ledger = Ledger.read(arguments.ledger)
  found = releases_lib.read([arguments.release])
  made, notes = _own_release(ledger, found)
  is_run = pathlib.Path(arguments.release).is_dir()
  added = ledger.append(
      made,
      what=arguments.what,
      visible_to=arguments.visible_to,
      date=_date(arguments.date),
      run=arguments.release if is_run else None,
      params_sha256=found.params_sha256,
  )
  text = f"added as entry {len(added.entries)}\n{_state(added)}"
  return Answer(fields=_facts(added), text=text, notes=notes)


def _plan(arguments) -> Answer:
  ledger = Ledger.read(arguments.ledger)
  return plan(ledger, releases_lib.read([arguments.release]))


def plan(ledger: Ledger, found: releases_lib.Found) -> Answer:
  """Returns what a release would leave; writes nothing.

  Args:
    ledger: Ledger to plan against.
    found: Releases that are planned.

  Returns:
    The answer.

  Raises:
    BudgetError: If they do not fit.
    ValueError: If unit, relation or size is not the ledger's.
  """
  notes: tuple[str, ...] = ()
  if found.free is None:
    made, notes = _own_release(ledger, found)
  else:
    before = [] if ledger.released is None else [ledger.released]
    fixed = (
        Composition([*before, *found.fixed], unit=ledger.unit)
        if before or found.fixed
        else None
    )
    searched = releases_lib.Found(
        () if fixed is None else (fixed,), found.free, ledger.unit
    )
    _check_unit(ledger, found)
    whole, note = compose.solve(
        searched,
        epsilon=ledger.epsilon,
        delta=ledger.delta,
        accountant="pld",
    )
    made = Composition([*found.fixed, whole.releases[-1]], unit=ledger.unit)
    notes = (note,)
  after = ledger.check_fits(made)
  fields = _facts(ledger) | {
      "planned": made.to_dict()["releases"],
      "epsilon_after": after,
      "left_after": max(0.0, ledger.epsilon - after),
  }
  left = claims.at_least(fields["left_after"])
  text = (
      f"{_state(ledger)}\nit fits: epsilon {claims.at_most(after)} with it,"
      f" and {left} left"
  )
  return Answer(fields=fields, text=text, notes=notes)


def _check_unit(ledger: Ledger, found: releases_lib.Found) -> None:
  if found.unit not in (None, ledger.unit):
    rule = f"{ledger.unit!r}, as all of the ledger is"
    _validate.fail("unit", f"{rule} (units are never mixed)", found.unit)


def _own_release(
    ledger: Ledger, found: releases_lib.Found
) -> tuple[Composition, tuple[str, ...]]:
  """Returns what is new to the ledger: of a continued run, its own part."""
  made = found.all
  held = dict(ledger.released.releases) if ledger.released else {}
  wanted: dict[Any, int] = {}
  for each in found.before:
    wanted[each] = wanted.get(each, 0) + 1
  if not wanted:
    return made, ()
  if any(held.get(each, 0) < count for each, count in wanted.items()):
    note = (
        "the run that it continued is not in the ledger: both are counted here"
    )
    return made, (note,)
  left = [
      (m, count - wanted.get(m, 0))
      for m, count in made.releases
      if count > wanted.get(m, 0)
  ]
  note = "the run that it continued is in the ledger: its own steps are counted"
  return Composition(left, unit=made.unit), (note,)


def _date(text: str | None) -> datetime.date | None:
  if text is None:
    return None
  try:
    found = datetime.date.fromisoformat(text)
    if found.isoformat() != text:  # Other forms, such as a number of a week.
      raise ValueError
    return found
  except ValueError:
    _validate.fail("--date", "a date, such as 2026-11-28", text)


def _facts(ledger: Ledger) -> dict[str, Any]:
  """Returns a ledger's numbers, as data."""
  return {
      "what": ledger.what,
      "unit": ledger.unit,
      "num_examples": ledger.num_examples,
      "neighboring_relation": ledger.neighboring_relation,
      "epsilon_budget": ledger.epsilon,
      "delta": ledger.delta,
      "spent": ledger.spent,
      "left": ledger.left,
      "num_entries": len(ledger.entries),
      "open_bookings": [e.number for e in ledger.open_bookings],
      "seal": ledger.seal,
  }


def _entry_fields(entry: Entry) -> dict[str, Any]:
  return entry.fields() | {"date": entry.date.isoformat()}


def _rows(ledger: Ledger) -> tuple[tuple[str, ...], ...]:
  return tuple(
      (
          str(each.number),
          each.date.isoformat(),
          each.what,
          each.visible_to,
          _described(each),
      )
      for each in ledger.entries
  )


def _described(entry: Entry) -> str:
  if entry.released is None:
    return "a booked run is over"
  parts = [
      (f"{count} x " if count > 1 else "") + _html.words(m)
      for m, count in entry.released.releases
  ]
  return ("booked: " if entry.booking else "") + "; ".join(parts)


def _state(ledger: Ledger) -> str:
  """Says what is spent and left, in one line."""
  text = (
      f"spent epsilon {claims.at_most(ledger.spent)} of"
      f" {claims.exact(ledger.epsilon)} at delta {claims.exact(ledger.delta)};"
      f" left {claims.at_least(ledger.left)}"
  )
  if ledger.open_bookings:
    numbers = ", ".join(str(e.number) for e in ledger.open_bookings)
    text += f"; booked, not over: entry {numbers}"
  return text


_RUN: dict[str, Callable[[Any], Answer]] = {
    "init": _init,
    "show": _show,
    "check": _check,
    "add": _add,
    "plan": _plan,
}
