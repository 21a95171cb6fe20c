"""What a run's batches and state are split over.

The invariant: all processes of a run build the same one.
"""

import jax
import ml_collections
import numpy as np
from jax.experimental import multihost_utils

from jax_privacy import sharding


def make_mesh(config: ml_collections.ConfigDict) -> jax.sharding.Mesh | None:
  """Returns the mesh of a checked config, or None for one device.

  Raises:
    ValueError: If there are too few devices, or batches cannot be split evenly.
  """
  size = config.mesh.data * config.mesh.fsdp
  physical = config.physical_batch_size
  if physical is not None and physical % size:
    raise ValueError(
        "physical_batch_size must be a multiple of mesh.data x mesh.fsdp"
        f" = {size}, got {physical}."
    )
  if size == 1:
    return None
  return sharding.make_mesh(data=config.mesh.data, fsdp=config.mesh.fsdp)


def from_primary(array: np.ndarray) -> np.ndarray:
  """Returns the primary's array in every process; all must ask."""
  if jax.process_count() == 1:
    return array
  return np.asarray(multihost_utils.broadcast_one_to_all(array))
