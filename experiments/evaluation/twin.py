"""Another model's outcomes on the same examples: of a run, or of a file.

Invariant: the same examples, by their labels: a twin whose labels differ from
ours anywhere is refused, so that differences are never of two data sets.

A file is an archive of NumPy's, .npz, of `logits`, floats [num_examples,
num_classes], and `labels`, integers as the split has them: one row for each of
its examples, in its order. Whatever trained the model may write it.
"""

import pathlib
from typing import NamedTuple

import numpy as np

from experiments.evaluation import outcomes, saved
from jax_privacy import data
from jax_privacy.data import archive


class Twin(NamedTuple):
  """What another model made of the examples.

  Attributes:
    name: For people: where it is from, and which parameters.
    found: Its outcomes.
    is_private: Whether it is known to be trained on some of the examples.
  """

  name: str
  found: outcomes.Outcomes | outcomes.Scores
  is_private: bool = False


def collect(
    path: str, ours: saved.SavedRun, rows: np.ndarray, labels: np.ndarray
) -> Twin:
  """Returns the twin's outcomes.

  Args:
    path: A run's folder, of which the parameters of its own eval.params are
      taken; or a .npz file, see above.
    ours: The run it stands beside.
    rows: Which examples of the split.
    labels: Of these examples, as found with ours.

  Raises:
    ValueError: If it is neither, or of other examples.
    CheckpointError: If no checkpoint of the folder can be read.
  """
  if path.endswith(".npz"):
    twin = _from_file(path, ours.source, rows)
  else:
    twin = _from_run(path, ours, rows)
  differ = twin.found.labels != labels
  if differ.any():
    first = rows[np.argwhere(differ)[0][0]]
    raise ValueError(
        "twin must be evaluated on the same examples, got another label of"
        f" example {first} from {path}."
    )
  return twin


def _from_run(path: str, ours, rows) -> Twin:
  run = saved.load(pathlib.Path(path), split=ours.split, what="twin")
  for what in ("label_names", "is_multi_label"):
    theirs, mine = getattr(run.source, what), getattr(ours.source, what)
    if theirs != mine:
      raise ValueError(f"twin must have the {what} {mine}, got {theirs}.")
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


def _from_file(path: str, source: data.Source, rows) -> Twin:
  shape = (len(source), source.num_classes)
  with archive.Archive(path) as file:
    if missing := {"logits", "labels"} - file.keys():
      raise ValueError(f"{path} must hold {min(missing)}, got none.")
    logits = file.read("logits", kinds="f", ndims=(2,))
    labels = file.read("labels", kinds="iu", ndims=(1, 2))
  labels_shape = shape if source.is_multi_label else shape[:1]
  for name, array, wanted in (
      ("logits", logits, shape),
      ("labels", labels, labels_shape),
  ):
    if array.shape != wanted:
      raise ValueError(
          f"{name} of {path} must be of shape {wanted}, got {array.shape}."
      )
  # Checked before they are used: a wrong one is no row of the logits.
  low, high = (-1, 1) if source.is_multi_label else (0, source.num_classes - 1)
  if labels.min() < low or labels.max() > high:
    raise ValueError(
        f"labels of {path} must be in [{low}, {high}], got"
        f" {labels.min()} to {labels.max()}."
    )
  found = outcomes.outcomes(
      source, labels[rows].astype(np.int32), logits[rows].astype(np.float32)
  )
  return Twin(path, found)
