"""Another model's outcomes on the same examples: of a run, or of a file.

Invariant: the same examples, by their labels: a twin whose labels differ from
ours anywhere is refused, so that differences are never of two data sets.

A file is what the task reads (`Task.read_twin`): for images an archive of
NumPy's, .npz, of `logits`, floats [num_examples, num_classes], and `labels`,
integers as the split has them: one row for each of its examples, in its order.
Whatever trained the model may write it.
"""

import pathlib
from typing import Any, NamedTuple

import numpy as np

from experiments.evaluation import saved


class Twin(NamedTuple):
  """What another model made of the examples.

  Attributes:
    name: Name for people: where it is from, and which parameters.
    found: Its outcomes.
    is_private: Whether it is known to be trained on some of the examples.
  """

  name: str
  found: Any
  is_private: bool = False


def collect(
    path: str, ours: saved.SavedRun, rows: np.ndarray, targets: np.ndarray
) -> Twin:
  """Returns the twin's outcomes.

  Args:
    path: A run's folder, of which the parameters of its own eval.params are
      taken; or a .npz file, see above.
    ours: Run that it is compared with.
    rows: Indices of examples of the split.
    targets: Targets of these examples, as found with ours; see `Task.targets`.

  Raises:
    ValueError: If it is neither, or of other examples.
    CheckpointError: If no checkpoint of the folder can be read.
  """
  if pathlib.Path(path).suffix and not pathlib.Path(path).is_dir():
    twin = Twin(path, ours.task.read_twin(path, ours.source, rows))
  else:
    twin = _from_run(path, ours, rows)
  differ = ours.task.targets(twin.found) != targets
  if differ.any():
    first = rows[np.argwhere(differ)[0][0]]
    raise ValueError(
        "twin must be evaluated on the same examples, got another label of"
        f" example {first} from {path}."
    )
  return twin


def _from_run(path: str, ours, rows) -> Twin:
  run = saved.load(pathlib.Path(path), split=ours.split, what="twin")
  if run.task.name != ours.task.name:
    raise ValueError(
        f"twin must be of task {ours.task.name!r}, got {run.task.name!r}."
    )
  ours.task.check_twin(ours.source, run.source)
  if len(run.source) != len(ours.source):
    raise ValueError(
        f"twin must have {len(ours.source)} examples of {ours.split}, got"
        f" {len(run.source)} from {path}."
    )
  name = run.config.eval.params
  return Twin(
      f"{path}, {name} parameters of step {run.step}",
      run.collect(name, rows),
      is_private=run.is_private,
  )
