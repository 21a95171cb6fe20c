"""Brings each step's examples to the devices.

The invariant: a physical batch is the same bits wherever it is gathered (on the
devices, in this process, in workers) and however far ahead. Reading ahead draws
batches, and takes no step: what counts as begun is up to who takes them.
"""

import collections
import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.plan import experiment as experiment_lib
from experiments.plan import placement
from jax_privacy import batch_selection, data, sharding
from jax_privacy.data import bounded, reading
from jax_privacy.data import source as source_lib


class PhysicalBatch(NamedTuple):
  """A part of a step's batch, on the devices.

  Attributes:
    examples: Examples, as the source gives them; not to be used where there are
      none.
    indices: Theirs, int32, -1 for padding; none where a step's batch is empty.
    is_last: Whether the step has no more.
  """

  examples: Any
  indices: Any
  is_last: bool


def physical_batches(
    experiment: experiment_lib.Experiment, *, first_step: int
) -> Iterator[PhysicalBatch]:
  """Yields the physical batches of all steps from `first_step` on, in order.

  Close it (`contextlib.closing`) to stop what reads ahead.

  Args:
    experiment: Run, as `plan.experiment.build` makes it.
    first_step: Number of the first step.

  Raises:
    ExampleError: If an example cannot be used; its text says it is private.
  """
  draws = _draws(experiment, first_step)
  if placement.on_device(experiment.config.data, experiment.train_source):
    return _gathered(experiment, draws)
  return _read(experiment, draws)


class _Draw(NamedTuple):
  indices: np.ndarray
  is_last: bool


def _draws(experiment, first_step) -> Iterator[_Draw]:
  for step in range(first_step, experiment.mechanism.num_steps):
    *others, last = _split(experiment, step) or [np.zeros(0, np.int32)]
    for indices in others:
      yield _Draw(indices, False)
    yield _Draw(last, True)


def _split(experiment, step) -> list[np.ndarray]:
  """Splits step's batch into pieces of one size, the last filled with -1.

  Done here and not by clipped_grad's microbatch_size: on a CPU, XLA runs
  convolutions inside a loop some 20 times slower than outside.
  """
  size, mesh = experiment.config.physical_batch_size, experiment.mesh
  if size is None:
    return [experiment.dp_training.sampler.batch(step).indices.astype(np.int32)]
  indices = experiment.dp_training.sampler.batches.batch(step).astype(np.int32)
  padded = batch_selection.pad_to_multiple_of(indices, size)
  num_devices = 1 if mesh is None else mesh.size
  pieces = padded.reshape(-1, size)
  return [batch_selection.deal(p, num_devices=num_devices) for p in pieces]


def _read(experiment, draws) -> Iterator[PhysicalBatch]:
  """Reads from the source; on a mesh, this process's share and no more."""
  mesh, settings = experiment.mesh, experiment.config.data
  waiting = collections.deque()

  def own_indices():
    for draw in draws:
      own = _own(mesh, draw.indices)
      waiting.append((own, draw.is_last))
      yield own

  batches = reading.read(
      experiment.train_source,
      own_indices(),
      num_workers=settings.num_workers,
      prefetch=settings.prefetch,
  )
  with contextlib.closing(batches), _marked_private():
    for batch in batches:
      own, is_last = waiting.popleft()
      yield PhysicalBatch(_put(mesh, batch), _put(mesh, own), is_last)


def _gathered(experiment, draws) -> Iterator[PhysicalBatch]:
  """Puts all examples on the devices once, and gathers batches there."""
  mesh, length = experiment.mesh, len(experiment.train_source)
  gather = gather_fn(mesh, _all_examples(experiment))
  for draw in draws:
    source_lib.check_indices(draw.indices, length=length)
    indices = _put(mesh, draw.indices)
    examples = gather(indices) if len(indices) else None
    yield PhysicalBatch(examples, indices, draw.is_last)


def _all_examples(experiment) -> Any:
  """Reads all the examples, and behind them one of padding."""
  source = experiment.train_source
  batches = reading.read(
      source,
      [np.append(np.arange(len(source)), -1)],
      num_workers=experiment.config.data.num_workers,
  )
  with contextlib.closing(batches), _marked_private():
    return next(batches)


def gather_fn(
    mesh: jax.sharding.Mesh | None, examples: Any
) -> Callable[[jax.Array], Any]:
  """Returns `gather(indices)`; a program of its own, so that none changes.

  Were it part of the step's program, XLA might round that step otherwise.

  Args:
    mesh: Mesh over which batches are split, or None.
    examples: Arrays of all examples, [num_examples, ...].
  """

  def gather(examples, indices):
    # -1 is the last row, the source's own padding.
    return jax.tree.map(lambda array: array[indices], examples)

  if mesh is None:
    stored = jax.device_put(examples)
    compiled = jax.jit(gather)
  else:
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    stored = jax.device_put(examples, everywhere)
    rows = jax.sharding.PartitionSpec(mesh.axis_names)
    # Each device gathers its own rows: nothing is left to XLA's partitioner.
    compiled = jax.jit(
        jax.shard_map(
            gather,
            mesh=mesh,
            in_specs=(jax.sharding.PartitionSpec(), rows),
            out_specs=rows,
        )
    )
  return lambda indices: compiled(stored, indices)


def _own(mesh, indices) -> np.ndarray:
  if mesh is None:
    return indices
  return indices[sharding.local_rows(mesh, len(indices))]


def _put(mesh, batch):
  if mesh is None or not len(jax.tree.leaves(batch)[0]):
    return batch
  return sharding.put_batch(mesh, batch)


@contextlib.contextmanager
def _marked_private() -> Iterator[None]:
  """Says of an example's error that its name is private."""
  try:
    yield
  except data.ExampleError as error:
    text = f"{error} ({bounded.PRIVATE})"
    raise type(error)(text) from error
