"""Schedules of the batch size: from each first step on, a factor.

A schedule is pairs (first step, factor), with steps counted from 0; () is a
constant size. Sums are divided by the run's base expected batch size, and noise
is added to them. Only then is the update of a phase divided by its factor.

The invariant: what depends on the step comes after the noise. So the noise on
the SUM has the same standard deviation at every step.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy import batch_schedule
  >>> schedule = ((0, 1.0), (1, 4.0))
  >>> [batch_schedule.factor_at(schedule, step) for step in (0, 1, 7)]
  [1.0, 4.0, 4.0]
  >>> rescale = batch_schedule.rescale(schedule)
  >>> state = rescale.init(None)
  >>> for _ in range(2):
  ...   mean, state = rescale.update(jnp.ones(()), state)
  ...   print(mean)
  1.0
  0.25
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

from jax_privacy import _validate

Schedule = tuple[tuple[int, float], ...]
# The limits are an accountant's too (`accounting.numerics.schedule`), which
# composes each phase by itself.
MAX_PHASES = 32
# The inverse of a factor multiplies updates in float32.
MIN_FACTOR, MAX_FACTOR = 1e-30, 1e30


def check(
    schedule: Sequence[Any], *, sampling_prob: float, num_steps: int
) -> Schedule:
  """Returns a schedule as pairs of an int and a float.

  Args:
    schedule: Pairs (first step, factor).
    sampling_prob: Probability that the factors multiply, in (0, 1].
    num_steps: Number of updates of the run.

  Raises:
    ValueError: If it does not begin at step 0, steps do not ascend or are not
      in [0, num_steps), or a probability is not in (0, 1].
  """
  name, pairs = "batch_size_schedule", []
  if not isinstance(schedule, list | tuple) or not all(
      isinstance(pair, list | tuple) and len(pair) == 2 for pair in schedule
  ):
    _validate.fail(name, "pairs of a first step and a factor", schedule)
  if len(schedule) > MAX_PHASES:
    _validate.fail(name, f"at most {MAX_PHASES} pairs", len(schedule))
  for first, factor in schedule:
    first = _validate.integer(f"{name}'s step", first, at_least=0)
    factor = _validate.positive(f"{name}'s factor", factor)
    if not MIN_FACTOR <= factor <= MAX_FACTOR:
      rule = f"in [{MIN_FACTOR:g}, {MAX_FACTOR:g}], for float32"
      _validate.fail(f"{name}'s factor", rule, factor)
    _validate.probability(
        f"sampling_prob x {name}'s factor", sampling_prob * factor
    )
    pairs.append((first, factor))
  firsts = [first for first, _ in pairs]
  if pairs and (firsts[0] != 0 or firsts != sorted(set(firsts))):
    _validate.fail(name, "pairs of ascending steps from 0 on", schedule)
  if pairs and num_steps and firsts[-1] >= num_steps:
    rule = f"pairs that begin before the last of {num_steps} steps"
    _validate.fail(name, rule, schedule)
  return tuple(pairs)


def factor_at(schedule: Schedule, step: int) -> float:
  """Returns the factor at a step, counted from 0.

  Args:
    schedule: Pairs (first step, factor), as `check` returns them.
    step: Number of the step, from 0.
  """
  begun = [factor for first, factor in schedule if first <= step]
  return begun[-1] if begun else 1.0


def rescale(schedule: Schedule) -> optax.GradientTransformation:
  """Divides update t by the factor of step t.

  Args:
    schedule: Schedule, as `check` returns it.

  Returns:
    An optax transformation, which counts updates in its state. It comes after
    the noise.

  Guarantee: On a noised update it is post-processing, and free.
  """
  firsts = np.array([first for first, _ in schedule], np.int32)
  scales = np.array([1 / factor for _, factor in schedule], np.float32)

  def scale(count):
    return jnp.asarray(scales)[jnp.sum(count >= firsts) - 1]

  return optax.scale_by_schedule(scale)
