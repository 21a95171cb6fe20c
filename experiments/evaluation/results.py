"""What an evaluation found, as sections of rows; alone, or with a twin's.

Invariant: each number that is printed is one of JSON's, made in one place; and
with a twin every number is of the same examples, so that differences and
their errors are paired.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.evaluation import groups
from experiments.metrics import estimate as estimate_lib
from experiments.tasks import task as task_lib

OVERALL = "overall"


def sections(
    task: task_lib.Task,
    found: Any,
    source: task_lib.Source,
    rows: np.ndarray,
) -> list[task_lib.Section]:
  """Returns all that is known of a model's outcomes.

  Args:
    task: Task that the model was trained for.
    found: Outcomes of the examples.
    source: Source of the examples.
    rows: Indices of the examples in it.
  """
  everything = [overall(task, found, source), *task.tables(source, found)]
  of_all = getattr(source, "groups", {})
  codes = {k: group.codes[rows] for k, group in of_all.items()}
  if not codes:
    return everything
  names = {k: group.names for k, group in of_all.items()}
  of_rows = task.group_metric(source, found)
  return everything + [
      _of_groups(split, of_rows) for split in groups.splits(codes, names)
  ]


def overall(
    task: task_lib.Task, found: Any, source: task_lib.Source
) -> task_lib.Section:
  """Returns the numbers of all examples together.

  Args:
    task: Task of the run.
    found: Outcomes of evaluation.
    source: Source that was evaluated.
  """
  return task_lib.Section(OVERALL, task.overall(source, found))


def difference(
    ours: task_lib.Section, twins: task_lib.Section
) -> dict[str, estimate_lib.Estimate]:
  """Returns ours less the twin's, row by row.

  Args:
    ours: Section of this run.
    twins: The twin's section of the same title.
  """
  return {
      name: estimate.minus(twins.rows[name])
      for name, estimate in ours.rows.items()
  }


def as_json(reported: Sequence[task_lib.Section]) -> dict[str, Any]:
  """Returns sections by title, as JSON has them: None for what is undefined.

  Args:
    reported: Sections in the order of the report.
  """
  return {
      section.title: {
          "rows": {k: estimate_json(v) for k, v in section.rows.items()},
          **section.facts,
          **({"notes": list(section.notes)} if section.notes else {}),
      }
      for section in reported
  }


def differences_as_json(
    ours: Sequence[task_lib.Section], twins: Sequence[task_lib.Section]
) -> dict[str, Any]:
  """Returns ours less the twin's, by title of the section and name.

  Args:
    ours: Sections of this run.
    twins: The twin's sections.
  """
  return {
      mine.title: {
          name: estimate_json(estimate)
          for name, estimate in difference(mine, other).items()
      }
      for mine, other in zip(ours, twins, strict=True)
  }


def estimate_json(estimate: estimate_lib.Estimate) -> dict[str, Any]:
  """Returns an estimate's value, error and number of examples.

  Args:
    estimate: Number, with its standard error.
  """
  reported = {
      "value": _finite(estimate.value),
      "standard_error": _finite(estimate.standard_error),
      "num_examples": estimate.num_examples,
  }
  if estimate.num_positive is not None:
    reported["num_positive"] = estimate.num_positive
  if estimate.why_undefined:
    reported["why_undefined"] = estimate.why_undefined
  return reported


def _of_groups(split, of_rows) -> task_lib.Section:
  rows = {name: of_rows(rows) for name, rows in split.rows.items()}
  notes = [split.left_out] if split.left_out else []
  if split.num_unknown:
    notes.append(f"of unknown group: {split.num_unknown} examples")
  gap, facts, lines = groups.largest_gap(rows), {}, ()
  if gap is not None:
    facts = {
        "largest_gap": gap.value,
        "largest_gap_standard_error": gap.standard_error,
        "highest": gap.highest,
        "lowest": gap.lowest,
    }
    is_share = rows[gap.highest].is_share
    size = estimate_lib.shown(gap.value, is_share=is_share)
    error = estimate_lib.shown(gap.standard_error, is_share=is_share)
    lines = (
        f"largest gap: {size} +- {error} ({gap.highest} above {gap.lowest})",
    )
  elif rows:
    notes.append("no gap: fewer than two groups have a number")
  return task_lib.Section(split.column, rows, facts, lines, tuple(notes))


def _finite(value: float) -> float | None:
  return value if math.isfinite(value) else None
