"""Begins a run with parameters that were trained before: fine-tuning.

The invariant: such parameters are taken to be public, unless they are said to
come from the same data, and the guarantee says nothing about what they were
trained on; so what they are is written wherever
the guarantee is: in the summary, and in the checkpoints, which belong to runs
that began with these bits and no others.

A file is never unpickled: a pickle is a program, and runs when it is read.
"""

import pathlib
from typing import Any

import ml_collections

from accounting import json_object
from experiments.plan import averages as averages_lib
from experiments.plan import continued
from jax_privacy import checkpoint
from jax_privacy.data import archive
from jax_privacy.models import haiku, saved

# Where a run's folder has them.
CHECKPOINTS = "checkpoints"


def initial_params(
    model_config: ml_collections.ConfigDict, params: Any
) -> tuple[Any, dict[str, Any] | None]:
  """Returns a run's initial parameters, and where they come from.

  Args:
    model_config: A config's section. Its `restore` says what to read; see
      `configs.common.base`.
    params: The model's fresh parameters, for whatever is reset.

  Returns:
    The parameters; and None if nothing was read, or else the `path`'s last
    part, the `format`, which of a run's `params`, what was `reset`, and the
    `sha256` of what was taken over; and `private`, False, where they come from
    a run that was not private. With `same_data`, also what `continued.read`
    returns. All of it is public, the file being so; fresh
    parameters, which may come of a secret seed, are not in the digest.

  Raises:
    ValueError: If a field breaks its rule, or the file cannot be read or does
      not fit the model.
  """
  field = model_config.restore
  saved.matching(params, field.reset)
  if field.path is None and field.same_data:
    raise ValueError("same_data must be False without a path, got True.")
  if field.path is None:
    return params, None
  path = pathlib.Path(field.path)
  kind = _kind(path) if field.format == "auto" else field.format
  if kind == "run":
    arrays = _from_run(path, field.params, params, field.reset)
  else:
    table = haiku.names(model_config.name, params) if kind == "haiku" else None
    arrays = _from_file(path, params, field.reset, table)
  filled = saved.fill(params, arrays)
  taken = {name: saved.flatten(filled)[name] for name in sorted(arrays)}
  return filled, {
      "path": path.name,
      "format": kind,
      "params": field.params if kind == "run" else None,
      "reset": list(field.reset),
      "sha256": checkpoint.tree_sha256(taken),
      **_history(field, kind, path),
  }


def _history(field, kind: str, path: pathlib.Path) -> dict[str, Any]:
  """Returns what must be said of how the parameters were trained."""
  if field.same_data:
    if kind != "run":
      raise ValueError(
          f"same_data must be False for a file, of which nothing is known, got"
          f" True for {path}."
      )
    inner = path / CHECKPOINTS
    return continued.read(path, inner if inner.is_dir() else path)
  return {} if kind != "run" or _was_private(path) else {"private": False}


def _was_private(path: pathlib.Path) -> bool:
  """Returns False for the folder of a run with dp.enabled=False."""
  file = path / "config.json"
  if not file.is_file():
    return True
  dp = json_object.read(file, what=str(file)).get("dp")
  return not isinstance(dp, dict) or dp.get("enabled", True) is True


def _kind(path: pathlib.Path) -> str:
  if path.is_dir():
    return "run"
  with _open(path) as file:
    # A path of ours has no slash, a name of Haiku's at least one.
    return "haiku" if any("/" in name for name in file.keys()) else "npz"


def _open(path: pathlib.Path) -> archive.Archive:
  try:
    return archive.Archive(path)
  except ValueError as error:
    raise ValueError(
        f"{error} A run's folder or an .npz file of parameters is read, never a"
        " pickle, which the released Haiku files are: docs/recipes.md says how"
        " to convert one."
    ) from error


def _from_file(path, params, reset, table) -> dict[str, Any]:
  """Returns arrays by dotted path; `table` has the names in the file."""
  with _open(path) as file:
    given = {name: name for name in file.keys()}
    if table is not None:
      given = haiku.current_names(given)
    wanted = saved.match(params, given, reset=reset, names=table)
    return {
        name: file.read(given[theirs], kinds="f", ndims=(0, 1, 2, 3, 4))
        for name, theirs in wanted.items()
    }


def _from_run(path, which, params, reset) -> dict[str, Any]:
  """Returns arrays by dotted path, of a run's newest checkpoint."""
  inner = path / CHECKPOINTS
  folder = inner if inner.is_dir() else path
  if not folder.is_dir():
    raise ValueError(f"path must be a run's folder, got {path}.")
  try:
    with checkpoint.Checkpoints(folder, read_only=True) as checkpoints:
      found = checkpoints.read_latest("params")
      averages = found and checkpoints.read_latest("averages")
  except checkpoint.CheckpointError as error:
    raise ValueError(
        f"path must hold a readable checkpoint: {error}"
    ) from error
  if found is None:
    raise ValueError(f"path must hold a run's checkpoint, got {path}.")
  leaves = found.leaves
  if which != averages_lib.LAST:  # What was frozen is its own average.
    leaves = leaves | _average(averages.leaves, which, path)
  arrays = {".".join(keys): leaf for keys, leaf in leaves.items()}
  wanted = saved.match(params, arrays, reset=reset)
  return {name: arrays[name] for name in wanted}


def _average(leaves, which, path):
  """Returns those of one average, by the parameters' keys."""
  names = {name for name, *_ in leaves}
  if which not in names:
    names = ", ".join([averages_lib.LAST, *sorted(names)])
    raise ValueError(f"params must be one of {names} in {path}, got {which!r}.")
  head = (which, "average")
  return {keys[2:]: v for keys, v in leaves.items() if keys[:2] == head}
