"""What a page says of a run's privacy: recomputed, or not claimed at all.

Invariant: an epsilon of a finished run is on a page only if its summary was
verified, every number of it computed again; one of a run that goes on is called
spent so far, and is never below the last that was logged.

>>> shown(None), shown(2.9992418839321116)
('not claimed', '3.000')
"""

import pathlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from accounting import claims, json_object
from accounting import ledger as ledger_lib
from accounting import statement as statement_lib
from accounting.budget import audit as audit_lib
from accounting.budget import report as report_lib
from experiments.plan import not_private, units
from experiments.reports import markup
from experiments.reports import run_files as run_files_lib

_NO_CLAIM = "not claimed"
_CONTRADICTS = "contradicts the claim"
_BOOKING = "ledger.json"
# What checking a file that anyone can have written may end with.
_REFUSED = (ValueError, OSError, TypeError, KeyError, AttributeError)
_REFUSED += (OverflowError, ArithmeticError)


class Privacy(NamedTuple):
  """What may be said of a run.

  Attributes:
    epsilon: The claim, or what was spent so far; None where there is none.
    delta: Delta of it.
    sentence: Claim in a sentence, or why there is none.
    statement: Sections of the whole statement, as markup; "" without.
    warnings: Texts that must be said with the claim.
  """

  epsilon: float | None
  delta: float | None
  sentence: str
  statement: markup.Markup = markup.Markup("")
  warnings: Sequence[str] = ()


def of(
    run: run_files_lib.Run, *, audits: Sequence[pathlib.Path] = ()
) -> Privacy:
  """Returns what may be said of a run.

  Args:
    run: The run.
    audits: Folders of audits, of which one may be of this run.
  """
  if not run.is_private:
    return Privacy(None, None, not_private.SENTENCE)
  if run.summary:
    return _of_finished(run, audits)
  if run.audit:
    return Privacy(
        None,
        None,
        "The folder of an audit: its model, trained with canaries, is not for"
        " release, and no claim is made of it.",
    )
  return _of_unfinished(run)


def shown(epsilon: float | None) -> str:
  """Returns an epsilon as a claim is written.

  Args:
    epsilon: The claim; None where there is none.
  """
  return _NO_CLAIM if epsilon is None else claims.at_most(epsilon)


def ledger_line(run: run_files_lib.Run, path: pathlib.Path) -> str:
  """Returns what a data set's ledger says of a run.

  Args:
    run: The run.
    path: File of the ledger.

  Raises:
    ValueError: If the ledger is bad.
    OSError: If it cannot be read.
  """
  ledger = ledger_lib.Ledger.read(path)
  name = _booking(run.path / _BOOKING)
  booked = None if name is None else ledger.booked(name)
  spent = (
      f"{path.name} has epsilon {claims.at_most(ledger.spent)} spent of"
      f" {claims.exact(ledger.epsilon)}"
  )
  if booked is None:
    return f"This run is not booked in {path.name}; {spent}."
  open_names = {each.booking for each in ledger.open_bookings}
  state = "booked, not settled" if name in open_names else "settled"
  return f"Entry {booked.number}, {booked.what!r}, is {state}; {spent}."


def audit_tables(audit: Mapping[str, Any]) -> markup.Markup:
  """Returns what an audit's record says, as stated.

  Args:
    audit: Record, as read.
  """
  number = run_files_lib.number
  confidence = number(audit.get("confidence"))
  joint = audit.get("bounds_jointly")
  joint = joint if isinstance(joint, Mapping) else {}
  bounds = audit.get("bounds")
  rows = []
  for name, bound in bounds.items() if isinstance(bounds, Mapping) else ():
    met = audit_lib.METHODS.get(name, "as stated")
    if name not in joint:
      met += "; not met by these canaries: no bound"
    value = number(bound)
    text = "infinite" if bound is None else "–"
    text = text if value is None else claims.at_least(value)
    rows.append([str(name), markup.Number(text, value), met])
  claimed = number(audit.get("epsilon_of_copies", audit.get("epsilon")))
  contradicted = audit.get("contradicts_claim") is not False
  verdict = (
      "The audit CONTRADICTS the claim."
      if contradicted
      else "The audit does not contradict the claim; no audit proves one."
  )
  facts = [
      ("claimed: epsilon at most", shown(claimed)),
      ("canaries", f"{audit.get('num_canaries')!s:.40}"),
      ("kind of canary", f"{audit.get('canary')!s:.40}"),
      ("confidence of each bound", f"{confidence}"),
      ("verdict", verdict),
  ]
  return markup.join(
      [
          markup.facts("The audit, as its record states it", facts),
          markup.table(
              "Epsilon is at least, by method",
              ["method", "epsilon at least", "assumes"],
              rows,
          )
          if rows
          else "",
      ]
  )


def _of_finished(run, audits) -> Privacy:
  said = []
  try:
    with warnings.catch_warnings(record=True) as caught:
      warnings.simplefilter("always")
      checked = report_lib.verify(run.path)
      audit, notes = _audit(audits, checked, run.path)
      made = report_lib.state(checked, unit=None, audit=audit)
    said = [str(each.message) for each in caught]
  except _REFUSED as error:
    text = _one_line(error)
    return Privacy(None, None, f"No guarantee is claimed: {text}")
  summary = checked.summary
  return Privacy(
      epsilon=float(summary.get("epsilon_composed", summary["epsilon"])),
      delta=checked.delta,
      sentence=made.sections[0].paragraphs[0],
      statement=markup.join(map(_section, made.sections)),
      warnings=tuple(
          dict.fromkeys(
              map(_one_line, [*made.facts["warnings"], *said, *notes])
          )
      ),
  )


def _section(section: statement_lib.Section) -> markup.Markup:
  parts = [markup.Markup(f"<h3>{markup.escape(section.title)}</h3>")]
  parts += [markup.paragraph(text) for text in section.paragraphs]
  if section.rows:
    parts.append(markup.facts(section.title, section.rows))
  return markup.join(parts)


def _audit(
    audits: Sequence[pathlib.Path], checked, path: pathlib.Path
) -> tuple[audit_lib.Audit | None, list[str]]:
  """Returns the audit of the run, if one is; one that contradicts it raises."""
  notes = []
  for folder in audits:
    try:
      return (
          audit_lib.verify(
              folder,
              workdir=path,
              mechanism=checked.mechanism,
              summary=checked.summary,
          ),
          [],
      )
    except (ValueError, OSError) as error:
      if _CONTRADICTS in str(error):
        raise
      notes.append(f"The audit in {folder.name} is left out: {error}")
  return None, notes


def _one_line(text: Any) -> str:
  return " ".join(str(text).split())


def _of_unfinished(run) -> Privacy:
  spent = [run_files_lib.number(line.get("epsilon")) for line in run.metrics]
  spent = [value for value in spent if value is not None]
  delta = run_files_lib.number(run_files_lib.get(run.config, "dp", "delta"))
  if not spent:
    return Privacy(None, delta, "The run is not over, and has logged no step.")
  step = run.metrics[-1]["step"]
  unit = run_files_lib.get(run.config, "data", "unit") or units.EXAMPLE
  return Privacy(
      epsilon=max(spent),
      delta=delta,
      sentence=(
          f"The run is not over. By step {step} its log says that epsilon"
          f" {claims.at_most(max(spent))} is spent, for one"
          f" {unit}. That is no claim: nothing was recomputed."
      ),
  )


def _booking(path: pathlib.Path) -> str | None:
  if not path.is_file():
    return None
  name = json_object.read(path, what=path.name).get("booking")
  return name if isinstance(name, str) else None
