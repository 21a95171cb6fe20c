"""A clip norm that follows a quantile of the gradients' norms, privately.

Each step releases, together, the noised sum of clipped gradients and a noised
count of how many were not clipped. The clip norm C of the next step is computed
from the count: it falls where more than the target quantile was below it, and
rises where less was.

The invariant: gradients in units of C, times `gradient_share`, and votes of
+1/2 (not clipped) or -1/2, times `count_share`, are one vector. Of one example
it has norm 1 at most, since gradient_share^2 + count_share^2 / 4 = 1. So the
noise multiplier sigma of the mechanism belongs to both together: the gradients
have sigma_g = sigma / gradient_share, the count sigma_b = sigma / count_share
in examples, and 1 / sigma^2 = 1 / sigma_g^2 + 1 / (2 sigma_b)^2. Accounting,
sampler, and noise of any correlation are as without the count.

>>> quantile = QuantileClipping(count_noise_multiplier=8.0)
>>> shares = quantile.shares(noise_multiplier=2.0, expected_batch_size=64)
>>> round(2.0 / shares.gradient, 4), 2.0 / shares.count
(2.0158, 8.0)
>>> round(1 / 2.0158**2 + 1 / 16.0**2, 3)
0.25
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from jax_privacy import _validate, clipping, traced_norm
from jax_privacy.sensitivity import BoundedSensitivityCallable

# What the clip norm cannot leave, whatever is counted.
_MIN, _MAX = 1e-20, 1e20
# Of the default: the noise on the count is a twentieth of the expected batch,
# and twice the noise multiplier at least, which costs the gradients 3.3%.
_BATCH_SHARE, _LEAST = 1 / 20, 2.0


class Shares(NamedTuple):
  """Factors of the two parts of what an example adds.

  Attributes:
    gradient: Factor of a clipped gradient in units of the clip norm.
    count: Factor of a vote, +1/2 or -1/2.
  """

  gradient: float
  count: float


class GradientsAndCount(NamedTuple):
  """What the gradient function of a run returns, whose clip norm adapts.

  Attributes:
    grads: Sum of clipped gradients, times `Shares.gradient`.
    count: Sum of votes, times `Shares.count`, a scalar.
  """

  grads: Any
  count: jax.Array


class QuantileState(NamedTuple):
  """State of the optimiser: all must be saved to resume a run.

  Attributes:
    noise: State of the noise.
    clip_norm: Clip norm of the next step, float32; no secret.
    optimizer: State of the optimiser behind the noise.
  """

  noise: Any
  clip_norm: jax.Array
  optimizer: Any


@dataclasses.dataclass(frozen=True)
class QuantileClipping:
  """How the clip norm adapts; the argument `clipping` of `make_private`.

  Attributes:
    target_quantile: Share of gradients that are not to be clipped, in [0, 1].
    learning_rate: Step of the clip norm's logarithm: C becomes C exp(-rate x
      (share below C - target)). At least 0.
    count_noise_multiplier: Standard deviation of the noise on the count, in
      examples; above half the mechanism's noise multiplier. None for a
      twentieth of the expected batch size, and twice the noise multiplier at
      least.

  Source: Andrew et al. 2019 (arXiv 1905.03871), algorithm 1 and theorem 1; the
    defaults but the floor of the last are the paper's.
  """

  target_quantile: float = 0.5
  learning_rate: float = 0.2
  count_noise_multiplier: float | None = None

  def __post_init__(self):
    target = _validate.as_float(self.target_quantile)
    if not 0 <= target <= 1:
      _validate.fail("target_quantile", "in [0, 1]", self.target_quantile)
    rate = _validate.as_float(self.learning_rate)
    if not 0 <= rate <= 10:
      _validate.fail("learning_rate", "in [0, 10]", self.learning_rate)
    noise = self.count_noise_multiplier
    if noise is not None:
      noise = _validate.positive("count_noise_multiplier", noise)
    object.__setattr__(self, "target_quantile", target)
    object.__setattr__(self, "learning_rate", rate)
    object.__setattr__(self, "count_noise_multiplier", noise)

  def shares(
      self, *, noise_multiplier: float, expected_batch_size: float
  ) -> Shares:
    """Returns the factors of gradients and votes.

    Args:
      noise_multiplier: Noise multiplier of both together, the mechanism's.
      expected_batch_size: Expected number of examples in a batch.

    Raises:
      ValueError: If there is too little noise on the count: it would have all
        of the guarantee.
    """
    count_noise = self.count_noise_multiplier
    if count_noise is None:
      count_noise = max(
          expected_batch_size * _BATCH_SHARE, _LEAST * noise_multiplier
      )
    ratio = noise_multiplier / (2 * count_noise)
    if not ratio < 1:
      rule = (
          f"above half the noise multiplier ({noise_multiplier:g}), which both"
          " share"
      )
      _validate.fail("count_noise_multiplier", rule, count_noise)
    # Of the two, this one is rounded down: see the invariant above.
    gradient = math.sqrt((1 - ratio) * (1 + ratio)) * (1 - 2**-50)
    return Shares(gradient, 2 * ratio)


def grad_fn(
    loss_fn: Callable[..., Any],
    shares: Shares,
    *,
    return_grad_norms: bool = False,
    **options: Any,
) -> BoundedSensitivityCallable:
  """Returns the sum of clipped gradients and the count, of one batch.

  Args:
    loss_fn: Loss; see `clipped_grad`.
    shares: Factors of the two.
    return_grad_norms: Whether norms before clipping are returned too.
    **options: Options of `clipped_grad` but the clip norm and the
      `rescale_to_unit_norm`.

  Returns:
    A callable `(*args, is_padding_example=None, clip_norm)` which returns
    `GradientsAndCount`, or a pair of it and `Aux`; `clip_norm` is a scalar.

  Raises:
    ValueError: If an option breaks its rule. From the callable, if there is no
      `clip_norm`.

  Guarantee: Whatever the clip norm, one example moves both together by at most
    1 / normalize_by. A vote is +1/2, -1/2, or 0 for padding.
  """
  for name, usual in (("pre_clipping_transform", None), ("grid_scale", None)):
    if options.get(name, usual) != usual:
      rule = f"{usual} with a clip norm that adapts"
      _validate.fail(name, rule, options[name])
  normalize_by = options.get("normalize_by", 1.0)
  base = clipping.clipped_grad(loss_fn, l2_clip_norm=1.0, **options)

  def fun(*args, is_padding_example=None, clip_norm=None):
    if clip_norm is None:
      rule = "private.step_options(state)['clip_norm'], since it adapts"
      _validate.fail("clip_norm", rule, None)
    clip_norm = jnp.asarray(clip_norm, jnp.float32)
    inner = traced_norm.of_array(
        clipping.clipped_grad,
        loss_fn,
        l2_clip_norm=clip_norm,
        rescale_to_unit_norm=True,
        return_grad_norms=True,
        **options,
    )
    total, aux = inner(*args, is_padding_example=is_padding_example)
    votes = jnp.where(aux.grad_norms <= clip_norm, 0.5, -0.5)
    if is_padding_example is not None:
      votes = jnp.where(is_padding_example, 0.0, votes)
    # Halves: their sum is exact, in any order.
    count = jnp.sum(votes.astype(jnp.float32))
    sums = GradientsAndCount(
        jax.tree.map(lambda g: g * _of(shares.gradient, g), total),
        count * jnp.float32(shares.count / normalize_by),
    )
    if not (base.has_aux or return_grad_norms):
      return sums
    return sums, aux if return_grad_norms else aux._replace(grad_norms=None)

  return dataclasses.replace(
      base, fun=fun, has_aux=base.has_aux or return_grad_norms
  )


def following(
    quantile: QuantileClipping,
    shares: Shares,
    *,
    released: optax.GradientTransformation,
    optimizer: optax.GradientTransformation,
    first_clip_norm: float,
    rescale_to_unit_norm: bool,
) -> optax.GradientTransformationExtraArgs:
  """Returns the optimiser that adds the noise and moves the clip norm.

  Args:
    quantile: Rule by which the clip norm adapts.
    shares: Factors of gradients and votes.
    released: Transformation that adds the noise to `GradientsAndCount`.
    optimizer: Optimiser of the noised gradients.
    first_clip_norm: Clip norm of the first step.
    rescale_to_unit_norm: Whether gradients stay in units of the clip norm.
  """
  optimizer = optax.with_extra_args_support(optimizer)

  def init(params):
    return QuantileState(
        released.init(cast(Any, sums_like(params))),
        jnp.asarray(first_clip_norm, jnp.float32),
        optimizer.init(params),
    )

  def update(sums, state, params=None, **extra_args):
    if not isinstance(sums, GradientsAndCount):
      rule = "the GradientsAndCount that grad_fn returned"
      _validate.fail("updates", rule, type(sums).__name__)
    noised, noise = released.update(cast(Any, sums), state.noise)
    noised = cast(Any, noised)
    unit = 1.0 if rescale_to_unit_norm else state.clip_norm
    grads = jax.tree.map(
        lambda g: g * _of(unit / shares.gradient, g), noised.grads
    )
    share_below = noised.count / jnp.float32(shares.count) + 0.5
    moved = state.clip_norm * jnp.exp(
        -quantile.learning_rate * (share_below - quantile.target_quantile)
    )
    updates, inner = optimizer.update(
        grads, state.optimizer, params, **extra_args
    )
    return updates, QuantileState(noise, jnp.clip(moved, _MIN, _MAX), inner)

  return optax.GradientTransformationExtraArgs(init, cast(Any, update))


def sums_like(params: Any) -> GradientsAndCount:
  """Returns zeros or shapes of the structure of the sums.

  Args:
    params: Parameters, arrays or shapes.
  """
  return GradientsAndCount(params, jnp.zeros((), jnp.float32))


def clip_norm_of(state: Any) -> jax.Array:
  """Returns the clip norm of the next step.

  Args:
    state: State of `following`, or of a chain that it is in.

  Raises:
    ValueError: If there is no such state in it.
  """

  def is_found(node):
    return isinstance(node, QuantileState)

  for node in jax.tree.leaves(state, is_leaf=is_found):
    if is_found(node):
      return node.clip_norm
  _validate.fail("state", "of an optimiser whose clip norm adapts", state)


def _of(factor, leaf):
  return jnp.asarray(factor, leaf.dtype)
