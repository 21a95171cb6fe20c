"""A finished or unfinished run's parameters, with the examples of a split.

Invariant: nothing in the run's folder is touched, and its training data are not
read, unless they are the split that is asked for.
"""

import pathlib
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from experiments.evaluation import outcomes
from experiments.plan import averages, fields, splits
from experiments.plan import model as model_lib
from experiments.run import workdir as workdir_lib
from jax_privacy import data


class SavedRun(NamedTuple):
  """What a run saved last, and what to try it on.

  Attributes:
    config: The run's.
    split: The split's name.
    source: Its examples.
    model: See `model.Model`.
    step: Updates done.
    params: Parameters by name; see `plan/averages.py`.
  """

  config: ml_collections.ConfigDict
  split: str
  source: data.Source
  model: model_lib.Model
  step: int
  params: dict[str, Any]

  @property
  def is_private(self) -> bool:
    """Whether the split has examples that the run was trained on."""
    return splits.share_examples(self.split, self.config.data.train_split)

  def collect(
      self, name: str, rows: np.ndarray
  ) -> outcomes.Outcomes | outcomes.Scores:
    """Runs the model with the parameters of that name over some examples."""
    return outcomes.collect(
        self.model,
        self.params[name],
        self.source,
        rows,
        batch_size=self.config.eval.batch_size,
    )


def load(
    path: pathlib.Path, *, split: str | None = None, what: str = "workdir"
) -> SavedRun:
  """Reads a run's folder.

  Args:
    path: The folder.
    split: The split's name; the config's test split by default.
    what: What the caller calls the folder, for the message.

  Raises:
    ValueError: If it holds no run, or no checkpoint, or an audit's.
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
  split = split or config.data.test_split
  source = splits.build_source(
      config.data, split, augment_config=config.augment, for_evaluation=True
  )
  model = model_lib.build_for_evaluation(
      config.model,
      source,
      jax.random.key(0),
      data_config=config.data,
      augment_config=config.augment,
  )
  step, params = averages.restore(
      workdir.checkpoints, config.train, model.params
  )
  return SavedRun(config, split, source, model, step, params)
