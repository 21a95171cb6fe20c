"""Laws of the noise level that a training draw has.

Invariant: a level is a positive, finite function of one key; of which example
it is for, a law knows nothing.

>>> draw_fn = build("log_normal", mean=-1.2, std=1.2)
>>> draw_fn(jax.random.key(0)).shape
()
>>> build("uniform", lowest=3.0)
Traceback (most recent call last):
ValueError: options of noise law 'uniform' must be among max_log_snr, \
min_log_snr, got 'lowest'.
"""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from experiments.tasks.denoising import parameterisation
from jax_privacy import _validate

DrawFn = Callable[[jax.Array], jax.Array]
# Log levels beyond these are no finite, positive squares in float32.
_LARGEST_LOG = 20.0
# Nearer to 0 or 1 than this, tan would give no usable level.
_LEAST_TIME = 1e-4


def log_normal(*, mean: float = -1.2, std: float = 1.2) -> DrawFn:
  """Returns a law: ln s is normal, cut at +-20.

  Args:
    mean: Mean of ln s.
    std: Standard deviation of ln s, positive.

  Raises:
    ValueError: If an argument breaks its rule.

  Source: Karras et al. 2022 (arXiv 2206.00364); the defaults are theirs.
  """
  _check_number("mean", mean, low=-_LARGEST_LOG, high=_LARGEST_LOG)
  _check_number("std", std, low=1e-6, high=_LARGEST_LOG)

  def draw_fn(key):
    log = mean + std * jax.random.normal(key, dtype=jnp.float32)
    return jnp.exp(jnp.clip(log, -_LARGEST_LOG, _LARGEST_LOG))

  return draw_fn


def uniform(*, max_log_snr: float = 13.0, min_log_snr: float = -9.0) -> DrawFn:
  """Returns a law: t = (2 / pi) arctan(s) is uniform between two bounds.

  Args:
    max_log_snr: Value of ln(1 / s^2) at the least noise.
    min_log_snr: Value of ln(1 / s^2) at the most noise.

  Raises:
    ValueError: If an argument breaks its rule.

  Source: Dockhorn et al. 2023 (arXiv 2210.09929), the law for "v".
  """
  for name, value in (
      ("max_log_snr", max_log_snr),
      ("min_log_snr", min_log_snr),
  ):
    _check_number(name, value, low=-18.0, high=18.0)
  if not min_log_snr < max_log_snr:
    _validate.fail("min_log_snr", "less than max_log_snr", min_log_snr)
  low, high = (
      2.0 / math.pi * math.atan(math.exp(-0.5 * log_snr))
      for log_snr in (max_log_snr, min_log_snr)
  )

  def draw_fn(key):
    time = jax.random.uniform(key, (), jnp.float32, low, high)
    return parameterisation.sigma_of(time)

  return draw_fn


def mixture(
    *, weights: Sequence[float], bounds: Sequence[Sequence[float]]
) -> DrawFn:
  """Returns a law: t is uniform in one of several ranges, chosen at random.

  Args:
    weights: Weights of the ranges, positive; they need not sum to 1.
    bounds: Pairs (low, high) of t, 0.0001 <= low < high <= 0.9999.

  Raises:
    ValueError: If an argument breaks its rule.

  Source: the kind of law of Ghalebikesabi et al. 2023 (arXiv 2302.13861).
  """
  weights, bounds = tuple(weights), tuple(map(tuple, bounds))
  if not weights or len(weights) != len(bounds):
    _validate.fail("weights", "one for each of the bounds", weights)
  for weight in weights:
    _check_number("weights", weight, low=1e-9, high=1e9)
  for pair in bounds:
    if len(pair) != 2:
      _validate.fail("bounds", "pairs of numbers", bounds)
    for end in pair:
      _check_number("bounds", end, low=_LEAST_TIME, high=1.0 - _LEAST_TIME)
    if not pair[0] < pair[1]:
      _validate.fail("bounds", "pairs (low, high) with low < high", bounds)

  def draw_fn(key):
    which, where = jax.random.split(key)
    logits = jnp.log(jnp.asarray(weights, jnp.float32))
    low, high = jnp.asarray(bounds, jnp.float32)[
        jax.random.categorical(which, logits)
    ]
    share = jax.random.uniform(where, dtype=jnp.float32)
    return parameterisation.sigma_of(low + (high - low) * share)

  return draw_fn


_LAWS: dict[str, Callable[..., DrawFn]] = {
    "log_normal": log_normal,
    "mixture": mixture,
    "uniform": uniform,
}


def names() -> tuple[str, ...]:
  """Returns the names of all laws, sorted."""
  return tuple(sorted(_LAWS))


def build(name: str, **options: Any) -> DrawFn:
  """Returns `draw_fn(key)`, a noise level, a float32 scalar.

  Args:
    name: One of `names()`.
    **options: Arguments of that law.

  Raises:
    ValueError: If the name or an option is unknown, or breaks its rule.
  """
  if name not in _LAWS:
    _validate.fail("noise_law", f"one of {', '.join(names())}", name)
  parameters = inspect.signature(_LAWS[name]).parameters
  for option in options:
    if option not in parameters:
      raise ValueError(
          f"options of noise law {name!r} must be among"
          f" {', '.join(parameters)}, got {option!r}."
      )
  required = [k for k, p in parameters.items() if p.default is p.empty]
  if missing := sorted(set(required) - set(options)):
    raise ValueError(
        f"options of noise law {name!r} must have {missing[0]}, got none."
    )
  return _LAWS[name](**options)


def _check_number(name: str, value: Any, *, low: float, high: float) -> None:
  is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
  if not is_number or not low <= value <= high:
    _validate.fail(name, f"a number in [{low}, {high}]", value)
