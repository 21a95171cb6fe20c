"""Batches by step, and what a strategy of drawing them is.

The invariant: batch t is a pure function of (seed, t). `batch_selection` has
the strategies, and these names.

Example:
  >>> from jax_privacy import batch_selection
  >>> poisson = batch_selection.CyclicPoissonSampling(0.25, iterations=3)
  >>> len(poisson.bind(num_examples=12, rng=0))
  3
"""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from jax_privacy import secure_random, streams

RngType = streams.RngType


@dataclasses.dataclass(frozen=True)
class Batches:
  """A strategy bound to a data set's size and a seed: random access by step.

  Attributes:
    num_batches: Number of steps.
    draw_fn: `draw_fn(generator, step)` returning that step's indices.
    seed: Entropy that all batches are derived from; secret, so not shown.
    num_examples: Number of examples; None where it is not known.
  """

  num_batches: int
  draw_fn: Callable[[streams.Generator, int], np.ndarray]
  seed: int | secure_random.SecureKey = dataclasses.field(repr=False)
  num_examples: int | None = None

  def batch(self, step: int) -> np.ndarray:
    """Returns step's indices, int [realised batch size], in O(batch) work.

    Args:
      step: Number of the step, from 0.

    Raises:
      IndexError: If `step` is outside [0, num_batches): there is no such batch,
        and repeating another one would break the accounting.
    """
    if not 0 <= step < self.num_batches:
      raise IndexError(f"step must be in [0, {self.num_batches}), got {step}.")
    return self.draw_fn(streams.generator_of(self.seed, step + 1), step)

  def __len__(self) -> int:
    return self.num_batches

  def __iter__(self) -> Iterator[np.ndarray]:
    return (self.batch(step) for step in range(self.num_batches))


class BatchSelectionStrategy:
  """Describes how batches are drawn, apart from the data set and the seed.

  A subclass defines `bind`. One that defines `batch_iterator` alone, as those
  of jax-privacy do, can be iterated and cannot be asked for a step.

  Raises:
    TypeError: When a subclass is defined that has neither.
  """

  def __init_subclass__(cls, **kwargs):
    super().__init_subclass__(**kwargs)
    base = BatchSelectionStrategy
    if cls.bind is base.bind and cls.batch_iterator is base.batch_iterator:
      raise TypeError(
          f"{cls.__name__} must define bind, or batch_iterator, got neither."
      )

  def bind(self, num_examples: int, rng: RngType = None) -> Batches:
    """Fixes the data set's size and the seed.

    Args:
      num_examples: Size of the data set; indices lie in [0, num_examples).
      rng: A seed, a generator to draw one from, or None for 128 bits from the
        operating system; or a `SecureKey`, for batches drawn by a cipher. See
        `streams.seed_of`.

    Returns:
      The batches, by step.

    Raises:
      NotImplementedError: If the strategy defines `batch_iterator` alone.
    """
    del num_examples, rng
    raise NotImplementedError(
        f"{type(self).__name__} must define bind for batches by step, got"
        " batch_iterator alone."
    )

  def batch_iterator(
      self, num_examples: int, rng: RngType = None
  ) -> Iterator[np.ndarray]:
    """Yields the batches of `bind(num_examples, rng)` in order.

    Args:
      num_examples: Number of examples.
      rng: Source of the seed; see `bind`.
    """
    return iter(self.bind(num_examples, rng))
