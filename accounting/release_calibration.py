"""The one free number of a release, alone or with others: scale, rho, count.

Invariant: the epsilon of what is returned, with the others, never
exceeds the target; it is computed again from the rounded number.

>>> from accounting import Laplace, epsilon
>>> histograms = 3 * Laplace(scale=10.0)
>>> found = calibrate_release(
...     Laplace(scale=1.0), free="scale", epsilon=1.0, delta=1e-6,
...     others=histograms)
>>> 0.999 <= epsilon(histograms + found, delta=1e-6) <= 1.0
True
"""

import dataclasses
from typing import Any

from accounting import _validate, calibrate
from accounting.composition import AnyMechanism, Composition
from accounting.disjoint import Disjoint
from accounting.mechanism import Mechanism
from accounting.numerics import search

# Fields of which more is more private, and those of which more is less.
_NOISES = ("scale", "stddev", "noise_multiplier")
_LOSSES = ("epsilon", "delta", "rho", "sensitivity")
# Those of a run, and what finds them.
_OF_RUNS = {
    "noise_multiplier": calibrate.calibrate_noise,
    "num_steps": calibrate.calibrate_num_steps,
    "sampling_prob": calibrate.calibrate_batch_size,
}
COUNT = "count"
_LEAST, _MOST = 1e-9, 1e12
_ENDS = {"delta": (1e-30, 0.5), ("discrete_gaussian", "stddev"): (1e-3, 1e5)}
_RTOL = 5e-4
_MAX_COUNT = 10**6


def free_numbers(release: AnyMechanism) -> tuple[str, ...]:
  """Returns the names of the numbers that can be found.

  Args:
    release: Release of any kind.
  """
  if isinstance(release, Mechanism):
    return (*_OF_RUNS, COUNT)
  if isinstance(release, Composition | Disjoint):
    return (COUNT,)
  fields = [f.name for f in dataclasses.fields(release)]
  # A sensitivity that must be an integer cannot be searched for.
  known = [
      name
      for name in fields
      if name in _NOISES + _LOSSES and isinstance(getattr(release, name), float)
  ]
  return (*known, COUNT)


def calibrate_release(
    release: AnyMechanism,
    *,
    free: str,
    epsilon: float,
    delta: float,
    accountant: str = "pld",
    others: AnyMechanism | None = None,
    examples_per_user: int = 1,
) -> AnyMechanism:
  """Returns the release with the number that just meets a target epsilon.

  Args:
    release: Release; its own value of the free number is not used.
    free: Name of the number: a field such as "scale", "epsilon", "rho" or
      "noise_multiplier"; for a run also "num_steps" and "sampling_prob"; or
      "count", the number of times that it is released.
    epsilon: Target epsilon, above 0.
    delta: Delta of the guarantee, in (0, 1).
    accountant: Name of the accountant: "pld" or "rdp".
    others: Other releases of the same data: the target is for all together.
    examples_per_user: Number of examples of a person that epsilon protects.

  Returns:
    The release with the least noise, or the most loss, steps or count. A number
    is rounded to six digits, to the safe side. With "count" it is a
    `Composition`.

  Raises:
    ValueError: If an argument breaks its rule, there is no such number, or none
      meets the target.

  Guarantee:
    `accounting.epsilon` of the result and `others` together is at most the
    target.
  """
  _validate.choice("free", free, options=free_numbers(release))
  ask = {
      "epsilon": epsilon,
      "delta": delta,
      "accountant": accountant,
      "others": others,
      "examples_per_user": examples_per_user,
  }
  if isinstance(release, Mechanism) and free in _OF_RUNS:
    return _OF_RUNS[free](release, **ask)
  goal = calibrate.Goal.checked(release, *ask.values())
  found = _count if free == COUNT else _number
  made = found(release, free, goal)
  goal.say(made)
  return made


def _count(release: AnyMechanism, free: str, goal) -> Composition:
  del free

  def at(count: int) -> Composition:
    return count * release

  count = goal.largest(at, high=_MAX_COUNT, guess=2)
  if count is None:
    rule = f"at least the epsilon of one release ({goal.shown(at(1))})"
    _validate.fail("epsilon", rule, goal.epsilon)
  return at(count)


def _number(release: Any, free: str, goal) -> Any:
  """Searches for a number, or for its inverse where more is less private."""
  is_noise = free in _NOISES
  kind = getattr(release, "kind", "")
  low, high = _ENDS.get((kind, free), _ENDS.get(free, (_LEAST, _MOST)))
  if free == "delta":  # Beyond, nothing at all is left for the others.
    high = min(high, 0.999 * goal.delta)
  if not is_noise:
    low, high = 1 / high, 1 / low

  def at(x: float) -> AnyMechanism:
    return dataclasses.replace(release, **{free: x if is_noise else 1 / x})

  bounds = {"target": goal.epsilon, "low": low, "high": high, "rtol": _RTOL}
  near = search.smallest(
      goal.epsilon_of(at, coarse=True), guess=1 / goal.epsilon, **bounds
  )
  fn = goal.epsilon_of(at)
  x = search.smallest(fn, guess=near or high, **bounds)
  if x is None:
    end = high if is_noise else 1 / high
    rule = f"within reach of a {free} of {end:g}"
    _validate.fail("epsilon", rule, goal.epsilon)
  return _rounded(release, free, x, fn, goal, is_noise)


def _rounded(release: Any, free: str, x: float, fn, goal, is_noise) -> Any:
  """Rounds to six digits, to the safe side, and computes epsilon again."""
  digit = 1 + 1e-6
  value = calibrate.round_up(x) if is_noise else _round_down(1 / x)
  while fn(value if is_noise else 1 / value) > goal.epsilon:
    value = (
        calibrate.round_up(value * digit)
        if is_noise
        else _round_down(value / digit)
    )
  return dataclasses.replace(release, **{free: value})


def _round_down(value: float) -> float:
  rounded = float(f"{value:.5e}")
  return rounded if rounded <= value else float(f"{value * (1 - 5e-6):.5e}")
