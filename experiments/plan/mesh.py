"""What a run's batches and state are split over.

The invariant: all processes of a run build the same one.
"""

import jax
import ml_collections
import numpy as np
from jax.experimental import multihost_utils

from jax_privacy import sharding


def make_mesh(
    mesh_config: ml_collections.ConfigDict, *, physical_batch_size: int | None
) -> jax.sharding.Mesh | None:
  """Returns the mesh of a checked config, or None for one device.

  Args:
    mesh_config: A config's section.
    physical_batch_size: The config's.

  Raises:
    ValueError: If there are too few devices, or batches cannot be split evenly.
  """
  size = mesh_config.data * mesh_config.fsdp
  if physical_batch_size is not None and physical_batch_size % size:
    raise ValueError(
        "physical_batch_size must be a multiple of mesh.data x mesh.fsdp"
        f" = {size}, got {physical_batch_size}."
    )
  if size == 1:
    return None
  return sharding.make_mesh(data=mesh_config.data, fsdp=mesh_config.fsdp)


def from_primary(array: np.ndarray) -> np.ndarray:
  """Returns the primary's array in every process; all must ask.

  Args:
    array: Array of the primary process; others give one of its shape.
  """
  if jax.process_count() == 1:
    return array
  return np.asarray(multihost_utils.broadcast_one_to_all(array))
