"""Reads batches ahead of their use, in worker processes or a thread.

Invariant: batch i is `source[indices i]`, to the bit and in order, whoever
reads it and however far ahead. Workers are given the source and indices that
were drawn already: never a sampler, a key or a seed. They are started afresh
("spawn"), with a copy of no other memory, and start no device of JAX's.

>>> import numpy as np
>>> from jax_privacy import data
>>> source = data.load("digits", split="test")
>>> indices = [np.array([5, 0, -1]), np.array([7])]
>>> batches = read(source, indices, prefetch=1)
>>> [batch["label"].shape for batch in batches]
[(3,), (1,)]
"""

import itertools
import math
import os
import signal
import sys
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from multiprocessing import process
from typing import Any, Protocol, cast

import jax
import numpy as np
from absl import flags

from jax_privacy import _extras

# What a worker makes at a time: small enough that all have a share of a batch.
_PART_BYTES = 2**23
_PART_EXAMPLES = 256
# Indices that workers are given at once: 32 MiB. They are started anew, in
# seconds, for the next block.
_BLOCK_INDICES = 2**22


class Indexed(Protocol):
  """Anything that gives batches, pytrees of arrays with a leading axis."""

  def __getitem__(self, indices: np.ndarray) -> Any:
    """Returns the examples at these indices; -1 is padding."""


def read(
    source: Indexed,
    indices: Iterable[np.ndarray],
    *,
    num_workers: int = 0,
    prefetch: int = 0,
) -> Generator[Any, None, None]:
  """Yields `source[i]` for each array i of indices.

  Args:
    source: Source of the examples, or anything else that gives them by index.
      Workers need a picklable one, as this package's are. One that has a true
      `in_memory` is read in this process.
    indices: Arrays of integers, 1-D; -1 is padding. They are drawn ahead of
      what is yielded: 2^22 indices, where anything is read ahead.
    num_workers: Number of processes that read; 0 for none.
    prefetch: Number of batches to read ahead, which memory must hold; each
      worker is at least a part of a batch (8 MiB) ahead. Without workers, a
      thread reads ahead.

  Yields:
    Batches. Close the generator (`contextlib.closing`) to stop the workers
    before the end.

  Raises:
    ImportError: If `grain`, which runs what reads ahead, is not installed.
    Exception: If reading raises one, of the same type and text: IndexError,
      ImageError and OSError.
    RuntimeError: If a worker was killed.
  """
  if getattr(source, "in_memory", False):
    num_workers = 0
  if not num_workers and not prefetch:
    for rows in indices:
      yield source[rows]
    return
  size = max(1, _PART_BYTES // max(1, example_bytes(source)))
  size = min(size, _PART_EXAMPLES)
  for block in _blocks(indices):
    parts = [_split(rows, size) for rows in block]
    ahead = prefetch * max(map(len, parts))
    flat = _Parts(source, list(itertools.chain.from_iterable(parts)))
    reader = _reader(flat, num_workers=num_workers, num_ahead=ahead)
    try:
      for some in parts:
        yield _joined([next(reader) for _ in some])
    finally:
      reader.close()


def example_bytes(source: Indexed) -> int:
  """Returns the size of one example, in bytes: of padding, so it is public.

  Args:
    source: Source of the example.
  """
  padding = source[np.array([-1])]
  return sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(padding))


class _Parts:
  """The parts of batches by number, as grain asks for them."""

  def __init__(self, source: Indexed, parts: Sequence[np.ndarray]):
    self._source, self._parts = source, parts

  def __len__(self) -> int:
    return len(self._parts)

  def __getitem__(self, i: int) -> Any:
    return self._source[self._parts[i]]


def _blocks(indices: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
  """Yields runs of arrays that hold some 2^22 indices together."""
  block, total = [], 0
  for rows in indices:
    block.append(np.asarray(rows))
    total += len(rows)
    if total >= _BLOCK_INDICES:
      yield block
      block, total = [], 0
  if block:
    yield block


def _split(rows: np.ndarray, size: int) -> list[np.ndarray]:
  """Cuts into parts of at most `size`; of no rows, into one part of none."""
  return [rows[i : i + size] for i in range(0, max(len(rows), 1), size)]


def _joined(parts: Sequence[Any]) -> Any:
  return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)


def _reader(parts: _Parts, *, num_workers: int, num_ahead: int) -> Any:
  """Returns grain's iterator over the parts; it has a `close`."""
  with _extras.needed("workers"):
    import grain

  _let_flags_be_read()
  num_workers = min(num_workers, len(parts))
  # Within a worker nothing is read ahead: that is what its own buffer is for.
  options = grain.ReadOptions(
      num_threads=0 if num_workers else 1,
      prefetch_buffer_size=0 if num_workers else num_ahead,
  )
  dataset = grain.experimental.WithOptionsIterDataset(
      # It needs a length and items alone.
      grain.MapDataset.source(cast(Any, parts)).to_iter_dataset(options),
      # Through pipes: grain's shared memory is files, which may stay behind.
      grain.experimental.DatasetOptions(min_shm_size=sys.maxsize),
  )
  if num_workers:
    options = grain.MultiprocessingOptions(
        num_workers=num_workers,
        per_worker_buffer_size=max(1, math.ceil(num_ahead / num_workers)),
    )
    dataset = dataset.mp_prefetch(options, worker_init_fn=_start_worker)
  return iter(dataset)


def _let_flags_be_read() -> None:
  """Gives grain's own flags their defaults in a program without absl's flags.

  It reads them as it goes, which absl allows only after parsing.
  """
  if flags.FLAGS.is_parsed():
    return
  for name in flags.FLAGS:
    if name.startswith("grain_"):
      flags.FLAGS[name].present = 1


def _start_worker(index: int, count: int) -> None:
  """Makes a worker end when, and not before, the process that reads does.

  A signal to the whole group is that process's to act on: it may need the rest
  of a batch before it stops.
  """
  del index, count
  os.environ["JAX_PLATFORMS"] = "cpu"  # Should anything ask for a device.
  for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
  parent = process.parent_process()
  assert parent is not None, "a worker has a parent"

  def end_with_parent():
    parent.join()
    os._exit(1)

  threading.Thread(target=end_with_parent, daemon=True).start()
