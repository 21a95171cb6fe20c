"""Gaussian noise from a cipher, as an optax transformation.

Use `secure_gaussian_privatizer` in place of `gaussian_privatizer` if the noise
must withstand an adversary with much computing power. Its bits are ChaCha20's
under a key of 256 bits (`secure_random.py`); JAX's generator has keys of 64.
Draws are made on the host, in float64, and rounded to float32.

The invariant: the noise of step t and leaf i is a pure function of (key, t, i),
whatever the number of threads and devices and the layout of arrays, and no two
draws share a bit of the cipher's output.

docs/performance.md says what it costs. It needs the extra `secure`.

Example:
  >>> import jax.numpy as jnp, optax
  >>> from jax_privacy import secure_noise, secure_random
  >>> noise = secure_noise.secure_gaussian_privatizer(
  ...     stddev=2.0, key=secure_random.SecureKey.fresh())
  >>> optimizer = optax.chain(noise, optax.sgd(0.1))
  >>> params = jnp.zeros(100_000)
  >>> state = optimizer.init(params)
  >>> updates, state = optimizer.update(params, state)
  >>> print(jnp.std(updates / 0.1).round(1), state[0].step)
  2.0 1
"""

import concurrent.futures
import dataclasses
import functools
import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jax_privacy import (
    _validate,
    contracts,
    grid,
    noise_draws,
    precision,
    root_key,
    secure_random,
)

# Two words a draw, four draws a block of the cipher.
_DRAW_BYTES = 16
_DRAWS_A_BLOCK = secure_random.BLOCK_BYTES // _DRAW_BYTES
MAX_LEAF_SIZE = secure_random.MAX_BYTES // _DRAW_BYTES
# No draw is larger; see `to_normals`.
_MAX_SIGMA = 14
# Draws made at a time: what they need fits in a core's cache.
_CHUNK = 2**14


@dataclasses.dataclass(frozen=True)
class SecureGaussian:
  """The noise "secure_gaussian" of `make_private`: see `contracts.Noise`."""

  is_secure = True

  def privatizer(
      self,
      mechanism: contracts.MechanismLike,
      *,
      stddev: float,
      root: root_key.RootKey,
      grid_step: float | None,
  ) -> optax.GradientTransformation:
    """Returns `secure_gaussian_privatizer` of a key that the root gives.

    Args:
      mechanism: Mechanism of the run, of which the number of steps is read.
      stddev: Standard deviation, in the units of the incoming sum.
      root: Private randomness of the run.
      grid_step: Size of the grid's steps; None for sums of floats.
    """
    return secure_gaussian_privatizer(
        stddev=stddev,
        key=secure_random.SecureKey.derived(root, "secure noise"),
        grid_step=grid_step,
        num_steps=mechanism.num_steps,
    )


class SecureNoiseState(NamedTuple):
  """Position in the noise: both must be saved to resume a run.

  Attributes:
    key: The cipher's key, uint32 [8]; whoever knows it can subtract the noise.
    step: Number of updates noised so far, an int32 scalar.
  """

  key: jax.Array
  step: jax.Array


def secure_gaussian_privatizer(
    *,
    stddev: float,
    key: secure_random.SecureKey | bytes | jax.Array,
    grid_step: float | None = None,
    num_steps: int | None = None,
) -> optax.GradientTransformation:
  """Adds independent N(0, stddev^2), drawn by a cipher, to each coordinate.

  Args:
    stddev: Standard deviation in the units of the incoming sum: noise
      multiplier x its L2 sensitivity to one example. A positive finite number.
    key: Key of 256 bits that is used nowhere else: `SecureKey.fresh()`, 32
      bytes, or uint32 [8].
    grid_step: Size of the grid's steps, the `.grid_step` of a
      `clipped_grad(grid_scale=...)`: the sum is int32, in such steps, and so is
      `stddev`; noise is rounded to whole steps. None for sums of floats.
    num_steps: Number of updates that noise is for; see `gaussian_privatizer`.

  Returns:
    An optax transformation. `init(params)` gives a `SecureNoiseState`; `update`
    takes the sum of clipped gradients, any pytree of real floating arrays, and
    returns it noised, each leaf in its incoming dtype; on a grid, it takes
    int32 and returns float32, multiples of the step. It may be jitted; the
    draws are a `jax.pure_callback`, and cannot be vmapped.

  Raises:
    ValueError: If an argument breaks its rule; from `update`, if a leaf has
      more than 2^34 entries, and after `num_steps` updates: where it is traced
      and cannot raise, its result is NaN.
    TypeError: From `update`, if a leaf is not real and floating point, or not
      int32 on a grid.
    ImportError: If `cryptography` is not installed.

  Guarantee: With stddev = noise_multiplier x sensitivity, one update is the
    Gaussian mechanism of that noise multiplier against anyone who cannot
    break ChaCha20, for draws that are exact real numbers. They are the inverse
    normal distribution of 128-bit uniform numbers, in float64, and reach 13
    sigma; their float32 sum with the gradient is not covered (Mironov 2012;
    Jin et al. 2021, arXiv 2112.05307), and a non-finite sum stays non-finite.
    On a grid, the sum is exact and covered: see `grid.py`.

  Source: Dwork and Roth 2014, theorem A.1; Abadi et al. 2016 (1607.00133).
  """
  stddev = _validate.stddev("stddev", stddev)
  key = secure_random.SecureKey.of(key)
  if num_steps is not None:
    _validate.integer("num_steps", num_steps, at_least=1)
  if grid_step is not None:
    grid_step = _validate.positive("grid_step", grid_step)
    if stddev * _MAX_SIGMA > grid.MAX_STEPS:
      rule = f"at most {grid.MAX_STEPS // _MAX_SIGMA} steps of the grid"
      _validate.fail("stddev", rule, stddev)

  def init(params):
    del params
    return SecureNoiseState(jnp.asarray(key.words()), jnp.zeros((), jnp.int32))

  def update(updates, state, params=None):
    del params
    is_over = noise_draws.past_the_end(state.step, num_steps)
    leaves, treedef = jax.tree.flatten(updates)
    leaves = [jnp.asarray(leaf) for leaf in leaves]
    shapes = [
        jax.ShapeDtypeStruct(x.shape, _noise_dtype(x.dtype, grid_step))
        for x in leaves
    ]
    for shape in shapes:
      if math.prod(shape.shape) > MAX_LEAF_SIZE:
        rule = f"at most {MAX_LEAF_SIZE}, so that no noise repeats"
        _validate.fail("a leaf's size", rule, math.prod(shape.shape))
    # All leaves at once: a callback costs as much as a thousand draws.
    draw_fn = functools.partial(_draw_on_host, shapes, stddev)
    noise = jax.pure_callback(draw_fn, shapes, state.key, state.step)
    if grid_step is None:
      noised = map(noise_draws.add_noise, leaves, noise)
    else:
      # An exact sum, modulo 2^32; what follows is post-processing.
      steps = map(jnp.add, leaves, noise)
      noised = [x.astype(jnp.float32) * grid_step for x in steps]
    noised = treedef.unflatten(noise_draws.void(list(noised), is_over))
    return noised, state._replace(step=optax.safe_increment(state.step))

  return optax.GradientTransformation(init, update)


def draw(
    key: secure_random.SecureKey, *, step: int, sizes: Sequence[int]
) -> list[np.ndarray]:
  """Draws the standard normals of one step.

  Args:
    key: Key of the cipher.
    step: Number of the step, an integer in [0, 2^31).
    sizes: Number of entries of each leaf, at most 2^34.

  Returns:
    Float64 [size] for each size.

  Raises:
    ValueError: If an argument is out of range.
  """
  _validate.integer("step", step, at_least=0)
  for size in sizes:
    _validate.integer("sizes", size, at_least=0)
    if size > MAX_LEAF_SIZE:
      _validate.fail("sizes", f"at most {MAX_LEAF_SIZE}", size)
  return _draw(key, step, [np.empty(size) for size in sizes], 1.0)


def _noise_dtype(dtype, grid_step):
  if grid_step is None:
    return precision.at_least_float32(dtype)
  if dtype != jnp.int32:
    raise TypeError(
        "Sums on a grid must be int32, as clipped_grad(grid_scale=...) returns"
        f" them, got {dtype}."
    )
  return dtype


def _draw_on_host(shapes, stddev, key_words, step):
  key = secure_random.SecureKey.of(np.asarray(key_words))
  step = int(step)
  if step < 0:
    _validate.fail("step", "in [0, 2^31), else noise repeats", step)
  flat = [np.empty(math.prod(x.shape), x.dtype) for x in shapes]
  _draw(key, step, flat, stddev)
  return [x.reshape(s.shape) for x, s in zip(flat, shapes, strict=True)]


def _draw(key, step, arrays, stddev):
  """Fills one-dimensional arrays with noise."""
  pieces = [
      (leaf, start)
      for leaf, array in enumerate(arrays)
      for start in range(0, array.size, _CHUNK)
  ]

  def fill(piece):
    leaf, start = piece
    target = arrays[leaf][start : start + _CHUNK]
    nonce = (secure_random.NOISE, leaf, step)
    stream = secure_random.keystream(
        key,
        nonce,
        target.size * _DRAW_BYTES,
        first_block=start // _DRAWS_A_BLOCK,
    )
    normals = to_normals(stream.view("<u8").reshape(-1, 2))
    # In float64; rounded once, to what the array holds.
    normals *= stddev
    if target.dtype == np.int32:
      np.rint(normals, out=normals)
    target[:] = normals

  # NumPy, SciPy and the cipher let go of the interpreter's lock.
  for _ in _threads().map(fill, pieces):
    pass
  return arrays


def to_normals(words: np.ndarray) -> np.ndarray:
  """Returns float64 [n] standard normals, made of random words.

  By inversion of the distribution function: a number of (0, 1/2] gives the
  size, a coin the sign, so that both tails are drawn as finely as the middle.
  The largest, with probability 2^-127, is 13.1.

  Args:
    words: Random words, uint64 [n, 2].
  """
  from scipy import special  # Costs an import that only secure noise needs.

  uniforms, is_positive = secure_random.half_uniforms(words)
  normals = special.ndtri(uniforms, out=uniforms)
  return np.negative(normals, out=normals, where=is_positive)


@functools.cache
def _threads() -> Any:
  return concurrent.futures.ThreadPoolExecutor(
      os.cpu_count(), thread_name_prefix="secure_noise"
  )
