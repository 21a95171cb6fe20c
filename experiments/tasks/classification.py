"""The task of images that are of one class each.

Invariant: nothing is kept of an example but its label and that label's rank
among the classes: memory grows neither with images nor with classes.

>>> import numpy as np
>>> logits = np.array([[2.0, 1.0, 0.0], [0.0, 2.0, 1.0]])
>>> Outcomes(np.array([1, 1]), accuracies.ranks(np.array([1, 1]), logits)).ranks
array([1, 0], dtype=int32)
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from experiments.metrics import accuracies
from experiments.metrics import estimate as estimate_lib
from experiments.tasks import task as task_lib
from experiments.tasks.images import image_task
from jax_privacy.auditing import input_canaries

# Of fewer classes the first five say little.
_LEAST_CLASSES_FOR_TOP5 = 10


class Outcomes(NamedTuple):
  """What a model made of examples that are of one class each.

  Attributes:
    labels: Labels, int32 [num_examples].
    ranks: Number of classes before the right one, int32 [num_examples].
  """

  labels: np.ndarray
  ranks: np.ndarray


class Classification(image_task.ImageTask):
  """Images of one class each: softmax loss, accuracies, disparities."""

  metrics = {"accuracy": "accuracy", "top5_accuracy": "top-5 accuracy"}
  is_multi_label = False

  def outcomes(self, source, batch, outputs) -> Outcomes:
    """See `task.Task`."""
    labels, logits = batch["label"], np.asarray(outputs, np.float32)
    return Outcomes(labels, accuracies.ranks(labels, logits))

  def overall(self, source, outcomes) -> dict[str, estimate_lib.Estimate]:
    """Returns the accuracy; of ten classes or more, top-5 accuracy too.

    Args:
      source: Source that was evaluated.
      outcomes: Outcomes of evaluation on the source.
    """
    numbers = {"accuracy": accuracies.accuracy(outcomes.ranks)}
    if source.num_classes >= _LEAST_CLASSES_FOR_TOP5:
      numbers["top5_accuracy"] = accuracies.accuracy(outcomes.ranks, top=5)
    return numbers

  def tables(self, source, outcomes) -> list[task_lib.Section]:
    """Returns one table: of classes, with the disparity between them.

    Args:
      source: Source that was evaluated.
      outcomes: Outcomes of evaluation on the source.
    """
    return [by_class(source.label_names, outcomes.labels, outcomes.ranks)]

  def group_metric(self, source, outcomes):
    """Returns the accuracy of a group.

    Args:
      source: Source that was evaluated.
      outcomes: Outcomes of evaluation on the source.
    """
    return lambda rows: accuracies.accuracy(outcomes.ranks[rows])

  def summary_numbers(self, values) -> dict[str, Any]:
    """Keeps the names that summaries have for accuracies.

    Args:
      values: Values by metric, then by name of the parameters.

    Returns:
      The numbers by key of the summary.
    """
    accuracy = values["accuracy"]
    others = {k: v for k, v in values.items() if k != "accuracy"}
    return {
        "test_accuracy": accuracy[self.eval_config.params],
        "test_accuracy_ema": accuracy["ema"],
        "test_accuracies": dict(accuracy),
        **super().summary_numbers(others),
    }

  def probabilities(self, logits) -> jax.Array:
    """See `ImageTask`."""
    return jax.nn.softmax(logits)

  def input_canaries(
      self, train_source, test_source, predictor, *, num_canaries, seed
  ) -> task_lib.InputCanaries:
    """Returns test images with wrong labels.

    Args:
      train_source: The training split.
      test_source: The test split, loaded for evaluation.
      predictor: Predictor for examples of the test split.
      num_canaries: Number of canaries.
      seed: Seed of the choice of images.

    Raises:
      ValueError: If test images are too few, or of another shape.
    """
    if test_source.image_shape != train_source.image_shape:
      raise ValueError(
          "data.test_options must leave images of the training split's shape"
          f" for 'input' canaries, got {test_source.image_shape} for"
          f" {train_source.image_shape}."
      )
    if num_canaries > len(test_source):
      raise ValueError(
          "num_canaries must be at most the number of test images for 'input'"
          f" canaries, {len(test_source)}, got {num_canaries}."
      )
    chosen = np.arange(num_canaries) * len(test_source)
    rows = input_canaries.mislabelled(
        test_source[chosen // num_canaries],
        num_classes=test_source.num_classes,
        seed=seed,
    )

    def losses_fn(params, batch):
      logits = predictor.predict_fn(params, batch)
      return optax.softmax_cross_entropy_with_integer_labels(
          logits, batch["label"]
      )

    return task_lib.InputCanaries(rows, losses_fn)


def by_class(
    label_names: Sequence[str], labels: np.ndarray, ranks: np.ndarray
) -> task_lib.Section:
  """Returns the table of classes, with the disparity between them.

  Args:
    label_names: Names of the classes.
    labels: Integers [num_examples].
    ranks: Ranks of `accuracies.ranks`, [num_examples].
  """
  rows = {
      name: accuracies.accuracy(ranks[labels == label])
      for label, name in enumerate(label_names)
  }
  got = accuracies.disparity(
      {name: row.value for name, row in rows.items()},
      overall=accuracies.accuracy(ranks).value,
  )
  facts = {
      "absolute_disparity": got.absolute,
      "relative_disparity": got.relative,
      "worst": got.worst,
  }
  line = (
      f"disparity: absolute {got.absolute:.2%}, relative {got.relative:.3f}"
      f" (worst: {got.worst})"
  )
  notes = task_lib.left_out(rows)
  return task_lib.Section("class", rows, facts, (line,), notes)
