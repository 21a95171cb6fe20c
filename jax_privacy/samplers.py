"""Which strategy draws the batches of a mechanism.

A mechanism may bring its own as `mechanism.batch_strategy`, a
`contracts.BatchStrategy`. Else its `sampling` names one of the table here.

The invariant: batches are drawn as the mechanism's accountant assumes, or it is
refused by name. The sizes that batches are padded to depend on public numbers
alone.

Example:
  >>> import types
  >>> from jax_privacy import samplers
  >>> mechanism = types.SimpleNamespace(
  ...     num_steps=3, sampling="truncated_poisson", sampling_prob=0.5,
  ...     num_examples=64, max_batch_size=40)
  >>> drawing = samplers.of(mechanism)
  >>> drawing.usual_sizes(mechanism)
  (36, 40)
  >>> drawing.strategy(mechanism).truncated_batch_size
  40
"""

import abc
import dataclasses
import math
import types
from typing import Any, cast

import numpy as np

from jax_privacy import (
    _validate,
    batch_schedule,
    batch_selection,
    contracts,
    streams,
)

# How far from a whole number of steps a sampling probability may be.
_SLACK = 1e-3


class Sampler(abc.ABC):
  """How the batches of one kind of mechanism are drawn.

  Attributes:
    takes_schedule: Whether `batch_size_schedule` may be other than ().
  """

  takes_schedule = False

  def steps_apart(self, mechanism: contracts.MechanismLike) -> int:
    """Returns how far apart two steps of one example are at least.

    Args:
      mechanism: Mechanism of the run.
    """
    del mechanism
    return 1

  @abc.abstractmethod
  def strategy(
      self, mechanism: contracts.MechanismLike
  ) -> batch_selection.BatchSelectionStrategy:
    """Returns the strategy that draws the batches.

    Args:
      mechanism: Mechanism of the run.

    Raises:
      ValueError: If a field of the mechanism breaks its rule.
    """

  @abc.abstractmethod
  def usual_sizes(self, mechanism: contracts.MechanismLike) -> tuple[int, ...]:
    """Returns the sizes to pad batches to, of which the largest fits most.

    Args:
      mechanism: Mechanism of the run.
    """


class _Poisson(Sampler):
  takes_schedule = True

  def strategy(self, mechanism) -> batch_selection.BatchSelectionStrategy:
    return batch_selection.CyclicPoissonSampling(
        _sampling_prob(mechanism),
        _num_steps(mechanism),
        truncated_batch_size=self.limit(mechanism),
        batch_size_schedule=schedule_of(mechanism),
    )

  def usual_sizes(self, mechanism):
    # Of every phase, so that a small batch is not padded to a large one's size.
    factors = {factor for _, factor in schedule_of(mechanism)} or {1.0}
    fitting = [
        batch_selection.poisson_sizes(
            num_examples=_num_examples(mechanism),
            sampling_prob=_sampling_prob(mechanism) * factor,
        )
        for factor in factors
    ]
    sizes = set().union(*fitting)
    limit = self.limit(mechanism)
    if limit is not None:
      sizes = {min(size, limit) for size in sizes}
    return tuple(sorted(sizes))

  def limit(self, mechanism) -> int | None:
    if mechanism.max_batch_size is not None:
      rule = (
          f'None for "{mechanism.sampling}" sampling (use "truncated_poisson")'
      )
      _validate.fail("max_batch_size", rule, mechanism.max_batch_size)
    return None


class _TruncatedPoisson(_Poisson):
  takes_schedule = False

  def limit(self, mechanism) -> int:
    return _validate.integer(
        "max_batch_size", mechanism.max_batch_size, at_least=1
    )


class _FixedWithoutReplacement(Sampler):

  def strategy(self, mechanism) -> batch_selection.BatchSelectionStrategy:
    [size] = self.usual_sizes(mechanism)
    return batch_selection.FixedBatchSampling(size, _num_steps(mechanism))

  def usual_sizes(self, mechanism):
    expected = _num_examples(mechanism) * _sampling_prob(mechanism)
    size = round(expected)
    if abs(size - expected) > 1e-6:
      rule = f'a whole number for "{mechanism.sampling}" sampling'
      _validate.fail("expected_batch_size", rule, expected)
    return (size,)


class _RandomAllocation(_Poisson):
  takes_schedule = False

  def strategy(self, mechanism):
    length, num_selected = steps_per_round(mechanism)
    return batch_selection.RandomAllocationSampling(
        num_selected, _num_steps(mechanism), length
    )


class _BallsInBins(_Poisson):
  takes_schedule = False

  def strategy(self, mechanism):
    length, _ = steps_per_round(mechanism)
    return batch_selection.BallsInBinsSampling(_num_steps(mechanism), length)


class _Shuffle(_FixedWithoutReplacement):

  def strategy(self, mechanism):
    [size] = self.usual_sizes(mechanism)
    return batch_selection.ShuffleSampling(size, _num_steps(mechanism))

  def steps_apart(self, mechanism):
    # One epoch may end, and the next begin, with the same example.
    [size] = self.usual_sizes(mechanism)
    num_steps = _num_steps(mechanism)
    is_one_epoch = num_steps * size <= _num_examples(mechanism)
    return num_steps if is_one_epoch else 1


@dataclasses.dataclass(frozen=True)
class _Given(Sampler):
  """The sampler of a mechanism that brings its own strategy."""

  given: contracts.BatchStrategy

  def strategy(self, mechanism):
    return _GivenStrategy(self.given, _num_steps(mechanism))

  def steps_apart(self, mechanism):
    apart = getattr(self.given, "steps_apart", None)
    return 1 if apart is None else apart(_num_steps(mechanism))

  def usual_sizes(self, mechanism):
    sizes = self.given.usual_sizes(_num_examples(mechanism))
    return tuple(
        _validate.integer("usual_sizes", size, at_least=1) for size in sizes
    )


@dataclasses.dataclass(frozen=True)
class _GivenStrategy(batch_selection.BatchSelectionStrategy):
  given: contracts.BatchStrategy
  num_steps: int

  def bind(self, num_examples, rng=None):
    seed = streams.seed_of(rng)
    # A cipher's has fewer methods, as the contract says.
    once = cast(np.random.Generator, streams.generator_of(seed, 0))
    draw_fn = self.given.draw_fn(num_examples, once)

    def draw(generator, step):
      return _checked(draw_fn(generator, step), num_examples)

    return batch_selection.Batches(self.num_steps, draw, seed, num_examples)


def _checked(indices: Any, num_examples: int) -> np.ndarray:
  """Refuses a batch that is none; the message shows no index: it is private."""
  indices = np.asarray(indices)
  if indices.ndim != 1 or not np.issubdtype(indices.dtype, np.integer):
    got = f"{indices.dtype} of rank {indices.ndim}"
    _validate.fail("a batch", "one-dimensional integers", got)
  if len(np.unique(indices)) < len(indices):  # It would count twice.
    rule = "of different examples"
    _validate.fail("a batch", rule, "one that is drawn twice")
  if indices.size and not 0 <= indices.min() <= indices.max() < num_examples:
    rule = f"indices of {num_examples} examples"
    _validate.fail("a batch", rule, "one outside of them")
  return indices.astype(streams.index_dtype(num_examples), copy=False)


class _CyclicPoisson(_Poisson):
  takes_schedule = False

  def strategy(self, mechanism):
    cycle_length = self.cycle_length(mechanism)
    # Groups are a whole cycle's batch at most; by an ulp, more.
    in_group = min(_sampling_prob(mechanism) * cycle_length, 1.0)
    return batch_selection.CyclicPoissonSampling(
        in_group,
        _num_steps(mechanism),
        cycle_length=cycle_length,
        # An example that joins does not move others between groups.
        partition_type=batch_selection.PartitionType.INDEPENDENT,
    )

  def steps_apart(self, mechanism):
    return self.cycle_length(mechanism)

  def cycle_length(self, mechanism) -> int:
    options = dict(getattr(mechanism, "sampling_options", ()))
    length = _validate.integer(
        "cycle_length", options.get("cycle_length"), at_least=1
    )
    if _sampling_prob(mechanism) * length > 1 + 1e-12:
      rule = f"at most 1 / cycle_length = 1 / {length}"
      _validate.fail("sampling_prob", rule, mechanism.sampling_prob)
    self.limit(mechanism)
    return length


def _num_examples(mechanism: contracts.MechanismLike) -> int:
  return _validate.integer("num_examples", mechanism.num_examples, at_least=1)


def _num_steps(mechanism: contracts.MechanismLike) -> int:
  return _validate.integer("num_steps", mechanism.num_steps, at_least=1)


def _sampling_prob(mechanism: contracts.MechanismLike) -> float:
  return _validate.probability("sampling_prob", mechanism.sampling_prob)


def steps_per_round(mechanism: contracts.MechanismLike) -> tuple[int, int]:
  """Returns the steps of a round, and in how many of them an example is.

  Args:
    mechanism: Mechanism of "random_allocation" or "balls_in_bins".

  Raises:
    ValueError: If num_selected / sampling_prob is no whole number of steps.
  """
  options = dict(getattr(mechanism, "sampling_options", ()))
  num_selected = _validate.integer(
      "num_selected", options.get("num_selected", 1), at_least=1
  )
  steps = num_selected / _sampling_prob(mechanism)
  whole = round(min(steps, 2.0**53))
  if abs(steps - whole) > _SLACK or whole < num_selected:
    rule = f"{num_selected} / a whole number of steps"
    _validate.fail("sampling_prob", rule, mechanism.sampling_prob)
  return whole, num_selected


_SAMPLERS: types.MappingProxyType[str, Sampler] = types.MappingProxyType(
    {
        "poisson": _Poisson(),
        "truncated_poisson": _TruncatedPoisson(),
        "fixed_without_replacement": _FixedWithoutReplacement(),
        "random_allocation": _RandomAllocation(),
        "balls_in_bins": _BallsInBins(),
        "shuffle": _Shuffle(),
        "cyclic_poisson": _CyclicPoisson(),
    }
)


def of(mechanism: contracts.MechanismLike) -> Sampler:
  """Returns how a mechanism's batches are drawn.

  Args:
    mechanism: Mechanism of the run.

  Raises:
    ValueError: If it brings none, and its `sampling` is not in the table.
  """
  given = getattr(mechanism, "batch_strategy", None)
  if given is not None:
    if not (hasattr(given, "draw_fn") and hasattr(given, "usual_sizes")):
      rule = "what contracts.BatchStrategy says, or None"
      _validate.fail("batch_strategy", rule, given)
    return _Given(given)
  if mechanism.sampling not in _SAMPLERS:
    *others, last = _SAMPLERS
    rule = f"{', '.join(others)} or {last}"
    _validate.fail("sampling", rule, mechanism.sampling)
  return _SAMPLERS[mechanism.sampling]


def padded_sizes(
    mechanism: contracts.MechanismLike,
    *,
    multiple: int = 1,
    is_single: bool = False,
) -> tuple[int, ...]:
  """Returns the ascending sizes to pad a mechanism's batches to.

  Args:
    mechanism: Mechanism, of checked fields.
    multiple: Number of which sizes are multiples: they are rounded up.
    is_single: Whether to give the largest alone.

  Raises:
    ValueError: If the mechanism has no sampler; see `of`.
  """
  usual = of(mechanism).usual_sizes(mechanism)
  sizes = sorted({math.ceil(size / multiple) * multiple for size in usual})
  return tuple(sizes[-1:] if is_single else sizes)


def schedule_of(mechanism: contracts.MechanismLike) -> batch_schedule.Schedule:
  """Returns a mechanism's batch-size schedule; () if it has none.

  Args:
    mechanism: Mechanism of the run.

  Raises:
    ValueError: If it breaks its rule, or the sampler takes none.
  """
  schedule = batch_schedule.check(
      getattr(mechanism, "batch_size_schedule", ()),
      sampling_prob=mechanism.sampling_prob,
      num_steps=mechanism.num_steps,
  )
  if schedule and not of(mechanism).takes_schedule:
    rule = f"() for sampling {mechanism.sampling!r}"
    _validate.fail("batch_size_schedule", rule, schedule)
  return schedule
