"""What a command of `dp-budget` answers, and how numbers are written.

Invariant: bounds are rounded to the safe side wherever a person reads them;
the data for programs hold every digit.

>>> print(table(("steps", "epsilon"), [("1", "0.142"), ("1000", "3.883")]))
steps  epsilon
1      0.142
1000   3.883
"""

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any

from accounting import claims
from accounting.budget.arguments import Plan
from accounting.composition import AnyMechanism


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
  """Result of a command.

  Attributes:
    fields: The data, for --json.
    text: The same for a person.
    mechanism: The run that the answer is about, or None if the answer itself
      says all there is to say about how it draws batches.
    warnings: Texts that must be said with the numbers.
    notes: Texts of what was derived from the arguments.
    pure: Whether the text is a document of a format of its own, to which
      nothing can be added.
    rows: Texts of the answer's main table, row by row; () where there is none.
  """

  fields: dict[str, Any]
  text: str
  mechanism: AnyMechanism | None = None
  warnings: tuple[str, ...] = ()
  notes: tuple[str, ...] = ()
  pure: bool = False
  rows: tuple[tuple[str, ...], ...] = ()


def fields(plan: Plan, arguments: argparse.Namespace) -> dict[str, Any]:
  """Returns the data that describe the run and how it is accounted for.

  Args:
    plan: Plan of the run.
    arguments: Parsed command line.
  """
  return {
      "delta": plan.delta,
      "accountant": arguments.accountant,
      "neighboring_relation": plan.mechanism.neighboring_relation,
      **plan.mechanism.to_dict(),
  }


def sentence(found: dict[str, Any]) -> str:
  """Returns an epsilon in one line of text.

  Args:
    found: Data of the answer.
  """
  return (
      f"epsilon {claims.at_most(found['epsilon'])} at delta "
      f"{claims.at_most_short(found['delta'])} "
      f"({found['accountant']}, {found['neighboring_relation']})"
  )


def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
  """Returns rows of text in aligned columns.

  Args:
    header: Names of the columns.
    rows: Texts of each row, one a column.
  """
  widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
  return "\n".join(
      "  ".join(f"{v:<{w}}" for v, w in zip(row, widths, strict=True)).rstrip()
      for row in (header, *rows)
  )
