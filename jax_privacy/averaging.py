"""Averages of parameters over training: no privacy cost, better accuracy.

The iterates are already private, so averaging them is post-processing. An
averaging has `init(params)` and `update(params, state)`; the average itself is
`state.average`.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy import averaging
  >>> mean = averaging.polyak()
  >>> state = mean.init(jnp.array(0.0))
  >>> for value in (1.0, 2.0, 6.0):
  ...   state = mean.update(jnp.array(value), state)
  >>> print(state.average)
  3.0
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jax_privacy import _validate, precision


class AverageState(NamedTuple):
  """Average of the parameters seen so far.

  Attributes:
    average: Pytree like params, each leaf float32 at least.
    num_updates: Number of updates so far, an int32 scalar.
  """

  average: chex.ArrayTree
  num_updates: jax.Array


class Averaging(NamedTuple):
  """A pair of pure functions: `init(params)` and `update(params, state)`.

  Attributes:
    init: Function of the parameters that gives the first `AverageState`.
    update: Function of (parameters, state) that gives the next one.
  """

  init: Callable[[chex.ArrayTree], AverageState]
  update: Callable[[chex.ArrayTree, AverageState], AverageState]


def ema(decay: float, *, warmup: bool = True) -> Averaging:
  """Exponential moving average: average <- d average + (1 - d) params.

  Args:
    decay: Decay d, in [0, 1); 0 keeps the last parameters.
    warmup: Whether d = min(decay, (1 + t) / (10 + t)) at update t = 0, 1, ...,
      so that the initial parameters are soon forgotten; else d = decay.

  Returns:
    An `Averaging`. Before the first update the average is the parameters.

  Raises:
    ValueError: If `decay` is outside [0, 1).

  Source: De et al. 2022 (arXiv 2204.13650), after Tan and Le 2019.
  """
  if isinstance(decay, bool) or not 0 <= decay < 1:
    _validate.fail("decay", "in [0, 1)", decay)

  def weight(t):
    t = t.astype(jnp.float32)
    warm = jnp.minimum(decay, (1 + t) / (10 + t)) if warmup else decay
    return 1 - jnp.asarray(warm, jnp.float32)

  return _running_average(weight)


def polyak(*, start_step: int = 0) -> Averaging:
  """Uniform mean of the parameters from update `start_step` on.

  Args:
    start_step: First update that counts, from 0. Until then the average is the
      parameters themselves.

  Returns:
    An `Averaging`.

  Raises:
    ValueError: If `start_step` is not an integer of at least 0.

  Source: Polyak and Juditsky 1992.
  """
  _validate.integer("start_step", start_step, at_least=0)

  def weight(t):
    num_averaged = jnp.maximum(t - start_step + 1, 1)
    return 1 / num_averaged.astype(jnp.float32)

  return _running_average(weight)


def _running_average(weight_fn) -> Averaging:
  """Average <- average + weight_fn(t) (params - average)."""

  def init(params):
    # Copied: a training step may donate the parameters' own buffers.
    average = jax.tree.map(
        lambda p: jnp.array(p, precision.at_least_float32(p.dtype)), params
    )
    return AverageState(average, jnp.zeros((), jnp.int32))

  def update(params, state):
    def mix(average, param):
      weight = weight_fn(state.num_updates).astype(average.dtype)
      return average + weight * (param.astype(average.dtype) - average)

    average = jax.tree.map(mix, state.average, params)
    return AverageState(average, state.num_updates + 1)

  return Averaging(init, update)
