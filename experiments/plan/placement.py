"""Decides whether a run's examples are put on its devices, once.

The invariant: decided from public numbers only: the stated number of examples,
the size of an example, and what a device holds. Where they are put changes no
bit of the run.
"""

import jax
import ml_collections

from experiments.tasks import task as task_lib
from jax_privacy.data import reading

# Of a device that does not say how much it holds, as a CPU.
_UNKNOWN_LIMIT = 2**31
# Of one that does: the rest is for the model and its activations.
_SHARE = 4


def on_device(
    data_config: ml_collections.ConfigDict, source: task_lib.Source
) -> bool:
  """Returns whether the training examples are gathered on the devices.

  Each device of a mesh has a copy of all of them.

  Args:
    data_config: Its `on_device` is True, False, or None: where the source holds
      decoded examples, which fit, and there is one process. Not on a CPU, which
      shares the source's memory, and gathers with NumPy as fast or faster.
    source: The training examples.

  Raises:
    ValueError: If they are to be there, and do not fit or are not to leave
      the process that reads them.
  """
  asked, is_cpu = data_config.on_device, jax.devices()[0].platform == "cpu"
  in_memory = getattr(source, "in_memory", False)
  if asked is False or (asked is None and (is_cpu or not in_memory)):
    return False
  size = source.num_examples * reading.example_bytes(source)
  fits, alone = size <= limit_bytes(), jax.process_count() == 1
  if asked is None:
    return fits and alone
  if not fits:
    raise ValueError(
        "data.on_device must be None or False for more than a quarter of the"
        f" device's memory (2 GiB where that is not known), {limit_bytes()}"
        f" bytes, got True for {size}."
    )
  if not alone:
    raise ValueError(
        "data.on_device must be None or False for several processes, each of"
        " which reads its own devices' examples and no others, got True."
    )
  return True


def limit_bytes() -> int:
  """Returns how many bytes of examples are put on a device at most."""
  stats = jax.local_devices()[0].memory_stats() or {}
  if "bytes_limit" not in stats:
    return _UNKNOWN_LIMIT
  return stats["bytes_limit"] // _SHARE
