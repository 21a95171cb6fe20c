"""Batches drawn in rounds: bins, random allocation and shuffled epochs.

The invariant: batch t is a pure function of (seed, t), as of every strategy. A
round is drawn as a whole from the stream of its first step. That takes work in
proportion to the round's examples, which is O(batch) a step on average; the
last round drawn is kept, so that its other steps only look it up. A run resumed
within a round draws that one round again.

Example:
  >>> from jax_privacy import batch_selection
  >>> strategy = batch_selection.RandomAllocationSampling(
  ...     total_participations=1, iterations=6, cycle_length=3)
  >>> batches = strategy.bind(num_examples=10, rng=0)
  >>> sorted(i for t in range(3) for i in batches.batch(t).tolist())
  [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
"""

import dataclasses
import functools

import numpy as np

from jax_privacy import _validate, streams
from jax_privacy.batches import Batches, BatchSelectionStrategy, RngType


@dataclasses.dataclass(frozen=True)
class BallsInBinsSampling(BatchSelectionStrategy):
  """Each example in one bin for the whole run; steps go through the bins.

  Guarantee: Each example picks one of `cycle_length` bins, uniformly and
    independently of the others, and is in the batches of the steps i with i %
    cycle_length equal to its bin, and in no others.

  Attributes:
    iterations: Number of batches.
    cycle_length: Number of bins.

  Source: Chua et al. 2024 (2412.16802); Choquette-Choo et al. 2024
    (2410.06266).
  """

  iterations: int
  cycle_length: int

  def __post_init__(self):
    _validate.integer("iterations", self.iterations, at_least=0)
    _validate.integer("cycle_length", self.cycle_length, at_least=1)

  def bind(self, num_examples: int, rng: RngType = None) -> Batches:
    """See base class; bins are drawn here, in O(num_examples) work."""
    _validate.integer("num_examples", num_examples, at_least=0)
    seed = streams.seed_of(rng)
    bins = _allocated(
        streams.generator_of(seed, 0), num_examples, self.cycle_length, 1
    )

    def draw(generator, step):
      del generator
      return bins[step % self.cycle_length].copy()

    return Batches(self.iterations, draw, seed, num_examples)


@dataclasses.dataclass(frozen=True)
class RandomAllocationSampling(BatchSelectionStrategy):
  """Each example in `total_participations` steps of the run, or of each round.

  Guarantee: In each round of `cycle_length` steps, an example is in exactly
    `total_participations` batches, a uniform set of them, independently of the
    other examples and rounds.

  Attributes:
    total_participations: Number of a round's steps that an example is in.
    iterations: Number of batches.
    cycle_length: Number of steps of a round. A run may end within one. None for
      one round, which is the whole run.

  Source: Feldman and Shenfeld 2025 (2502.08202).
  """

  total_participations: int
  iterations: int
  cycle_length: int | None = None

  def __post_init__(self):
    _validate.integer("iterations", self.iterations, at_least=0)
    if self.cycle_length is not None:
      _validate.integer("cycle_length", self.cycle_length, at_least=1)
    _validate.integer(
        "total_participations", self.total_participations, at_least=0
    )
    if self.total_participations > self._length:
      name = "iterations" if self.cycle_length is None else "cycle_length"
      rule = f"at most {name} = {self._length}"
      _validate.fail("total_participations", rule, self.total_participations)

  @property
  def _length(self) -> int:
    return self.iterations if self.cycle_length is None else self.cycle_length

  def bind(self, num_examples: int, rng: RngType = None) -> Batches:
    """See base class."""
    _validate.integer("num_examples", num_examples, at_least=0)
    seed, length = streams.seed_of(rng), self._length

    @functools.lru_cache(maxsize=1)
    def drawn(round_):
      generator = streams.generator_of(seed, round_ * length + 1)
      return _allocated(
          generator, num_examples, length, self.total_participations
      )

    def draw(generator, step):
      del generator
      return drawn(step // length)[step % length].copy()

    return Batches(self.iterations, draw, seed, num_examples)


@dataclasses.dataclass(frozen=True)
class ShuffleSampling(BatchSelectionStrategy):
  """Batches of one size, through the data in a fresh order every epoch.

  Guarantee: An epoch has num_examples // batch_size batches, of different
    examples; those left over are not in it. Orders are uniform and independent.
    Poisson accounting does NOT hold for it.

  Attributes:
    batch_size: Examples a batch.
    iterations: Number of batches. A run may end within an epoch.
  """

  batch_size: int
  iterations: int

  def __post_init__(self):
    _validate.integer("batch_size", self.batch_size, at_least=1)
    _validate.integer("iterations", self.iterations, at_least=0)

  def bind(self, num_examples: int, rng: RngType = None) -> Batches:
    """See base class."""
    _validate.integer("num_examples", num_examples, at_least=0)
    length = num_examples // self.batch_size
    if not length:
      rule = f"at most num_examples = {num_examples}"
      _validate.fail("batch_size", rule, self.batch_size)
    seed = streams.seed_of(rng)

    @functools.lru_cache(maxsize=1)
    def order(epoch):
      generator = streams.generator_of(seed, epoch * length + 1)
      dtype = streams.index_dtype(num_examples)
      return generator.permutation(num_examples).astype(dtype)

    def draw(generator, step):
      del generator
      epoch, place = divmod(step, length)
      begin = place * self.batch_size
      return order(epoch)[begin : begin + self.batch_size].copy()

    return Batches(self.iterations, draw, seed, num_examples)


def _allocated(
    generator: streams.Generator,
    num_examples: int,
    num_steps: int,
    num_selected: int,
) -> list[np.ndarray]:
  """Returns the examples of each step, ascending; each is in `num_selected`.

  Source: Floyd's algorithm (Bentley and Floyd 1987), for all examples at once:
    a number below j + 1, or j itself if the number was drawn before.
  """
  chosen = np.empty((num_examples, num_selected), np.int64)
  for i, last in enumerate(range(num_steps - num_selected, num_steps)):
    drawn = np.asarray(generator.integers(last + 1, size=num_examples))
    before = np.any(chosen[:, :i] == drawn[:, None], axis=1)
    chosen[:, i] = np.where(before, last, drawn)
  order = np.argsort(chosen, axis=None, kind="stable")
  ends = np.cumsum(np.bincount(chosen.ravel(), minlength=num_steps))[:-1]
  indices = (order // num_selected).astype(streams.index_dtype(num_examples))
  return np.split(indices, ends)
