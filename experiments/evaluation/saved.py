"""A finished or unfinished run's parameters, with the examples of a split.

Invariant: nothing in the run's folder is touched, and its training data are not
read, unless they are the split that is asked for.
"""

import pathlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections
import numpy as np

from experiments.evaluation import outcomes
from experiments.plan import averages, fields, public_files, splits
from experiments.run import workdir as workdir_lib
from experiments.tasks import imported, registry
from experiments.tasks import task as task_lib


class SavedRun(NamedTuple):
  """What a run saved last, and what to try it on.

  Attributes:
    config: The run's.
    task: Task that it learned.
    split: The split's name.
    source: Its examples.
    predictor: Predictor for these examples.
    step: Updates done.
    params: Parameters by name; see `plan/averages.py`.
  """

  config: ml_collections.ConfigDict
  task: task_lib.Task
  split: str
  source: task_lib.Source
  predictor: task_lib.Predictor
  step: int
  params: dict[str, Any]

  @property
  def is_private(self) -> bool:
    """Whether the split has examples that the run was trained on."""
    return splits.share_examples(self.split, self.config.data.train_split)

  def collect(self, name: str, rows: np.ndarray) -> Any:
    """Runs the model with the parameters of that name over some examples.

    Args:
      name: Name of the parameters: "last" or an average.
      rows: Indices of the examples, [n].

    Returns:
      The outputs, one row an example, as NumPy arrays.
    """
    return outcomes.collect(
        self.task,
        self.predictor,
        self.params[name],
        self.source,
        rows,
        batch_size=self.config.eval.batch_size,
    )


def load(
    path: pathlib.Path,
    *,
    split: str | None = None,
    labels: Sequence[str] | None = None,
    what: str = "workdir",
) -> SavedRun:
  """Reads a run's folder.

  Args:
    path: The folder.
    split: The split's name; the config's test split by default.
    labels: Labels to report, not the config's eval.labels; () for all.
    what: Name of the folder, for the error text.

  Returns:
    The run.

  Raises:
    ValueError: If it holds no run, or no checkpoint, or an audit's; or if a
      public file of the run has changed.
    CheckpointError: If there are checkpoints, and none can be read.
  """
  workdir = workdir_lib.Workdir(path)
  stored = workdir.read_config()
  if stored is None:
    raise ValueError(f"{what} must hold a run, got {path}.")
  if "audit" in stored:
    raise ValueError(
        f"{what} must hold a run without canaries, got {path}, an audit's."
    )
  config = fields.from_json(stored)
  if labels is not None:
    config.eval.labels = tuple(labels)
  warn_of_other_code(stored, config)
  task = registry.build(**fields.task_sections(config))
  public_files.check(stored, task, folder=path)
  split = split or config.data.test_split
  source = task.load(split, for_evaluation=True)
  predictor = task.build_predictor(source)
  step, params, _ = averages.restore(
      workdir.checkpoints, config.train, predictor.params
  )
  return SavedRun(config, task, split, source, predictor, step, params)


def warn_of_other_code(
    stored: Mapping[str, Any], config: ml_collections.ConfigDict
) -> None:
  """Warns if own code is not what a run was trained with.

  Args:
    stored: Its config.json.
    config: The same, checked.

  Raises:
    ValueError: If own code is not found.
  """
  ours = fields.find_own(config)
  if differs := imported.difference(stored.get(workdir_lib.IMPORTED), ours):
    warnings.warn(
        "The run was trained with other code than is found now, and may predict"
        f" otherwise: {differs}.",
        stacklevel=3,
    )
