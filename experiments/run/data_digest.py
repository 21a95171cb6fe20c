"""Refuses to go on with a run whose training data have changed.

A step that is taken again has the same noise. On other data its sum is another,
and the two results differ by what changed, without noise. So a run keeps a
digest of its data, and goes on only where it is the same.

The invariant: the digest is private. Its key is derived from the run's, its
file is the owner's alone, and nothing that is released holds it.

>>> import numpy as np
>>> from jax_privacy import data, root_key
>>> a, b = (data.load(
...     "arrays", images=np.zeros((2, 4, 4), np.uint8), labels=np.array(labels),
...     num_classes=2) for labels in ([0, 1], [1, 1]))
>>> key = root_key.RootKey.from_seed(0)
>>> len({of_source(source, key) for source in (a, a, b)})
2
"""

import itertools
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from accounting import json_object
from experiments.plan import experiment as experiment_lib
from experiments.plan import not_private, restore
from experiments.run import workdir as workdir_lib
from jax_privacy import checkpoint, root_key, unit_ids
from jax_privacy.data import digest

_LABEL = "digest of the training data"


def of_source(source: Any, run_key: root_key.RootKey, *, unit: str = "") -> str:
  """Returns the digest of a training split: private.

  Args:
    source: Source of rows.
    run_key: Key of the run that the digest is for.
    unit: Name of the column of ids, for a guarantee for units.

  Returns:
    The digest: of what `digest_parts` gives, or else of all that the source
    yields, which is read once.
  """
  parts = digest.parts_of(source)
  if parts is None:
    print(
        "reading the training data once, to know them again: the source has no"
        " digest_parts",
        flush=True,
    )
    parts = digest.yielded(source)
  if unit:
    parts = itertools.chain(parts, _ids(source.column(unit)))
  key = run_key.derive(_LABEL, digest.NUM_KEY_BYTES)
  return digest.keyed(parts, key=key)


def _ids(column: Any) -> Iterator[digest.Part]:
  """Yields whose each row is, and the name of each unit."""
  found = unit_ids.read(column)
  yield found.codes
  for row in np.unique(found.codes, return_index=True)[1]:
    yield found.name(row)


def read(workdir: workdir_lib.Workdir) -> str | None:
  """Returns the digest in a run's folder; None of an older version's run.

  Args:
    workdir: Folder of the run.

  Raises:
    WorkdirError: If the file is damaged.
  """
  path = workdir.path / workdir_lib.DATA_DIGEST
  if not path.exists():
    return None
  try:
    held = json_object.read(path, what=str(path))
  except ValueError as error:
    raise workdir_lib.WorkdirError(str(error)) from error
  found = held.get(workdir_lib.UNRELEASED_METRICS)
  if not isinstance(found, str):
    raise workdir_lib.WorkdirError(
        f"{path} must hold a digest of the training data, got {held!r:.50}."
    )
  return found


def begin(
    experiment: experiment_lib.Experiment, workdir: workdir_lib.Workdir
) -> None:
  """Keeps the digest of the data, before a run's first step.

  Args:
    experiment: Run, as `plan.experiment.build` makes it.
    workdir: Folder of the run.

  Raises:
    WorkdirError: If steps were begun before, by the same seed, on other data.
  """
  if workdir.read_steps_begun():
    check(experiment, workdir)
    return
  workdir.write_data_digest(_of_run(experiment, experiment.run_key))


def check(
    experiment: experiment_lib.Experiment, workdir: workdir_lib.Workdir
) -> None:
  """Refuses to go on with other data; a run from before digests gets one.

  Args:
    experiment: The run, with the key that it began with.
    workdir: Its folder.

  Raises:
    WorkdirError: If the data are others.
  """
  if read(workdir) is None:
    workdir.write_data_digest(_of_run(experiment, experiment.run_key))
  else:
    check_only(experiment, workdir)


def check_only(
    experiment: experiment_lib.Experiment, workdir: workdir_lib.Workdir
) -> None:
  """Refuses other data than a run's, and writes nothing.

  Args:
    experiment: The run, with the key that it began with.
    workdir: Its folder; one of before digests is not refused.

  Raises:
    WorkdirError: If the data are others.
  """
  held = read(workdir)
  if held is not None and held != _of_run(experiment, experiment.run_key):
    raise workdir_lib.WorkdirError(
        "data.source must give the training examples that the run began with,"
        f" got others for {workdir.path} (a private digest of them differs):"
        " steps taken again would show the same noise on two sums. Restore the"
        " data, or begin anew in another folder with another seed, and add"
        " both runs' epsilons."
    )


def check_continued(experiment: experiment_lib.Experiment) -> None:
  """Refuses to compose with a run that was trained on other data.

  Of a run from before digests nothing is known.

  Args:
    experiment: The run that continues another.

  Raises:
    WorkdirError: If the data are not those of the other's digest.
    CheckpointError: If the other's checkpoint, which has its key, is damaged.
  """
  path = pathlib.Path(experiment.config.model.restore.path)
  held = read(workdir_lib.Workdir(path))
  if held is None:
    return
  their_key = _key_of(path, experiment.run_key)
  if held != _of_run(experiment, their_key):
    raise workdir_lib.WorkdirError(
        "model.restore.same_data must be True only for a run on the same data,"
        f" got True for {path}, which began with other training examples (a"
        " private digest of them differs). Restore the data; or set it to"
        " False, and account for both runs yourself."
    )


def check_public(
    experiment: experiment_lib.Experiment, *, data_sha256: str
) -> None:
  """Refuses to take parameters for public that come from the same data.

  Another order of the same examples, or some of them, are not noticed.

  Args:
    experiment: The run, which begins with another's parameters.
    data_sha256: Digest of its stated data; see `resume.facts`.

  Raises:
    WorkdirError: If the other run was trained on the same data.
    CheckpointError: If its checkpoint, which has its key, is damaged.
  """
  path = pathlib.Path(experiment.config.model.restore.path)
  workdir = workdir_lib.Workdir(path)
  held, stored = read(workdir), workdir.read_config() or {}
  if held is None:  # Of an older run, what it states is all that is known.
    is_same = _newest(path, {}).facts.get("data_sha256") == data_sha256
  else:
    unit = stored.get("data", {}).get("unit", "")
    their_key = _key_of(path, experiment.run_key)
    try:
      found = of_source(experiment.row_source, their_key, unit=unit)
    except ValueError:  # These data have no such ids.
      found = None
    is_same = held == found
  if not is_same:
    return
  if not stored.get("dp", {}).get("enabled", True):
    raise workdir_lib.WorkdirError(
        "model.restore.path must be a private run, or one on other data, got"
        f" {path}, which was trained on the same training examples and is"
        f" {not_private.LABEL}: nothing protects what its parameters reveal."
    )
  raise workdir_lib.WorkdirError(
      f"model.restore.same_data must be True for {path}, which was trained on"
      " the same training examples, got False: its parameters are not public,"
      " and both guarantees add up. Continue it with --continue_from, or begin"
      " with parameters that other data gave."
  )


def _newest(path: pathlib.Path, like: Any) -> checkpoint.Restored:
  """Returns the newest checkpoint of a run, of which no file is touched."""
  inner = path / restore.CHECKPOINTS
  folder = inner if inner.is_dir() else path
  with checkpoint.Checkpoints(folder, read_only=True) as checkpoints:
    restored = checkpoints.restore_latest(like)
  if restored is None:  # Its parameters were read from there.
    raise checkpoint.CheckpointError(
        f"{folder} must hold a checkpoint, got none."
    )
  return restored


def _key_of(path: pathlib.Path, like: root_key.RootKey) -> root_key.RootKey:
  restored = _newest(path, {"run_key": like.words()})
  return root_key.RootKey.from_words(restored.state["run_key"])


def _of_run(experiment, run_key) -> str:
  unit = experiment.config.data.unit
  return of_source(experiment.row_source, run_key, unit=unit)
