"""Runs a model over a split, once, and keeps what its metrics need.

Invariant: every example that is looked at counts once, by its own label, and
nothing is kept of it but that label and its rank among the classes, or with
many labels their scores: memory does not grow with images or with classes.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.metrics import accuracies, roc
from experiments.metrics import estimate as estimate_lib
from experiments.plan import model as model_lib
from experiments.plan import splits
from jax_privacy import batch_selection, data

# Of fewer classes the first five say little.
_LEAST_CLASSES_FOR_TOP5 = 10


class Outcomes(NamedTuple):
  """What a model made of examples that are of one class each.

  Attributes:
    labels: int32 [num_examples].
    ranks: How many classes came before the right one, int32 [num_examples].
  """

  labels: np.ndarray
  ranks: np.ndarray


class Scores(NamedTuple):
  """What a model made of examples that have any number of labels.

  Attributes:
    labels: int8 [num_examples, num_labels]: 1, 0, or -1 for not counted.
    scores: Logits, float32 [num_examples, num_labels].
  """

  labels: np.ndarray
  scores: np.ndarray


def chosen_rows(source: data.Source, num_examples: int | None) -> np.ndarray:
  """Returns which examples to look at: evenly spaced, as many as asked for.

  Files are often sorted by class, so the first ones would not do.

  Args:
    source: Examples.
    num_examples: How many; None for all.
  """
  num_examples = min(num_examples or len(source), len(source))
  return np.arange(num_examples) * len(source) // num_examples


def collect(
    model: model_lib.Model,
    params: Any,
    source: data.Source,
    rows: np.ndarray,
    *,
    batch_size: int,
) -> Outcomes | Scores:
  """Runs the model over examples of a source.

  Args:
    model: See `model.Model`.
    params: Parameters to use.
    source: Examples.
    rows: Which of them, at least one.
    batch_size: Examples at a time; the last batch is padded.
  """

  @jax.jit
  def predict(params, images):
    return model.apply_fn(params, model.standardise_fn(images))

  batch_size = min(batch_size, len(rows))
  padded = batch_selection.pad_to_multiple_of(rows, batch_size)
  pieces = []
  for indices in padded.reshape(-1, batch_size):
    batch = source[indices]
    logits = np.asarray(predict(params, batch["image"]), np.float32)
    is_real = indices >= 0
    pieces.append(outcomes(source, batch["label"][is_real], logits[is_real]))
  return type(pieces[0])(*map(np.concatenate, zip(*pieces, strict=True)))


def outcomes(
    source: data.Source, labels: np.ndarray, logits: np.ndarray
) -> Outcomes | Scores:
  """Returns what is kept of a model's logits.

  Args:
    source: What the examples are of.
    labels: Their labels, as the source gives them.
    logits: [num_examples, num_classes].
  """
  if source.is_multi_label:
    return Scores(labels.astype(np.int8), logits.astype(np.float32))
  return Outcomes(labels, accuracies.ranks(labels, logits))


def overall(
    found: Outcomes | Scores,
    source: data.Source,
    *,
    labels: Sequence[str] = (),
) -> dict[str, estimate_lib.Estimate]:
  """Returns the numbers of a whole split, by name.

  Args:
    found: What a model made of it.
    source: The split.
    labels: With many labels, those to report; all if empty.

  Returns:
    "accuracy", and "top5_accuracy" where there are ten classes or more; or
    "macro_auc" and "micro_auc".

  Raises:
    ValueError: If a label is not the source's, or there is one class each.
  """
  columns = splits.reported(source, labels)
  if isinstance(found, Outcomes):
    numbers = {"accuracy": accuracies.accuracy(found.ranks)}
    if source.num_classes >= _LEAST_CLASSES_FOR_TOP5:
      numbers["top5_accuracy"] = accuracies.accuracy(found.ranks, top=5)
    return numbers
  of_label = [roc.auc(found.labels[:, i], found.scores[:, i]) for i in columns]
  return {
      "macro_auc": roc.macro(of_label),
      "micro_auc": roc.micro(
          found.labels[:, columns], found.scores[:, columns]
      ),
  }
