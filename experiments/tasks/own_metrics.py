"""Adds metrics of a user's own, `eval.metrics`, to those of any task.

Such a metric is a function `metric(batch, outputs)`, of a batch as the source
gives it and what the predictor gave for it, NumPy arrays both. It returns a
number for each example, [n]; the mean over examples is what is reported.

Invariant: each example's number is its own, so that the standard error is a
mean's, and the task's own numbers stay as they are.

>>> def brier(batch, outputs):
...   return (outputs - batch["label"]) ** 2
>>> check("eval.metrics", np.zeros((3, 2)), num_examples=3)
Traceback (most recent call last):
ValueError: eval.metrics must return a real number for each of 3 examples, got \
float64 [3, 2].
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from experiments.metrics import estimate as estimate_lib
from experiments.tasks import imported
from experiments.tasks import task as task_lib

Metric = Callable[[Any, Any], np.ndarray]


def add(task: task_lib.Task) -> task_lib.Task:
  """Returns the task, with the metrics that its section `eval` names.

  Args:
    task: Task to extend.

  Raises:
    ValueError: If one is not found, is of another kind, or has the name of
      another.
  """
  names = tuple(task.eval_config.metrics)
  for name in names:
    if not imported.is_own(name):
      raise ValueError(
          f"eval.metrics must be names of own code, {imported.FORM}, got"
          f" {name!r:.100}."
      )
    imported.check("eval.metrics", name)
  return _WithMetrics(task, names) if names else task


def check(name: str, values: Any, *, num_examples: int) -> np.ndarray:
  """Returns a metric's numbers, float64 [n].

  Args:
    name: Name of the metric, for the error text.
    values: Result of the metric.
    num_examples: Number of examples, n.

  Raises:
    ValueError: If they are not one real number for each example.
  """
  array = np.asarray(values)
  if array.shape != (num_examples,) or array.dtype.kind not in "fiub":
    raise ValueError(
        f"{name} must return a real number for each of {num_examples} examples,"
        f" got {array.dtype} {list(array.shape)}."
    )
  return array.astype(np.float64)


class _WithMetrics:
  """A task, whose outcomes are a pair: its own, and each metric's numbers.

  What does not take outcomes is the task's own.
  """

  def __init__(self, task: task_lib.Task, names: tuple[str, ...]):
    self._task, self._names = task, names
    short = [name.partition(":")[2] for name in names]
    taken = [*task.metrics, *short]
    if twice := [name for name in short if taken.count(name) > 1]:
      raise ValueError(
          f"eval.metrics must have names of their own, got {twice[0]!r} twice."
      )
    self.metrics = {**task.metrics, **{name: name for name in short}}

  def __getattr__(self, name: str) -> Any:
    if name == "_task":  # Of one that is not made yet, as in unpickling.
      raise AttributeError(name)
    return getattr(self._task, name)

  def _functions(self) -> dict[str, Metric]:
    return {
        name.partition(":")[2]: imported.resolve(
            "eval.metrics",
            name,
            takes=("batch", "outputs"),
            what="a function of batch and outputs",
        )
        for name in self._names
    }

  def outcomes(self, source, batch, outputs):
    size = len(jax.tree.leaves(batch)[0])
    own = {
        name: check(
            f"eval.metrics {name}", function(batch, outputs), num_examples=size
        )
        for name, function in self._functions().items()
    }
    return self._task.outcomes(source, batch, outputs), own

  def overall(self, source, outcomes):
    theirs, own = outcomes
    return {
        **self._task.overall(source, theirs),
        **{name: estimate_lib.mean(values) for name, values in own.items()},
    }

  def tables(self, source, outcomes):
    return self._task.tables(source, outcomes[0])

  def group_metric(self, source, outcomes):
    return self._task.group_metric(source, outcomes[0])

  def targets(self, outcomes):
    return self._task.targets(outcomes[0])

  def read_twin(self, path, source, rows):
    raise ValueError(
        "twin must be a run's folder where there are eval.metrics, which need"
        f" its examples, got {path}."
    )
