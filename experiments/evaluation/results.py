"""What an evaluation found, as sections of rows; alone, or beside a twin's.

Invariant: each number that is printed is one of JSON's, made in one place; and
beside a twin every number is of the same examples, so that differences and
their errors are paired.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.evaluation import groups, outcomes
from experiments.metrics import accuracies, roc
from experiments.metrics import estimate as estimate_lib
from experiments.plan import splits
from jax_privacy import data

OVERALL = "overall"


class Section(NamedTuple):
  """Numbers of one kind.

  Attributes:
    title: "overall", "class" or "label"; or a column of groups, or two.
    rows: Estimates by name.
    facts: What follows from them: disparities or the largest gap. By name,
      numbers and names of rows.
    notes: What is to be said of them.
  """

  title: str
  rows: dict[str, estimate_lib.Estimate]
  facts: dict[str, float | str | None]
  notes: tuple[str, ...] = ()


def sections(
    found: outcomes.Outcomes | outcomes.Scores,
    source: data.Source,
    rows: np.ndarray,
    *,
    labels: Sequence[str] = (),
) -> list[Section]:
  """Returns all that is told of a model's outcomes.

  Args:
    found: What the model made of the examples.
    source: What they are from.
    rows: Which of its examples they are.
    labels: With many labels, those to report; all if empty.
  """
  overall = outcomes.overall(found, source, labels=labels)
  told = [Section(OVERALL, overall, {})]
  if isinstance(found, outcomes.Outcomes):
    told.append(_of_classes(found, source.label_names))
  else:
    columns = splits.reported(source, labels)
    names = [source.label_names[i] for i in columns]
    found = outcomes.Scores(found.labels[:, columns], found.scores[:, columns])
    told.append(_of_labels(found, names))
    # What nobody has cannot be told of any group; it is named above.
    defined = [not e.why_undefined for e in told[-1].rows.values()]
    found = outcomes.Scores(found.labels[:, defined], found.scores[:, defined])
    names = [name for name, is_in in zip(names, defined, strict=True) if is_in]
  codes = {k: group.codes[rows] for k, group in source.groups.items()}
  group_names = {k: group.names for k, group in source.groups.items()}
  for split in groups.splits(codes, group_names):
    told.append(
        _of_groups(split, found, names if source.is_multi_label else ())
    )
  return told


def difference(
    ours: Section, twins: Section
) -> dict[str, estimate_lib.Estimate]:
  """Returns ours less the twin's, row by row."""
  return {
      name: estimate.minus(twins.rows[name])
      for name, estimate in ours.rows.items()
  }


def as_json(told: Sequence[Section]) -> dict[str, Any]:
  """Returns sections by title, as JSON has them: None for what is undefined."""
  return {
      section.title: {
          "rows": {k: estimate_json(v) for k, v in section.rows.items()},
          **section.facts,
          **({"notes": list(section.notes)} if section.notes else {}),
      }
      for section in told
  }


def differences_as_json(
    ours: Sequence[Section], twins: Sequence[Section]
) -> dict[str, Any]:
  """Returns ours less the twin's, by title of the section and name."""
  return {
      mine.title: {
          name: estimate_json(estimate)
          for name, estimate in difference(mine, other).items()
      }
      for mine, other in zip(ours, twins, strict=True)
  }


def estimate_json(estimate: estimate_lib.Estimate) -> dict[str, Any]:
  """Returns an estimate's value, error and number of examples."""
  told = {
      "value": _finite(estimate.value),
      "standard_error": _finite(estimate.standard_error),
      "num_examples": estimate.num_examples,
  }
  if estimate.num_positive is not None:
    told["num_positive"] = estimate.num_positive
  if estimate.why_undefined:
    told["why_undefined"] = estimate.why_undefined
  return told


def _of_classes(found, label_names) -> Section:
  rows = {
      name: accuracies.accuracy(found.ranks[found.labels == label])
      for label, name in enumerate(label_names)
  }
  got = accuracies.disparity(
      {name: row.value for name, row in rows.items()},
      overall=accuracies.accuracy(found.ranks).value,
  )
  facts = {
      "absolute_disparity": got.absolute,
      "relative_disparity": got.relative,
      "worst": got.worst,
  }
  return Section("class", rows, facts, _left_out(rows))


def _of_labels(found, names) -> Section:
  rows = {
      name: roc.auc(found.labels[:, i], found.scores[:, i])
      for i, name in enumerate(names)
  }
  return Section("label", rows, {}, _left_out(rows))


def _left_out(rows: Mapping[str, estimate_lib.Estimate]) -> tuple[str, ...]:
  names = [name for name, row in rows.items() if row.why_undefined]
  return (f"left out: {', '.join(names)}",) if names else ()


def _of_groups(split, found, names) -> Section:
  rows = {k: _of_group(found, rows, names) for k, rows in split.rows.items()}
  notes = [split.left_out] if split.left_out else []
  if split.num_unknown:
    notes.append(f"of unknown group: {split.num_unknown} examples")
  gap, facts = groups.largest_gap(rows), {}
  if gap is not None:
    facts = {
        "largest_gap": gap.value,
        "largest_gap_standard_error": gap.standard_error,
        "highest": gap.highest,
        "lowest": gap.lowest,
    }
  elif rows:
    notes.append("no gap: fewer than two groups have a number")
  return Section(split.column, rows, facts, tuple(notes))


def _of_group(found, rows, names) -> estimate_lib.Estimate:
  """Accuracy, or the mean area over the labels that all groups are told of.

  An area over some labels is not to be compared with one over others: a group
  in which one is not defined has no number.
  """
  if isinstance(found, outcomes.Outcomes):
    return accuracies.accuracy(found.ranks[rows])
  labels, scores = found.labels[rows], found.scores[rows]
  each = [roc.auc(labels[:, i], scores[:, i]) for i in range(len(names))]
  for name, estimate in zip(names, each, strict=True):
    if estimate.why_undefined:
      why = f"too small: {estimate.why_undefined} ({name})"
      return estimate._replace(
          num_examples=len(rows), num_positive=None, why_undefined=why
      )
  if not each:
    why = "no label is defined"
    return estimate_lib.Estimate(
        math.nan, np.zeros(len(rows)), len(rows), why_undefined=why
    )
  return roc.macro(each)


def _finite(value: float) -> float | None:
  return value if math.isfinite(value) else None
