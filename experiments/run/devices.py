"""Starts JAX for a config's mesh, on one process or several.

The invariant: all processes of a run take the same steps, and one alone, the
primary, writes and speaks.

Nothing here runs before the command line was read: how many devices a CPU is
split into, and which processes belong together, is fixed when JAX starts.
"""

import contextlib
import io
import pathlib

import jax
import ml_collections
import numpy as np
from absl import flags
from jax.experimental import multihost_utils

from experiments.plan import fields
from experiments.run import workdir as workdir_lib


def define_flags() -> None:
  """Defines the flags that tell processes of each other."""
  flags.DEFINE_string(
      "coordinator_address",
      None,
      "host:port of process 0, for a run on several processes.",
  )
  flags.DEFINE_integer("num_processes", None, "How many there are.")
  flags.DEFINE_integer("process_id", None, "Which one this is, from 0.")


def start(config: ml_collections.ConfigDict) -> None:
  """Makes devices for the mesh of a config, before JAX makes its own.

  A CPU counts as one device; it is split into as many as this process's share
  of the mesh, unless JAX_NUM_CPU_DEVICES says otherwise.

  Args:
    config: Config of the run.

  Raises:
    ValueError: If a field or flag breaks its rule.
  """
  fields.check(config)
  size = config.mesh.data * config.mesh.fsdp
  address = flags.FLAGS.coordinator_address
  num, index = flags.FLAGS.num_processes, flags.FLAGS.process_id
  if len({x is None for x in (address, num, index)}) > 1:
    raise ValueError(
        "coordinator_address, num_processes and process_id must be given"
        f" together, got {address}, {num} and {index}."
    )
  num = 1 if num is None else num
  if num < 1 or size % num or not 0 <= (index or 0) < num:
    raise ValueError(
        "num_processes must be a divisor of the mesh's size and above"
        f" process_id, got {num} for {size} devices and process_id {index}."
    )
  if jax.config.jax_num_cpu_devices < 0 and size > num:
    jax.config.update("jax_num_cpu_devices", size // num)
  if address is not None:
    jax.distributed.initialize(address, num, index)


def check_one_device(config: ml_collections.ConfigDict) -> None:
  """Refuses a mesh, for commands that run on one device.

  Args:
    config: Config with the fields of `configs.common.base`.

  Raises:
    ValueError: If the config asks for more, or a field breaks its rule.
  """
  fields.check(config)
  if config.mesh.data * config.mesh.fsdp > 1:
    raise ValueError(
        "mesh.data and mesh.fsdp must be 1 here (a mesh changes no more than"
        " how sums round: see docs/meshes.md), got"
        f" {config.mesh.data} and {config.mesh.fsdp}."
    )


def is_primary() -> bool:
  """Whether this process writes and speaks for the run."""
  return jax.process_index() == 0


def workdir(path: str) -> workdir_lib.Workdir:
  """Returns the run's folder; one that is only looked at, if not primary.

  Args:
    path: Path of the folder.
  """
  kind = workdir_lib.Workdir if is_primary() else workdir_lib.Onlooker
  return kind(pathlib.Path(path))


def only_primary_speaks() -> contextlib.AbstractContextManager:
  """A context in which no other process prints.

  Returns:
    The context.
  """
  if is_primary():
    return contextlib.nullcontext()
  return contextlib.redirect_stdout(io.StringIO())


def any_process(value: bool) -> bool:
  """Returns whether `value` is true in any process; all must ask.

  Args:
    value: Value of this process.
  """
  if jax.process_count() == 1:
    return value
  return bool(multihost_utils.process_allgather(np.asarray(value)).any())
