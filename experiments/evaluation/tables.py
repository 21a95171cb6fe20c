"""Evaluations on screen: tables on a terminal, plain lines elsewhere.

Invariant: a number is never shown without its error and its examples, nor left
out: one that is not defined has the reason in its place.
"""

import math
import types
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import rich.console
import rich.markup
import rich.table

from experiments.evaluation import results
from experiments.metrics import estimate as estimate_lib
from experiments.tasks import task as task_lib


class _Table(NamedTuple):
  """Rows of text: a name and the cells of the header."""

  title: str
  header: tuple[str, ...]
  rows: list[tuple[str, ...]]
  below: list[str]


def show(
    console: rich.console.Console,
    ours: Sequence[task_lib.Section],
    twins: Sequence[task_lib.Section] | None = None,
    *,
    names: Mapping[str, str] = types.MappingProxyType({}),
) -> None:
  """Prints sections, next to a twin's if there is one.

  Args:
    console: Console to print on.
    ours: Sections of the run.
    twins: The same sections of another model, or None.
    names: Names of metrics for people; see `task.Task`.
  """
  for i, section in enumerate(ours):
    table = _table(section, None if twins is None else twins[i], names)
    if console.is_terminal:
      _show_rich(console, table)
    else:
      _show_plain(console, table, is_first=i == 0)


def one_line(
    overall: Mapping[str, estimate_lib.Estimate], names: Mapping[str, str]
) -> str:
  """Returns the numbers of a whole split on one line.

  Args:
    overall: Estimates by metric.
    names: Names of metrics for people; see `task.Task`.
  """
  return ", ".join(f"{names[k]} {_shown(v)}" for k, v in overall.items())


def _table(section, twin, names) -> _Table:
  header = ("value",)
  if twin is not None:
    header += ("twin", "difference")
    differences = results.difference(section, twin)
  header += ("of",)
  rows = []
  for name, estimate in section.rows.items():
    cells = [names.get(name, name), _shown(estimate)]
    if twin is not None:
      cells += [_shown(twin.rows[name]), _shown(differences[name], sign="+")]
    rows.append((*cells, _count(estimate)))
  below = [*section.lines]
  if twin is not None:
    below += [f"the twin's {line}" for line in twin.lines]
  return _Table(section.title, header, rows, [*below, *section.notes])


def _shown(estimate: estimate_lib.Estimate, *, sign: str = "") -> str:
  if math.isnan(estimate.value):
    return f"undefined ({estimate.why_undefined})"
  is_share = estimate.is_share
  value = estimate_lib.shown(estimate.value, is_share=is_share, sign=sign)
  error = estimate_lib.shown(estimate.standard_error, is_share=is_share)
  return f"{value} +- {error}"


def _count(estimate: estimate_lib.Estimate) -> str:
  if estimate.num_positive is None:
    return str(estimate.num_examples)
  return f"{estimate.num_examples}, {estimate.num_positive} with it"


def _show_rich(console, table) -> None:
  title = rich.markup.escape(table.title)
  drawn = rich.table.Table(title=title, title_justify="left")
  for column in ("", *table.header):
    drawn.add_column(column, justify="left" if not column else "right")
  for row in table.rows:
    drawn.add_row(*map(rich.markup.escape, row))
  console.print(drawn)
  for line in table.below:
    console.print(line, markup=False)


def _show_plain(console, table, *, is_first) -> None:
  """Overall numbers are at the margin, others below their title."""
  indent = "" if is_first else "  "
  if not is_first:
    console.print(f"by {table.title}", markup=False)
  for name, value, *others in table.rows:
    told = zip(table.header[1:], others, strict=True)
    cells = "".join(f", {column} {cell}" for column, cell in told)
    colon = "" if is_first else ":"
    console.print(f"{indent}{name}{colon} {value}{cells}", markup=False)
  for line in table.below:
    console.print(f"{indent}{line}", markup=False)
