"""A finished or unfinished run's parameters, with the examples of a split.

Invariant: nothing in the run's folder is touched, and its training data are not
read, unless they are the split that is asked for.
"""

import pathlib
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from experiments import (
    _averages,
    _build,
    _evaluation,
    _fields,
    _model,
    _workdir,
)
from jax_privacy import data


class SavedRun(NamedTuple):
  """What a run saved last, and what to try it on.

  Attributes:
    config: The run's.
    split: The split's name.
    source: Its examples.
    model: See `_model.Model`.
    step: Updates done.
    params: Parameters by name; see `_averages.py`.
  """

  config: ml_collections.ConfigDict
  split: str
  source: data.Source
  model: _model.Model
  step: int
  params: dict[str, Any]

  @property
  def is_private(self) -> bool:
    """Whether the split has examples that the run was trained on."""
    return _evaluation.share_examples(self.split, self.config.data.train_split)

  def collect(
      self, name: str, rows: np.ndarray
  ) -> _evaluation.Outcomes | _evaluation.Scores:
    """Runs the model with the parameters of that name over some examples."""
    return _evaluation.collect(
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
  workdir = _workdir.Workdir(path)
  stored = workdir.read_config()
  if stored is None:
    raise ValueError(f"{what} must hold a run, got {path}.")
  if "audit" in stored:
    raise ValueError(
        f"{what} must hold a run without canaries, got {path}, an audit's."
    )
  config = _fields.from_json(stored)
  split = split or config.data.test_split
  source = _build.build_source(config, split, for_evaluation=True)
  model = _model.build_for_evaluation(config, source, jax.random.key(0))
  step, params = _averages.restore(workdir.checkpoints, config, model.params)
  return SavedRun(config, split, source, model, step, params)
