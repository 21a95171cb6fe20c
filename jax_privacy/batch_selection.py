"""Which examples make up the batch of each step.

The invariant: batch t is a pure function of (seed, t). A run resumed at step t
needs no replay, and `batch(t)` equals the t-th item of iterating. Sampling
amplifies privacy, so the sampler must be the one that the accountant assumed:
`CyclicPoissonSampling` is for Poisson accounting, `FixedBatchSampling` for
sampling without replacement; those in rounds are in `rounds.py`. No accountant
knows `BMinSepSampling`. Batches of indices, and their sizes, are private.

Example:
  >>> from jax_privacy import batch_selection
  >>> poisson = batch_selection.CyclicPoissonSampling(
  ...     sampling_prob=0.25, iterations=3)
  >>> batches = poisson.bind(num_examples=12, rng=0)
  >>> all((batches.batch(t) == b).all() for t, b in enumerate(batches))
  True
  >>> batch_selection.pad_to_multiple_of(batches.batch(0)[:2], 4)[2:]
  array([-1, -1], dtype=int8)
"""

import dataclasses
import enum
import math
from collections.abc import Iterator

import numpy as np

from jax_privacy import (
    _validate,
    batch_schedule,
    padded_batch,
    streams,
)
from jax_privacy.batches import Batches as Batches
from jax_privacy.batches import (
    BatchSelectionStrategy as BatchSelectionStrategy,
)
from jax_privacy.batches import RngType as RngType
from jax_privacy.min_sep_sampling import BMinSepSampling as BMinSepSampling
from jax_privacy.rounds import BallsInBinsSampling as BallsInBinsSampling
from jax_privacy.rounds import (
    RandomAllocationSampling as RandomAllocationSampling,
)
from jax_privacy.rounds import ShuffleSampling as ShuffleSampling
from jax_privacy.user_selection import (
    UserSelectionStrategy as UserSelectionStrategy,
)


class PartitionType(enum.Enum):
  """How examples are dealt to the groups of cyclic sampling.

  INDEPENDENT: each example picks its group at random; fits add-or-remove-one.
  EQUAL_SPLIT: a shuffled split into equal groups, whose remainder is never
    sampled; fits zero-out and replace-one only, because one example more
    changes where the others go.
  """

  INDEPENDENT = enum.auto()
  EQUAL_SPLIT = enum.auto()


@dataclasses.dataclass(frozen=True)
class CyclicPoissonSampling(BatchSelectionStrategy):
  """Poisson sampling, optionally truncated, optionally in a cycle of groups.

  Guarantee: Each example is in each batch in which its group takes part with
    probability `sampling_prob`, independently of all other examples and steps.
    With truncation, a batch above the limit keeps a uniform subset.

  Attributes:
    sampling_prob: Probability that an example takes part in a step, in (0, 1].
    iterations: Number of batches.
    truncated_batch_size: Size of the largest batch that is kept whole; None for
      no limit. Needs an accountant that knows of it.
    cycle_length: Number of groups; group t % cycle_length takes part in step t.
      1 is ordinary Poisson sampling.
    partition_type: Rule that forms groups; see `PartitionType`.
    batch_size_schedule: Pairs (first step, factor): from that step on,
      `sampling_prob` x factor is the probability. () for one throughout. Needs
      an accountant that knows of it.

  Source: Abadi et al. 2016 (1607.00133); Choquette-Choo et al. 2023
    (2306.08153) for cycles; Chua et al. 2024 (2411.04205) for truncation.
  """

  sampling_prob: float
  iterations: int
  truncated_batch_size: int | None = None
  cycle_length: int = 1
  partition_type: PartitionType = PartitionType.EQUAL_SPLIT
  batch_size_schedule: batch_schedule.Schedule = ()

  def __post_init__(self):
    _validate.probability("sampling_prob", self.sampling_prob)
    _validate.integer("iterations", self.iterations, at_least=0)
    batch_schedule.check(
        self.batch_size_schedule,
        sampling_prob=self.sampling_prob,
        num_steps=self.iterations,
    )
    _validate.integer("cycle_length", self.cycle_length, at_least=1)
    if self.truncated_batch_size is not None:
      _validate.integer(
          "truncated_batch_size", self.truncated_batch_size, at_least=1
      )
    if not isinstance(self.partition_type, PartitionType):
      rule = "a member of PartitionType"
      _validate.fail("partition_type", rule, self.partition_type)

  def bind(self, num_examples: int, rng: RngType = None) -> Batches:
    """See base class."""
    seed = streams.seed_of(rng)
    groups = self._groups(num_examples, seed)

    def draw(generator, step):
      group = groups[step % self.cycle_length]
      # A binomial size and then a uniform subset of that size is a Poisson
      # sample, in O(batch) instead of O(num_examples).
      factor = batch_schedule.factor_at(self.batch_size_schedule, step)
      size = generator.binomial(_size(group), self.sampling_prob * factor)
      if self.truncated_batch_size is not None:
        size = min(size, self.truncated_batch_size)
      return _subset(generator, group, size)

    return Batches(self.iterations, draw, seed, num_examples)

  def _groups(self, num_examples, seed):
    _validate.integer("num_examples", num_examples, at_least=0)
    if self.cycle_length == 1:
      return [num_examples]
    generator = streams.generator_of(seed, 0)
    order = generator.permutation(num_examples).astype(
        streams.index_dtype(num_examples)
    )
    if self.partition_type is PartitionType.EQUAL_SPLIT:
      size = num_examples // self.cycle_length
      return np.split(order[: size * self.cycle_length], self.cycle_length)
    shares = np.full(self.cycle_length, 1 / self.cycle_length)
    sizes = generator.multinomial(num_examples, shares.tolist())
    return np.split(order, np.cumsum(sizes)[:-1])


@dataclasses.dataclass(frozen=True)
class FixedBatchSampling(BatchSelectionStrategy):
  """Batches of one size, each drawn uniformly, independently of the others.

  Guarantee: Without `replace`, every subset of `batch_size` examples is equally
    likely. Poisson accounting does NOT hold for it.

  Attributes:
    batch_size: Examples a batch.
    iterations: Number of batches.
    replace: Draw with replacement within a batch.

  Source: Balle et al. 2018 (1807.01647); Wang et al. 2019 (1808.00087).
  """

  batch_size: int
  iterations: int
  replace: bool = False

  def __post_init__(self):
    _validate.integer("batch_size", self.batch_size, at_least=0)
    _validate.integer("iterations", self.iterations, at_least=0)

  def bind(self, num_examples: int, rng: RngType = None) -> Batches:
    """See base class."""
    _validate.integer("num_examples", num_examples, at_least=0)
    if not self.replace and self.batch_size > num_examples:
      rule = f"at most num_examples = {num_examples} unless replace is set"
      _validate.fail("batch_size", rule, self.batch_size)

    def draw(generator, step):
      del step
      if not self.replace:
        return _subset(generator, num_examples, self.batch_size)
      drawn = generator.integers(num_examples, size=self.batch_size)
      return drawn.astype(streams.index_dtype(num_examples))

    return Batches(self.iterations, draw, streams.seed_of(rng), num_examples)


@dataclasses.dataclass(frozen=True)
class PaddedBatches:
  """Batches filled up to one of a few sizes, so that nothing recompiles.

  Each is a `PaddedBatch`: it carries its mask, and is no array of indices.

  The size that a batch gets is as private as its realised size, and the time of
  a step reveals it. A single size hides it, at the cost of padding.

  Attributes:
    batches: Batches to pad.
    sizes: Ascending sizes; a batch gets the smallest that holds it, and one
      larger than all of them a multiple of the largest.
    num_devices: Number of devices over which a batch will be split; see `deal`.
      Sizes must be multiples of it.
  """

  batches: Batches
  sizes: tuple[int, ...]
  num_devices: int = 1

  def __post_init__(self):
    for size in self.sizes:
      _validate.integer("sizes", size, at_least=1)
    if not self.sizes or list(self.sizes) != sorted(set(self.sizes)):
      _validate.fail("sizes", "ascending positive integers", self.sizes)
    _validate.integer("num_devices", self.num_devices, at_least=1)
    if any(size % self.num_devices for size in self.sizes):
      rule = f"multiples of num_devices = {self.num_devices}"
      _validate.fail("sizes", rule, self.sizes)

  def batch(self, step: int) -> padded_batch.PaddedBatch:
    """Returns step's batch; see `Batches.batch`.

    Args:
      step: Number of the step, from 0.
    """
    indices = self.batches.batch(step)
    fits = [size for size in self.sizes if len(indices) <= size]
    if fits:
      padded = pad_to_size(indices, fits[0])
    else:
      padded = pad_to_multiple_of(indices, self.sizes[-1])
    dealt = deal(padded, num_devices=self.num_devices)
    return padded_batch.PaddedBatch(dealt, self.batches.num_examples)

  def __len__(self) -> int:
    return len(self.batches)

  def __iter__(self) -> Iterator[padded_batch.PaddedBatch]:
    return (self.batch(step) for step in range(len(self)))


def poisson_sizes(
    *,
    num_examples: int,
    sampling_prob: float,
    multiple: int = 1,
    num_stddevs: tuple[float, ...] = (1.0, 3.0, 6.0),
) -> tuple[int, ...]:
  """Returns sizes to pad Poisson batches to, from public numbers alone.

  Args:
    num_examples: Size of the data set.
    sampling_prob: Probability that an example takes part in a step, in (0, 1].
    multiple: Number of which sizes are multiples: they are rounded up.
    num_stddevs: Numbers of standard deviations above the expected batch size,
      one a size. Of the defaults, about 84% of batches fit the first, all but
      one in 700 the second, and all but one in 10^9 the third.

  Returns:
    Ascending sizes, none above num_examples (rounded up).

  Raises:
    ValueError: If an argument breaks its rule.
  """
  _validate.integer("num_examples", num_examples, at_least=1)
  _validate.probability("sampling_prob", sampling_prob)
  _validate.integer("multiple", multiple, at_least=1)
  mean = num_examples * sampling_prob
  stddev = math.sqrt(mean * (1 - sampling_prob))
  needed = [min(mean + k * stddev, num_examples) for k in num_stddevs]
  return tuple(sorted({math.ceil(n / multiple) * multiple for n in needed}))


def pad_to_multiple_of(indices: np.ndarray, multiple: int) -> np.ndarray:
  """Appends -1 until the length is a multiple of `multiple`.

  Args:
    indices: Signed integers [batch_size].
    multiple: A positive integer.

  Returns:
    A new array. Load any public dummy example for -1, and mark these rows by
    `is_padding_example`. An empty batch stays empty.

  Raises:
    ValueError: If an argument breaks its rule.
  """
  _validate.integer("multiple", multiple, at_least=1)
  return pad_to_size(indices, math.ceil(len(indices) / multiple) * multiple)


def split_and_pad_global_batch(
    indices: np.ndarray,
    minibatch_size: int,
    microbatch_size: int | None = None,
) -> list[np.ndarray]:
  """Returns a batch in parts of one size, the last filled up with -1.

  Sum the clipped gradients of the parts, and add noise once. -1 reads the last
  example of an array: load a dummy for it, and mark it by `is_padding_example`
  (`PaddedBatch` does both).

  Args:
    indices: Signed integers [batch_size], or [batch_size, rows of a user].
    minibatch_size: Number of rows of a part.
    microbatch_size: Number of rows that `clipped_grad` takes at a time, a
      divisor of `minibatch_size`. It changes nothing: microbatches are taken in
      order here, so padding in the end is what can be skipped.

  Returns:
    The parts, each [minibatch_size, ...]: one, all padding, for an empty batch.

  Raises:
    ValueError: If an argument breaks its rule.
  """
  _validate.integer("minibatch_size", minibatch_size, at_least=1)
  if microbatch_size is not None:
    _validate.integer("microbatch_size", microbatch_size, at_least=1)
    if minibatch_size % microbatch_size:
      rule = f"a divisor of minibatch_size = {minibatch_size}"
      _validate.fail("microbatch_size", rule, microbatch_size)
  indices = np.asarray(indices)
  if indices.ndim not in (1, 2) or indices.dtype.kind != "i":
    rule = "signed integers of one or two axes"
    _validate.fail("indices", rule, f"{indices.dtype} {indices.shape}")
  num_parts = max(1, math.ceil(len(indices) / minibatch_size))
  missing = num_parts * minibatch_size - len(indices)
  widths = [(0, missing), *[(0, 0)] * (indices.ndim - 1)]
  padded = np.pad(indices, widths, constant_values=-1)
  return np.split(padded, num_parts)


def pad_to_size(indices: np.ndarray, size: int) -> np.ndarray:
  """Returns indices with -1 appended until the length is `size`.

  Args:
    indices: Indices, int [n].
    size: Length of the result, at least n.

  Raises:
    ValueError: If `size` is less than n.
  """
  indices = np.asarray(indices)
  if indices.ndim != 1 or not np.issubdtype(indices.dtype, np.signedinteger):
    got = f"{indices.dtype} {indices.shape}"
    _validate.fail("indices", "one-dimensional signed integers", got)
  if size < len(indices):
    _validate.fail("size", "at least the number of indices", size)
  missing = size - len(indices)
  return np.pad(indices, (0, missing), constant_values=-1)


def deal(indices: np.ndarray, *, num_devices: int) -> np.ndarray:
  """Deals a padded batch out like cards, so that devices have equal work.

  A device gets a block of consecutive rows. Padding is at a batch's end: if it
  were not dealt, it would be the last devices' rows, and the first device,
  which all wait for, would have none to skip.

  Args:
    indices: Indices [batch_size], padding last.
    num_devices: A divisor of batch_size.

  Returns:
    The same indices, in the order in which device d's block holds those at d, d
    + num_devices, d + 2 num_devices, ...; each block has its padding last.

  Raises:
    ValueError: If `num_devices` does not divide the batch.
  """
  indices = np.asarray(indices)
  _validate.integer("num_devices", num_devices, at_least=1)
  if len(indices) % num_devices:
    rule = f"a divisor of the batch size, {len(indices)}"
    _validate.fail("num_devices", rule, num_devices)
  return indices.reshape(-1, num_devices).T.ravel()


def _subset(generator, group, size):
  """A uniform subset, of range(group) if that is a number."""
  chosen = generator.choice(group, size=size, replace=False, shuffle=False)
  return chosen.astype(streams.index_dtype(_size(group)), copy=False)


def _size(group) -> int:
  return group if isinstance(group, int) else len(group)
