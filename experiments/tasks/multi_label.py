"""The task of images that have any number of labels each.

Invariant: a label that is not to be counted (-1) moves no loss and no metric,
and one that the examples do not define is said to be undefined.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.metrics import estimate as estimate_lib
from experiments.metrics import roc
from experiments.tasks import task as task_lib
from experiments.tasks.images import image_task, sources


class Scores(NamedTuple):
  """What a model made of examples that have any number of labels.

  Attributes:
    labels: Labels, int8 [num_examples, num_labels]: 1, 0, or -1 for not
      counted.
    scores: Logits, float32 [num_examples, num_labels].
  """

  labels: np.ndarray
  scores: np.ndarray


class MultiLabel(image_task.ImageTask):
  """Images of several labels each: sigmoid loss, areas under the curve.

  `eval.labels` are the labels that are reported.
  """

  metrics = {"macro_auc": "macro AUC", "micro_auc": "micro AUC"}
  is_multi_label = True

  def outcomes(self, source, batch, outputs) -> Scores:
    """See `task.Task`."""
    return Scores(
        batch["label"].astype(np.int8), np.asarray(outputs, np.float32)
    )

  def overall(self, source, outcomes) -> dict[str, estimate_lib.Estimate]:
    """Returns the areas of the reported labels: their mean, and all pairs'.

    Args:
      source: Source that was evaluated.
      outcomes: Outcomes of evaluation on the source.
    """
    labels, scores, _ = self._reported(source, outcomes)
    return {
        "macro_auc": roc.macro(_areas(labels, scores)),
        "micro_auc": roc.micro(labels, scores),
    }

  def tables(self, source, outcomes) -> list[task_lib.Section]:
    """Returns one table: of the reported labels.

    Args:
      source: Source that was evaluated.
      outcomes: Outcomes of evaluation on the source.
    """
    labels, scores, names = self._reported(source, outcomes)
    rows = dict(zip(names, _areas(labels, scores), strict=True))
    notes = task_lib.left_out(rows)
    return [task_lib.Section("label", rows, notes=notes)]

  def group_metric(self, source, outcomes):
    """Returns the mean area over the labels that all groups have.

    An area over some labels is not to be compared with one over others: a group
    in which one is not defined has no number.

    Args:
      source: Source that was evaluated.
      outcomes: Outcomes of evaluation on the source.
    """
    labels, scores, names = self._reported(source, outcomes)
    # What nobody has is defined for no group; `tables` names it.
    defined = [not e.why_undefined for e in _areas(labels, scores)]
    labels, scores = labels[:, defined], scores[:, defined]
    names = [name for name, is_in in zip(names, defined, strict=True) if is_in]

    def of_rows(rows):
      each = _areas(labels[rows], scores[rows])
      for name, area in zip(names, each, strict=True):
        if area.why_undefined:
          why = f"too small: {area.why_undefined} ({name})"
          return estimate_lib.undefined(len(rows), why=why)
      if not each:
        return estimate_lib.undefined(len(rows), why="no label is defined")
      return roc.macro(each)

    return of_rows

  def summary_numbers(self, values) -> dict[str, Any]:
    """Says that there is no accuracy, under its name.

    Args:
      values: Values by metric, then by name of the parameters.

    Returns:
      The numbers by key of the summary.
    """
    names = ("test_accuracy", "test_accuracy_ema", "test_accuracies")
    return dict.fromkeys(names) | super().summary_numbers(values)

  def probabilities(self, logits) -> jax.Array:
    """See `ImageTask`."""
    return jax.nn.sigmoid(logits)

  def _reported(self, source, outcomes):
    """Returns labels and scores of what is reported, and its names."""
    columns = sources.reported(source, self.eval_config.labels)
    return (
        outcomes.labels[:, columns],
        outcomes.scores[:, columns],
        [source.label_names[i] for i in columns],
    )


def _areas(labels, scores) -> list[estimate_lib.Estimate]:
  return [roc.auc(labels[:, i], scores[:, i]) for i in range(labels.shape[1])]
