"""Poisson sampling that leaves an example out for a while after it took part.

The invariant: batch t is a pure function of (seed, t), as of every strategy.
Who may take part depends on the steps before, so the draws of a run are made in
order: asking for batch t after batch t - 1 takes O(batch) work, and after any
other batch as many draws of indices as there are steps up to t.

Example:
  >>> from jax_privacy import batch_selection
  >>> strategy = batch_selection.BMinSepSampling(
  ...     sampling_prob=0.5, iterations=6, min_sep=3)
  >>> batches = list(strategy.batch_iterator(num_examples=10, rng=0))
  >>> set(batches[3]) & (set(batches[1]) | set(batches[2]))
  set()
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from jax_privacy import _validate, streams
from jax_privacy.batches import Batches, BatchSelectionStrategy, RngType


@dataclasses.dataclass(frozen=True)
class BMinSepSampling(BatchSelectionStrategy):
  """Poisson sampling with at least `min_sep` steps between participations.

  The expected batch size is num_examples / (min_sep - 1 + 1 / sampling_prob),
  from the first step on with `warm_start`. NO accountant of `accounting` knows
  this sampler, so no mechanism names it; Poisson accounting does NOT hold.

  Guarantee: An example that took part in none of the `min_sep` - 1 steps before
    is in the batch with probability `sampling_prob`, independently of all other
    examples. One that did is not in it. With truncation, a batch above the
    limit keeps a uniform subset; the others rest as if they took part.

  Attributes:
    sampling_prob: Probability that a rested example takes part, in (0, 1].
    iterations: Number of batches.
    min_sep: Number of steps from one participation to the next, at least. 1 is
      ordinary Poisson sampling.
    warm_start: Whether examples begin as in the middle of a run, some of them
      resting. Without it, the first batches are larger than later ones.
    truncated_batch_size: Size of the largest batch that is kept whole; None for
      no limit.

  Source: arXiv 2602.09338.
  """

  sampling_prob: float
  iterations: int
  min_sep: int
  warm_start: bool = True
  truncated_batch_size: int | None = None

  def __post_init__(self):
    _validate.probability("sampling_prob", self.sampling_prob)
    _validate.integer("iterations", self.iterations, at_least=0)
    _validate.integer("min_sep", self.min_sep, at_least=1)
    if self.truncated_batch_size is not None:
      _validate.integer(
          "truncated_batch_size", self.truncated_batch_size, at_least=1
      )

  def bind(self, num_examples: int, rng: RngType = None) -> Batches:
    """See base class; batches are drawn in order, see the module."""
    _validate.integer("num_examples", num_examples, at_least=0)
    seed = streams.seed_of(rng)
    replay = Replay(
        lambda: self._resting(streams.generator_of(seed, 0), num_examples),
        lambda resting, step: self._next(
            streams.generator_of(seed, step + 1), num_examples, resting
        ),
    )

    def draw(generator, step):
      del generator
      return replay.item(step).copy()

    return Batches(self.iterations, draw, seed, num_examples)

  def _resting(self, generator, num_examples):
    """Who rests at the start: arrays of examples, the next to be free first.

    Each of the `min_sep` - 1 places has its chance in the stationary chain,
    p / (1 + (min_sep - 1) p).
    """
    places, p = self.min_sep - 1, self.sampling_prob
    none = np.empty(0, streams.index_dtype(num_examples))
    if not self.warm_start or not places:
      return (none,) * places
    share = p / (1 + places * p)
    shares = [*(share,) * places, max(1 - places * share, 0.0)]
    sizes = generator.multinomial(num_examples, shares)
    order = generator.permutation(num_examples).astype(none.dtype)
    return tuple(np.split(order, np.cumsum(sizes))[:places])

  def _next(self, generator, num_examples, resting):
    """Returns who rests after a step, and the step's batch."""
    dtype = streams.index_dtype(num_examples)
    # Drawn from all, so that no list of those who may is needed.
    size = generator.binomial(num_examples, self.sampling_prob)
    drawn = generator.choice(
        num_examples, size=size, replace=False, shuffle=False
    ).astype(dtype, copy=False)
    if resting:
      drawn = drawn[~np.isin(drawn, np.concatenate(resting))]
      resting = (*resting[1:], drawn)
    limit = self.truncated_batch_size
    if limit is not None and len(drawn) > limit:
      kept = generator.choice(
          len(drawn), size=limit, replace=False, shuffle=False
      )
      return resting, drawn[kept]
    return resting, drawn


class Replay:
  """Items of a chain by number; the last state is kept, others drawn again.

  Args:
    start_fn: Function without arguments that returns the first state.
    next_fn: `next_fn(state, i)` returning the next state and item i.
  """

  def __init__(
      self,
      start_fn: Callable[[], Any],
      next_fn: Callable[[Any, int], tuple[Any, Any]],
  ):
    self._start_fn, self._next_fn = start_fn, next_fn
    self._last: tuple[int, Any, Any] | None = None

  def item(self, i: int) -> Any:
    """Returns item i.

    Args:
      i: Number of the item, from 0.
    """
    last = self._last
    if last is None or last[0] > i:
      last = (-1, self._start_fn(), None)
    number, state, item = last
    while number < i:
      number += 1
      state, item = self._next_fn(state, number)
    # Replaced as a whole: another thread sees the old one or the new one.
    self._last = (number, state, item)
    return item
