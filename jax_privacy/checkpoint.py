"""Saves everything a run needs to go on, as one, and reads it back.

The invariant: a checkpoint is whole or absent. Orbax writes it beside its final
place and renames it last, so a run killed while saving still has the one
before. PRNG keys are saved with the rest: a checkpoint holds the noise key and
is as secret as the data.

Example:
  >>> import tempfile, jax, jax.numpy as jnp
  >>> from jax_privacy import checkpoint
  >>> state = {"params": {"w": jnp.ones(3)}, "key": jax.random.key(0)}
  >>> like = {"params": state["params"]}  # A part of what was saved will do.
  >>> with checkpoint.Checkpoints(tempfile.mkdtemp()) as checkpoints:
  ...   checkpoints.save(7, state)
  ...   step, restored = checkpoints.restore_latest(like)
  >>> print(step, restored["params"]["w"])
  7 [1. 1. 1.]
"""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp

from jax_privacy import _validate


class Checkpoints:
  """The checkpoints of one run, in a folder of their own.

  Args:
    directory: Made if it does not exist.
    keep: How many of the newest to keep.
  """

  def __init__(self, directory: str | os.PathLike[str], *, keep: int = 2):
    _validate.integer("keep", keep, at_least=1)
    self._manager = ocp.CheckpointManager(
        pathlib.Path(directory).absolute(),
        options=ocp.CheckpointManagerOptions(max_to_keep=keep, create=True),
    )

  def save(self, step: int, state: Mapping[str, Any]) -> None:
    """Saves named pytrees of arrays or PRNG keys; returns once on disk."""
    items = {k: ocp.args.StandardSave([v]) for k, v in state.items()}
    self._manager.save(step, args=ocp.args.Composite(**items))
    self._manager.wait_until_finished()

  def restore_latest(
      self, like: Mapping[str, Any]
  ) -> tuple[int, dict[str, Any]] | None:
    """Returns the newest (step, state), or None where nothing was saved.

    Args:
      like: For each name to read, a pytree of the structure, shapes and dtypes
        that were saved: arrays or `jax.ShapeDtypeStruct`.

    Raises:
      ValueError: If what was saved has another structure.
    """
    step = self._manager.latest_step()
    if step is None:
      return None
    items = {
        name: ocp.args.StandardRestore(
            jax.tree.map(ocp.utils.to_shape_dtype_struct, [tree])
        )
        for name, tree in like.items()
    }
    restored = self._manager.restore(step, args=ocp.args.Composite(**items))
    return step, {name: restored[name][0] for name in like}

  def close(self) -> None:
    """Waits for what is being written, and lets go of the folder."""
    self._manager.close()

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    self.close()
