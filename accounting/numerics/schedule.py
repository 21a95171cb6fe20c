"""Schedules of the batch size: from which step on, how many times as large.

A schedule is pairs (first step, factor); the factor multiplies the sampling
probability. Invariant: what `check` returns starts at step 0, its steps ascend
and are steps of the run, and every probability it makes is in (0, 1].

>>> check([[0, 1], [5, 2]], sampling_prob=0.1, num_steps=8)
((0, 1.0), (5, 2.0))
>>> phases(((0, 1.0), (5, 2.0)), num_steps=8)
[(5, 1.0), (3, 2.0)]
"""

from typing import Any

from accounting import _validate

Schedule = tuple[tuple[int, float], ...]
# `jax_privacy.batch_schedule` has the same limits. Each phase is composed by
# itself, which takes time and rounds.
MAX_PHASES = 32
# The inverse of a factor multiplies updates in float32.
MIN_FACTOR, MAX_FACTOR = 1e-30, 1e30


def check(schedule: Any, *, sampling_prob: float, num_steps: int) -> Schedule:
  """Returns a schedule in its one form.

  Args:
    schedule: Sequence of pairs (first step, factor), such as parsed JSON.
    sampling_prob: Probability that factors multiply.
    num_steps: Number of updates of the run.

  Returns:
    Pairs of an integer and a float; () for a constant batch size.

  Raises:
    ValueError: If it is no such sequence, or breaks a rule.
  """
  if not isinstance(schedule, list | tuple) or not all(
      isinstance(pair, list | tuple) and len(pair) == 2 for pair in schedule
  ):
    _fail("pairs of a first step and a factor", schedule)
  if len(schedule) > MAX_PHASES:
    _fail(f"at most {MAX_PHASES} pairs", len(schedule))
  pairs = []
  for first, factor in schedule:
    first = _validate.integer("batch_size_schedule's step", first, low=0)
    factor = _validate.real(
        "batch_size_schedule's factor",
        factor,
        low=MIN_FACTOR,
        high=MAX_FACTOR,
        low_ok=True,
        high_ok=True,
    )
    if not 0 < sampling_prob * factor <= 1:
      _fail("such that sampling_prob x factor is in (0, 1]", schedule)
    pairs.append((first, factor))
  firsts = [first for first, _ in pairs]
  if pairs and firsts[0] != 0:
    _fail("pairs that begin at step 0", schedule)
  if firsts != sorted(set(firsts)):
    _fail("pairs of ascending first steps", schedule)
  if pairs and firsts[-1] >= num_steps:
    _fail(f"pairs that begin before the last of {num_steps} steps", schedule)
  return tuple(pairs)


def _fail(rule: str, got: Any):
  _validate.fail("batch_size_schedule", rule, got)


def phases(schedule: Schedule, *, num_steps: int) -> list[tuple[int, float]]:
  """Returns (number of steps, factor) of each phase, in order.

  Args:
    schedule: Schedule, as `check` returns it.
    num_steps: Number of updates of the run. Phases that would begin later are
      left out.

  Returns:
    At least one phase; neighbours of one factor are one phase.
  """
  found: list[tuple[int, float]] = []
  ends = [first for first, _ in schedule[1:]] + [num_steps]
  for (first, factor), end in zip(schedule or ((0, 1.0),), ends, strict=True):
    length = min(end, num_steps) - first
    if length <= 0:
      break
    if found and found[-1][1] == factor:
      length += found.pop()[0]
    found.append((length, factor))
  return found


def until(schedule: Schedule, *, num_steps: int) -> Schedule:
  """Returns the part that begins before step `num_steps`.

  Args:
    schedule: Schedule, as `check` returns it.
    num_steps: Number of updates of the run.
  """
  return tuple(pair for pair in schedule if pair[0] < num_steps)
