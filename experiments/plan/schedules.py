"""Learning rates over a run: optax's schedules, in fractions of the run.

The invariant: every length and every boundary in train.schedule_options is a
fraction of the run's updates, so that a recipe keeps its shape when its number
of steps changes. Learning rates are absolute. Update t = 0, 1, ... of n has the
rate of step t, and starts from train.learning_rate:

  constant
  cosine       to end_value (0.0) at the end of the run
  linear       to end_value (0.0)
  polynomial   to end_value (0.0), by power (2.0)
  exponential  decay_rate times as much after each part `transition` (1.0) of
               the run; in stairs if staircase (False)
  step         from each of boundaries on, as much as it was times its scale

Each has a form with a warm-up before it, "warmup_cosine" and so on: linearly
from init_value (0.0), for the part `warmup` of the run. What goes to the end of
the run then takes what is left of it; boundaries count from the run's start.

>>> schedule = build(
...     "warmup_cosine", {"warmup": 0.25}, learning_rate=2.0, num_steps=8)
>>> [round(float(schedule(t)), 2) for t in range(8)]
[0.0, 1.0, 2.0, 1.87, 1.5, 1.0, 0.5, 0.13]
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import optax

_WARMUP = "warmup_"


@dataclasses.dataclass(frozen=True)
class _Run:
  """The part of a run that a schedule is for: `start` is its first step."""

  num_steps: int
  start: int

  @property
  def rest(self) -> int:
    return self.num_steps - self.start

  def length(self, fraction: float) -> int:
    return max(1, round(fraction * self.num_steps))

  def moment(self, fraction: float) -> int:
    return round(fraction * self.num_steps) - self.start


def _constant(rate, run):
  del run
  return optax.constant_schedule(rate)


def _cosine(rate, run, *, end_value):
  return optax.cosine_decay_schedule(rate, run.rest, end_value / rate)


def _linear(rate, run, *, end_value):
  return optax.linear_schedule(rate, end_value, run.rest)


def _polynomial(rate, run, *, end_value, power):
  return optax.polynomial_schedule(rate, end_value, power, run.rest)


def _exponential(rate, run, *, decay_rate, transition, staircase):
  return optax.exponential_decay(
      rate, run.length(transition), decay_rate, staircase=staircase
  )


def _step(rate, run, *, boundaries, scales):
  if len(boundaries) != len(scales):
    raise ValueError(
        "train.schedule_options.scales must be one for each boundary, got"
        f" {len(scales)} for {len(boundaries)}."
    )
  factors = {}
  for moment, scale in zip(map(run.moment, boundaries), scales, strict=True):
    if moment < 0:
      raise ValueError(
          "train.schedule_options.boundaries must be after the warm-up, got"
          f" {boundaries}."
      )
    # In a short run, two boundaries may be the same step.
    factors[moment] = factors.get(moment, 1.0) * scale
  return optax.piecewise_constant_schedule(rate, factors)


# Each with its options and their defaults; None for one that must be given.
_SCHEDULES = {
    "constant": (_constant, {}),
    "cosine": (_cosine, {"end_value": 0.0}),
    "linear": (_linear, {"end_value": 0.0}),
    "polynomial": (_polynomial, {"end_value": 0.0, "power": 2.0}),
    "exponential": (
        _exponential,
        {"decay_rate": None, "transition": 1.0, "staircase": False},
    ),
    "step": (_step, {"boundaries": None, "scales": None}),
}
_WARMUP_OPTIONS = {"warmup": None, "init_value": 0.0}


def names() -> tuple[str, ...]:
  """Returns the names that train.schedule may have."""
  return (*_SCHEDULES, *(_WARMUP + name for name in _SCHEDULES))


def build(
    name: str,
    options: Mapping[str, Any],
    *,
    learning_rate: float,
    num_steps: int,
) -> optax.Schedule:
  """Returns the learning rate by the number of updates done.

  Args:
    name: One of `names`.
    options: Options of the schedule; lengths are fractions of the run.
    learning_rate: Rate that it starts from, after the warm-up: positive.
    num_steps: Number of updates of the run, at least 1.

  Raises:
    ValueError: If an argument breaks its rule; the text names the field.
  """
  if name not in names():
    raise ValueError(
        f"train.schedule must be one of {', '.join(names())}, got"
        f" {name!r:.100}."
    )
  make, defaults = _SCHEDULES[name.removeprefix(_WARMUP)]
  if not name.startswith(_WARMUP):
    options = _checked(name, options, defaults)
    return make(learning_rate, _Run(num_steps, 0), **options)
  options = _checked(name, options, _WARMUP_OPTIONS | defaults)
  # However short the run, one update at least is not of the warm-up.
  start = min(round(options.pop("warmup") * num_steps), num_steps - 1)
  init_value = options.pop("init_value")
  rest = make(learning_rate, _Run(num_steps, start), **options)
  if not start:
    return rest
  warmup = optax.linear_schedule(init_value, learning_rate, start)
  return optax.join_schedules([warmup, rest], [start])


def _checked(name, given, defaults) -> dict[str, Any]:
  """Returns the options with defaults, each checked by its rule."""
  for key in given:
    if key not in defaults:
      some = ", ".join(defaults) or "there are none"
      raise ValueError(
          f"train.schedule_options must be options of {name} ({some}), got"
          f" {key}."
      )
  options = {**defaults, **given}
  for key, value in options.items():
    rule, is_valid = _RULES[key]
    if not is_valid(value):
      raise ValueError(
          f"train.schedule_options.{key} must be {rule}, got {value!r:.100}."
      )
  return options


def _number(is_valid: Callable[[float], bool]) -> Callable[[Any], bool]:
  def check(value):
    is_number = isinstance(value, float | int) and not isinstance(value, bool)
    return is_number and is_valid(value)

  return check


def _several(is_valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
  def check(values):
    return isinstance(values, list | tuple) and all(map(is_valid, values))

  return check


def _ascending_fractions(values: Any) -> bool:
  return _several(_number(lambda x: 0 < x < 1))(values) and all(
      a < b for a, b in itertools.pairwise(values)
  )


_RULES = {
    "warmup": ("in (0, 1)", _number(lambda x: 0 < x < 1)),
    "init_value": ("at least 0", _number(lambda x: x >= 0)),
    "end_value": ("at least 0", _number(lambda x: x >= 0)),
    "power": ("positive", _number(lambda x: x > 0)),
    "decay_rate": ("positive", _number(lambda x: x > 0)),
    "transition": ("in (0, 1]", _number(lambda x: 0 < x <= 1)),
    "staircase": ("true or false", lambda x: isinstance(x, bool)),
    "boundaries": ("ascending fractions in (0, 1)", _ascending_fractions),
    "scales": ("positive numbers", _several(_number(lambda x: x > 0))),
}
