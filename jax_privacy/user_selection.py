"""Batches of persons, each with a few rows of theirs, as in jax-privacy.

`UserSelectionStrategy` draws persons by any strategy and gives each of them the
next of their rows. `privacy_unit` is what `make_private` works with: it groups
rows once, and keeps a mask for persons of few rows.

The invariant: a row of the result holds rows of one person alone, and which
they are depends on that person's rows and participations alone.

Example:
  >>> import numpy as np
  >>> from jax_privacy import batch_selection
  >>> everyone = batch_selection.CyclicPoissonSampling(1.0, iterations=2)
  >>> strategy = batch_selection.UserSelectionStrategy(everyone, 2)
  >>> first, second = strategy.batch_iterator(np.array([7, 7, 7, 9]), rng=0)
  >>> sorted(first.tolist()), sorted(second.tolist())
  ([[0, 1], [3, 3]], [[2, 0], [3, 3]])
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from jax_privacy import _validate, streams, unit_ids
from jax_privacy.batches import BatchSelectionStrategy, RngType

# Stream of the order of rows; those of steps are below.
_ORDERS = 2**32 - 1


@dataclasses.dataclass(frozen=True)
class UserSelectionStrategy:
  """Persons by `base_strategy`, and some rows of each.

  A person's rows are taken in turn, from one participation to the next, and
  from the start again after the last. Clip the gradient of a whole row of the
  result (`clipped_grad(..., keep_batch_dim=False)`): then `base_strategy`'s
  epsilon holds for a person with all their rows.

  Attributes:
    base_strategy: Strategy that draws persons, by number.
    examples_per_user_per_batch: Number of rows of a person in a batch.
    shuffle_per_user: Whether each person's rows are put in a random order,
      once.
  """

  base_strategy: BatchSelectionStrategy
  examples_per_user_per_batch: int = 1
  shuffle_per_user: bool = False

  def __post_init__(self):
    if not hasattr(self.base_strategy, "batch_iterator"):
      rule = "a BatchSelectionStrategy"
      _validate.fail("base_strategy", rule, self.base_strategy)
    _validate.integer(
        "examples_per_user_per_batch",
        self.examples_per_user_per_batch,
        at_least=1,
    )

  def batch_iterator(
      self, user_ids: Any, rng: RngType = None
  ) -> Iterator[np.ndarray]:
    """Yields batches of row numbers, int [users, examples_per_user_per_batch].

    Args:
      user_ids: One id a row, strings or whole numbers; see `unit_ids.read`.
      rng: Source of the seed; see `BatchSelectionStrategy.bind`.

    Raises:
      ValueError: If an id is missing or may be a second spelling of another.
    """
    codes = unit_ids.read(user_ids).codes
    seed = streams.seed_of(rng)
    dtype = streams.index_dtype(len(codes))
    order = np.argsort(codes, kind="stable")
    if self.shuffle_per_user:
      shuffled = streams.generator_of(seed, _ORDERS).permutation(len(codes))
      # By person, and by a random number within a person.
      order = shuffled[np.argsort(codes[shuffled], kind="stable")]
    counts = np.bincount(codes)
    starts = np.cumsum(counts) - counts
    taken = np.zeros(len(counts), np.int64)
    several = np.arange(self.examples_per_user_per_batch)
    for users in self.base_strategy.batch_iterator(len(counts), seed):
      users = np.asarray(users, np.int64)
      places = (taken[users, None] + several) % counts[users, None]
      taken[users] = (taken[users] + len(several)) % counts[users]
      yield order[starts[users, None] + places].astype(dtype)
