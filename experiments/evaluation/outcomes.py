"""Runs a model over a split, once, and keeps what its task's metrics need.

Invariant: every example that is looked at counts once, and padding never.
"""

from typing import Any

import jax
import numpy as np

from experiments.tasks import task as task_lib
from jax_privacy import batch_selection


def chosen_rows(
    source: task_lib.Source, num_examples: int | None
) -> np.ndarray:
  """Returns which examples to look at: evenly spaced, as many as asked for.

  Files are often sorted by class, so the first ones would not do.

  Args:
    source: Examples.
    num_examples: Number of examples; None for all.
  """
  num_examples = min(num_examples or len(source), len(source))
  return np.arange(num_examples) * len(source) // num_examples


def collect(
    task: task_lib.Task,
    predictor: task_lib.Predictor,
    params: Any,
    source: task_lib.Source,
    rows: np.ndarray,
    *,
    batch_size: int,
) -> Any:
  """Runs the model over examples of a source.

  Args:
    task: Task that the model was trained for.
    predictor: Predictor of the task, for this source.
    params: Parameters to use.
    source: Examples.
    rows: Indices of examples, at least one.
    batch_size: Examples at a time; the last batch is padded.

  Returns:
    The task's outcomes of the rows, in order.
  """
  predict = jax.jit(predictor.predict_fn)  # Compiled once for all parameters.
  batch_size = min(batch_size, len(rows))
  padded = batch_selection.pad_to_multiple_of(rows, batch_size)
  pieces = []
  for indices in padded.reshape(-1, batch_size):
    batch = source[indices]
    outputs = jax.device_get(predict(params, batch))
    is_real = indices >= 0
    batch, outputs = task_lib.take((batch, outputs), is_real)
    pieces.append(task.outcomes(source, batch, outputs))
  return jax.tree.map(lambda *arrays: np.concatenate(arrays), *pieces)
