"""Saves everything a run needs to go on, as one, and reads it back.

The invariant: a checkpoint that is read back is, to the bit, one that was
saved. Orbax writes it under another name and renames it last, so a run killed
while saving still has the one before. A digest of every array is saved with it,
since Orbax alone returns flipped bits as if they were right. A checkpoint that
cannot be read as it was saved is set aside, and the one before it is used.

PRNG keys are saved with the rest: a checkpoint holds the noise key and is as
secret as the data. The folder is its owner's alone (modes 0700 and 0600).

Example:
  >>> import tempfile, jax, jax.numpy as jnp
  >>> from jax_privacy import checkpoint
  >>> state = {"params": {"w": jnp.ones(3)}, "key": jax.random.key(0)}
  >>> like = {"params": state["params"]}  # A part of what was saved will do.
  >>> with checkpoint.Checkpoints(tempfile.mkdtemp()) as checkpoints:
  ...   checkpoints.save(7, state, facts={"learning_rate": 0.1})
  ...   restored = checkpoints.restore_latest(like)
  >>> print(restored.step, restored.state["params"]["w"], restored.facts)
  7 [1. 1. 1.] {'learning_rate': 0.1}
"""

import hashlib
import itertools
import json
import os
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from jax_privacy import _extras, _owner_only, _validate, sharding

with _extras.needed("checkpoint"):
  import orbax.checkpoint as ocp

_RECORD = "record"  # The item that describes the others.
_KEY = re.compile(r"\['([^']*)'\]|\.(\w+)|\[(\d+)\]")


class CheckpointError(Exception):
  """A checkpoint could not be written, or none could be read."""


class Restored(NamedTuple):
  """Result of `restore_latest`.

  Attributes:
    step: Step of the checkpoint.
    state: The named pytrees that were asked for.
    facts: Facts that `save` was called with.
    damaged: One line for each newer checkpoint that could not be read.
  """

  step: int
  state: dict[str, Any]
  facts: dict[str, Any]
  damaged: tuple[str, ...]


class Item(NamedTuple):
  """Result of `read_latest`.

  Attributes:
    step: Step of the checkpoint.
    leaves: Arrays by the keys that lead to them, as text.
  """

  step: int
  leaves: dict[tuple[str, ...], jax.Array]


class Checkpoints:
  """The checkpoints of one run, in a folder of their own.

  Args:
    directory: Folder, made if it does not exist, unless `read_only`.
    keep: Number of the newest to keep: with two, one may be damaged.
    read_only: Whether to change no file, to read a run that may be going on.

  Raises:
    ValueError: If `keep` is not an integer of at least 1.
  """

  def __init__(
      self,
      directory: str | os.PathLike[str],
      *,
      keep: int = 2,
      read_only: bool = False,
  ):
    _validate.integer("keep", keep, at_least=1)
    self._path = pathlib.Path(directory).absolute()
    self._read_only = read_only
    self._saving: int | None = None
    if not read_only and jax.process_index() == 0:
      _owner_only.make_folder(self._path)
    self._restrict()
    # Not Orbax's own `read_only`, which warns of itself: with these it neither
    # makes nor removes anything until `save`, which is refused here.
    options = ocp.CheckpointManagerOptions(
        max_to_keep=None if read_only else keep,
        create=not read_only,
        cleanup_tmp_directories=not read_only,  # Of a save that was killed.
    )
    self._manager = ocp.CheckpointManager(self._path, options=options)

  def save(
      self,
      step: int,
      state: Mapping[str, Any],
      *,
      facts: Mapping[str, Any] | None = None,
  ) -> None:
    """Copies named pytrees of arrays or PRNG keys, and writes them.

    The state may be donated or changed once this returns; the writing goes on
    in the background, until `wait` or the next `save`.

    Args:
      step: Step of the state, above the steps of all checkpoints.
      state: Pytrees by name.
      facts: Values that JSON can hold, restored with the state.

    Raises:
      ValueError: If the step is not above the others, or with `read_only`.
      CheckpointError: If this or the one before could not be written.
    """
    if self._read_only:
      _validate.fail("read_only", "False to save", True)
    self.wait()
    record: dict[str, Any] = {
        "facts": dict(facts or {}),
        "items": {name: _describe(tree) for name, tree in state.items()},
    }
    record["sha256"] = _json_sha256(record)
    items: dict[str, Any] = {_RECORD: ocp.args.JsonSave(record)}
    items |= {k: ocp.args.StandardSave([v]) for k, v in state.items()}
    self._saving = step
    with self._writing():
      saved = self._manager.save(step, args=ocp.args.Composite(**items))
    if not saved:  # Orbax's way of refusing a step that is not the newest.
      newest = self._manager.latest_step()
      _validate.fail("step", f"above the newest checkpoint's, {newest}", step)

  def wait(self) -> None:
    """Returns once the last checkpoint is on disk.

    Raises:
      CheckpointError: If it could not be written.
    """
    with self._writing():
      self._manager.wait_until_finished()
    self._restrict()

  def restore_latest(self, like: Mapping[str, Any]) -> Restored | None:
    """Returns the newest checkpoint that can be read, None if there is none.

    A newer one that cannot be, or holds other bits, is renamed STEP.damaged1.

    Args:
      like: Pytrees by name to read, of the structure, shapes and dtypes that
        were saved: arrays or `jax.ShapeDtypeStruct`.

    Raises:
      ValueError: If what was saved has another structure.
      CheckpointError: If there are checkpoints, and none can be read.
    """
    damaged = []
    for step in sorted(self._manager.all_steps(), reverse=True):
      try:
        record = self._read_record(step)
        _check_structure(record, like, where=self._path / str(step))
        state = self._read(step, record, like)
      except _StructureError as error:
        raise ValueError(str(error)) from None
      except Exception as error:  # Orbax raises anything, `Exception` too.
        damaged.append(_reason(self._path / str(step), error))
        self._set_aside(step)
      else:
        return Restored(step, state, record["facts"], tuple(damaged))
    if damaged:
      raise CheckpointError(
          "checkpoints must hold one that can be read, got only damaged ones: "
          + " ".join(damaged)
      )
    return None

  def read_latest(self, name: str) -> Item | None:
    """Returns one item of the newest checkpoint, whatever its structure is.

    For taking over parameters: with `restore_latest` the structure must be
    known, and where the newest is damaged the one before is used.

    Args:
      name: Name of a pytree that was saved.

    Returns:
      The item; None if there is no checkpoint.

    Raises:
      ValueError: If the newest has no item of that name, or one with PRNG keys.
      CheckpointError: If it cannot be read, or holds other bits than were
        saved.
    """
    step = self._manager.latest_step()
    if step is None:
      return None
    path = self._path / str(step)
    try:
      record = self._read_record(step)
      if name in record["items"]:
        return Item(step, self._read_leaves(step, name, record["items"][name]))
    except _StructureError as error:
      raise ValueError(str(error)) from None
    except Exception as error:
      raise CheckpointError(
          f"the newest checkpoint must be readable, got {_reason(path, error)}"
      ) from error
    names = ", ".join(sorted(record["items"]))
    raise ValueError(f"item must be one of {names} of {path}, got {name!r}.")

  def close(self) -> None:
    """Waits for what is being written, and lets go of the folder."""
    with self._writing():
      self._manager.close()
    self._restrict()

  def _restrict(self) -> None:
    # Orbax's files have the modes that the umask leaves.
    if not self._read_only:
      _owner_only.restrict(self._path)

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    self.close()

  def _writing(self):
    return _Writing(self._path, self._saving)

  def _read_record(self, step) -> dict[str, Any]:
    args = ocp.args.Composite(**{_RECORD: ocp.args.JsonRestore()})
    record = dict(self._manager.restore(step, args=args)[_RECORD])
    if record.pop("sha256") != _json_sha256(record):
      raise ValueError("its record is not what was saved")
    return record

  def _read(self, step, record, like) -> dict[str, Any]:
    items = {
        name: ocp.args.StandardRestore(
            jax.tree.map(ocp.utils.to_shape_dtype_struct, [tree])
        )
        for name, tree in like.items()
    }
    restored = self._manager.restore(step, args=ocp.args.Composite(**items))
    state = {name: restored[name][0] for name in like}
    for name, tree in state.items():
      if tree_sha256(tree) != record["items"][name]["sha256"]:
        raise ValueError(f"the bits of {name} are not those that were saved")
    return state

  def _read_leaves(self, step, name, item) -> dict[tuple[str, ...], jax.Array]:
    paths = {text: _keys(text) for text in item["leaves"]}
    # On one device, whatever mesh it was saved from.
    place = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    like: dict[str, Any] = {}
    for text, (shape, dtype) in item["leaves"].items():
      if dtype.startswith("key<"):
        raise _StructureError(
            f"item must hold arrays and no PRNG keys, got one in {name}."
        )
      node = like
      for key in paths[text][:-1]:
        node = node.setdefault(key, {})
      node[paths[text][-1]] = jax.ShapeDtypeStruct(
          shape, jnp.dtype(dtype), sharding=place
      )
    args = ocp.args.Composite(**{name: ocp.args.StandardRestore([like])})
    tree = self._manager.restore(step, args=args)[name][0]
    leaves = {text: _at(tree, path) for text, path in paths.items()}
    if _sha256(leaves.items()) != item["sha256"]:
      raise ValueError(f"the bits of {name} are not those that were saved")
    return {paths[text]: leaf for text, leaf in leaves.items()}

  def _set_aside(self, step) -> None:
    if self._read_only:
      return
    names = (f"{step}.damaged{number}" for number in itertools.count(1))
    aside = next(p for p in map(self._path.joinpath, names) if not p.exists())
    if jax.process_index() == 0:
      (self._path / str(step)).rename(aside)
    if jax.process_count() > 1:
      multihost_utils.sync_global_devices(f"set aside {aside.name}")
    self._manager.reload()


def tree_sha256(tree: Any) -> str:
  """Returns a digest of the names, shapes, dtypes and bits of a pytree.

  Of arrays that are split over processes, all of them must ask.

  Args:
    tree: Pytree of arrays or PRNG keys.
  """
  return _sha256(
      (jax.tree_util.keystr(path), leaf)
      for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  )


def _sha256(leaves: Iterable[tuple[str, Any]]) -> str:
  digest = hashlib.sha256()
  for name, leaf in leaves:
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      leaf = jax.random.key_data(leaf)
    array = np.asarray(sharding.to_host(leaf))
    digest.update(f"{name} {array.shape} {array.dtype}\n".encode())
    digest.update(np.ascontiguousarray(array).tobytes())
  return digest.hexdigest()


class _StructureError(ValueError):
  """Another model, not a damaged file: going back would not help."""


class _Writing:
  """A context in which whatever Orbax raises becomes a CheckpointError."""

  def __init__(self, path, step):
    self._path, self._step = path, step

  def __enter__(self):
    return self

  def __exit__(self, kind, error, traceback):
    # A full disk comes as ValueError, RuntimeError or OSError, by what met it.
    if isinstance(error, Exception):
      raise CheckpointError(
          f"checkpoint of step {self._step} must be written whole to"
          f" {self._path}, got {_first_line(error)}"
      ) from error


def _keys(text: str) -> tuple[str, ...]:
  """Returns the keys that `jax.tree_util.keystr` wrote as one text."""
  keys = tuple("".join(found.groups("")) for found in _KEY.finditer(text))
  if "".join(found[0] for found in _KEY.finditer(text)) != text or not keys:
    raise _StructureError(f"item must hold leaves by plain keys, got {text!r}.")
  return keys


def _at(tree, path):
  for key in path:
    tree = tree[key]
  return tree


def _leaves(tree) -> dict[str, list[Any]]:
  """Returns [shape, dtype] by the name of each leaf."""
  return {
      jax.tree_util.keystr(path): [list(leaf.shape), str(leaf.dtype)]
      for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def _describe(tree) -> dict[str, Any]:
  return {"leaves": _leaves(tree), "sha256": tree_sha256(tree)}


def _check_structure(record, like, *, where) -> None:
  for name, tree in like.items():
    saved = record["items"].get(name, {"leaves": {}})["leaves"]
    wanted = _leaves(tree)
    for leaf in sorted(saved.keys() | wanted.keys()):
      if saved.get(leaf) != wanted.get(leaf):
        raise _StructureError(
            f"checkpoint must hold {name}{leaf} as {wanted.get(leaf)}, got"
            f" {saved.get(leaf)} in {where}."
        )


def _json_sha256(value) -> str:
  return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _reason(path, error) -> str:
  return f"{path}: {type(error).__name__}: {_first_line(error)}"


def _first_line(error) -> str:
  text = str(error).strip() or type(error).__name__
  return text.splitlines()[0][:300]
