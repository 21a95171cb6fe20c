"""Gaussian noise as an optax transformation of the clipped sum.

The invariant: every update, and every coordinate of every parameter within it,
gets noise of its own. Draw t is a pure function of (key, t). So a resumed run
draws what the unbroken one would have drawn, and never repeats a draw. No bit
of a draw depends on the number of devices, on how arrays are laid out over
them, or on whether the update is compiled as a whole. With `num_steps`, there
are exactly this many draws: a further sum is refused, or comes out as NaN.

`matrix_factorization_privatizer` adds noise that is correlated from step to
step; it is in `correlated_noise.py`.

Put the noise before the optimiser. What comes after it is post-processing and
free.

Example:
  >>> import jax, jax.numpy as jnp, optax
  >>> from jax_privacy import noise_addition
  >>> noise = noise_addition.gaussian_privatizer(
  ...     stddev=2.0, prng_key=jax.random.key(0))
  >>> optimizer = optax.chain(noise, optax.sgd(0.1))
  >>> params = jnp.zeros(10_000)
  >>> state = optimizer.init(params)
  >>> updates, state = optimizer.update(jnp.zeros(10_000), state)
  >>> print(jnp.std(updates / 0.1).round(1), state[0].step)
  2.0 1
"""

import dataclasses
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from jax_privacy import _validate, contracts, noise_draws, root_key
from jax_privacy.correlated_noise import (
    matrix_factorization_privatizer as matrix_factorization_privatizer,
)


@dataclasses.dataclass(frozen=True)
class Gaussian:
  """The noise "gaussian" of `make_private`: see `contracts.Noise`."""

  is_secure = False

  def privatizer(
      self,
      mechanism: contracts.MechanismLike,
      *,
      stddev: float,
      root: root_key.RootKey,
      grid_step: float | None,
  ) -> optax.GradientTransformation:
    """Returns `gaussian_privatizer` of the key that the root gives noise.

    Args:
      mechanism: Mechanism of the run, of which the number of steps is read.
      stddev: Standard deviation, in the units of the incoming sum.
      root: Private randomness of the run.
      grid_step: Size of a grid's steps, which must be None.

    Raises:
      ValueError: If an argument breaks its rule, or there is a grid.
    """
    if grid_step is not None:
      # JAX's float32 normals are 2^23 numbers: with a standard deviation of
      # 2^16 steps, those next to each other at 4 sigma are 58 steps apart.
      rule = "True with a grid_scale (float32 noise leaves gaps on a grid)"
      _validate.fail("secure_random", rule, False)
    return gaussian_privatizer(
        stddev=stddev,
        prng_key=root.prng_key("noise"),
        num_steps=mechanism.num_steps,
    )


class GaussianNoiseState(NamedTuple):
  """Position in the noise: both must be saved to resume a run.

  Attributes:
    prng_key: The run's noise key; whoever knows it can subtract the noise.
    step: Number of updates noised so far, an int32 scalar.
  """

  prng_key: jax.Array
  step: jax.Array


def gaussian_privatizer(
    *,
    stddev: float,
    prng_key: jax.Array | int,
    dtype: jax.typing.DTypeLike | None = None,
    num_steps: int | None = None,
) -> optax.GradientTransformation:
  """Adds independent N(0, stddev^2) to each coordinate of each update.

  Args:
    stddev: Standard deviation in the units of the incoming sum: noise
      multiplier x its L2 sensitivity to one example. A positive finite number.
    prng_key: Threefry key (typed, or raw uint32 [2]) that is used nowhere
      else, or an int to make one of. There is no default: a forgotten key would
      repeat another run's noise.
    dtype: Type of the draw: float32, float64, or None for the update's own,
      float32 at least. Shorter draws are refused: bfloat16 noise has 128 values
      a binade and its tails stop short.
    num_steps: Number of updates that are accounted for; None for 2^31 - 1,
      after which noise would repeat.

  Returns:
    An optax transformation. `init(params)` gives a `GaussianNoiseState`;
    `update` takes the sum of clipped gradients, any pytree of real floating
    arrays, and returns it noised, each leaf in its incoming dtype.

  Raises:
    ValueError: If an argument breaks its rule; and, now or from `update`, if
      JAX draws random numbers in a way in which devices might not agree. From
      `update`, after `num_steps` updates; where it is traced and cannot raise,
      its result is NaN.
    TypeError: From `update`, if a leaf is not real and floating point.

  Guarantee: With stddev = noise_multiplier x sensitivity, one update is the
    Gaussian mechanism of that noise multiplier, for draws that are exact real
    numbers. That floats are not is a known gap (Mironov 2012; arXiv
    2112.05307). A non-finite sum stays non-finite.

  Source: Dwork and Roth 2014, theorem A.1; Abadi et al. 2016 (1607.00133).
  """
  stddev = _validate.stddev("stddev", stddev)
  prng_key = _validate.prng_key("prng_key", prng_key)
  if num_steps is not None:
    _validate.integer("num_steps", num_steps, at_least=1)
  noise_draws.check_draw_dtype(dtype)
  noise_draws.check_generator(prng_key)

  def init(params):
    del params
    return GaussianNoiseState(prng_key, jnp.zeros((), jnp.int32))

  # Its arguments' names are those of jax-privacy.
  def update(
      sum_of_clipped_grads: Any, noise_state: Any, params: Any = None
  ) -> tuple[Any, Any]:
    del params
    noise_draws.check_generator(noise_state.prng_key)
    is_over = noise_draws.past_the_end(noise_state.step, num_steps)
    leaves, treedef = jax.tree.flatten(sum_of_clipped_grads)
    # One key per step, then one per leaf: no two draws share a key.
    step_key = jax.random.fold_in(noise_state.prng_key, noise_state.step)
    leaves = [jnp.asarray(leaf) for leaf in leaves]
    noised = [
        noise_draws.noised(jax.random.fold_in(step_key, i), leaf, stddev, dtype)
        for i, leaf in enumerate(leaves)
    ]
    noised = treedef.unflatten(noise_draws.void(noised, is_over))
    return noised, noise_state._replace(
        step=optax.safe_increment(noise_state.step)
    )

  return optax.GradientTransformation(init, cast(Any, update))
