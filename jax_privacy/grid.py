"""Clipped gradients in whole steps of a grid, whose sums are exact.

A float32 sum rounds, by an amount that depends on the data and on the order of
examples. One example can then move it by more than the clip norm. Float noise
on a float sum reveals the sum in its last digits. Whole numbers do neither.
With a `grid_scale` of K, the clip norm is K steps. Each example's clipped
gradient is rounded to whole steps; from there to the noise all arithmetic is
int32.

The invariant: an example adds a vector of integers of L2 norm at most K.
Rounding moves each of d entries by at most half a step, hence the gradient by
at most sqrt(d) / 2 steps. So the gradient is first clipped to K - sqrt(d) / 2.

Why privacy holds, with no allowance for rounding of sums: the released value is
(v + round(z)) mod 2^32, where v is the exact sum, an integer vector that one
example moves by at most K, and z is N(0, (noise_multiplier K)^2). Since v is
whole, v + round(z) = round(v + z). This is a function of the Gaussian
mechanism's output, and post-processing is free. (If z lies half way, rounding
to even may differ; such z have probability 0.) int32 wraps modulo 2^32, which
is a function of the exact value too. A sum too large costs accuracy, not
privacy. No order of additions, split into microbatches, or device changes a
bit.

It assumes that z is drawn exactly (`secure_noise` says how nearly). It assumes
that the norm of d float32 entries is computed to 2^-20. And it assumes that an
example's gradient has the same bits at any place in a batch. XLA does not
promise that: the last bit of a norm was seen to differ with the batch's layout,
which moves entries that lie half way by a step. With `microbatch_size=1` each
example goes through the same instructions, one at a time, at the price of
speed.

Source: Kairouz et al. 2021 (arXiv 2102.06387), for sums of rounded gradients
modulo a power of two; Casacuberta et al. 2022 (arXiv 2207.10635), for what
floating-point sums do to sensitivity.

Example:
  >>> import jax.numpy as jnp
  >>> import jax_privacy
  >>> loss = lambda param, x: 0.5 * jnp.mean((x - param) ** 2)
  >>> grad_fn = jax_privacy.clipped_grad(
  ...     loss, l2_clip_norm=2.0, grid_scale=1000)
  >>> print(grad_fn(3.0, jnp.array([0.0, 7.0, 2.0])))  # 2 - 2 + 1, in steps
  500
  >>> grad_fn.sensitivity(), grad_fn.grid_step
  (1000.0, 0.002)
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jax_privacy import _validate

# Sums and noise may each take half of int32's range: their sum does not wrap.
MAX_STEPS = 2**30
# More than float32's errors in a norm, a factor and their product.
_SLACK = 2.0**-20


def tighten(
    clip_norms: Sequence[float], sizes: Sequence[int], *, grid_scale: int
) -> list[float]:
  """Returns what to clip to, so that rounding stays within the clip norms.

  Args:
    clip_norms: C_p of each part of the gradient; C is their root sum of
      squares, and a step is C / grid_scale.
    sizes: Number d_p of entries of each part.
    grid_scale: Steps in C.

  Returns:
    C_p (1 - 2^-20) - sqrt(d_p) / 2 x C / grid_scale, for each part.

  Raises:
    ValueError: If one would not be positive: the grid is too coarse.
  """
  total_norm = math.hypot(*clip_norms)
  tightened = []
  for clip_norm, size in zip(clip_norms, sizes, strict=True):
    kept = clip_norm * (1 - _SLACK)
    rounding = math.sqrt(size) / 2 * total_norm / grid_scale
    if not rounding < kept:
      least = math.floor(math.sqrt(size) / 2 * total_norm / kept) + 1
      rule = f"at least {least} for {size} entries clipped to {clip_norm:g}"
      _validate.fail("grid_scale", rule, grid_scale)
    tightened.append(kept - rounding)
  return tightened


def to_steps(x: jax.Array) -> jax.Array:
  """Returns finite floats of less than 2^31, in steps, rounded to int32.

  Args:
    x: Floats, in steps of the grid, any shape.
  """
  return jnp.round(x).astype(jnp.int32)


def check_range(grid_scale: float, batch_size: int) -> None:
  """Refuses a grid on which a batch's sum might wrap.

  Args:
    grid_scale: Steps in the clip norm.
    batch_size: Number of rows of the padded batch.

  Raises:
    ValueError: If batch_size x grid_scale steps might wrap.
  """
  if batch_size * grid_scale > MAX_STEPS:
    most = MAX_STEPS // max(batch_size, 1)
    rule = f"at most {most}, that {batch_size} examples' int32 sum has room"
    _validate.fail("grid_scale", rule, grid_scale)
