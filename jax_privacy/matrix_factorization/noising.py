"""Ways to make the correlated noise C^-1 Z of each step.

One object holds a strategy, or its inverse, as plain numbers, and makes the
noise of one leaf of one step. `correlated_noise.py` gives it the keys.

| object | given | state, in parameters |
|---|---|---|
| `BandedStrategy` | C, of b bands | b - 1 |
| `BufferedStrategy` | C, of m buffers | m |
| `BandedNoising` | C^-1, of p bands | none: p draws are made at each step |
| `DenseNoising` | rows of C^-1 | none: as many draws as a row has entries |

Invariant: Z of step t is drawn from step t's key alone, so what is drawn again
is what was drawn. Sums over bands are loops of fixed order, compiled by
themselves: no bit depends on how arrays are laid out over devices. In float32,
the noise is C^-1 (Z + d) for a small d: rounding errors do not add up.

Example:
  >>> from jax_privacy.matrix_factorization import noising
  >>> noising.BandedNoising((1.0, -0.5)).num_draws
  2
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jax_privacy import _validate, noise_draws
from jax_privacy.matrix_factorization import streaming_matrix


class Draws(NamedTuple):
  """How the independent noise Z of one leaf is drawn.

  Attributes:
    prng_key: Key of the run's noise.
    index: Number of the leaf.
    stddev: Standard deviation.
    dtype: Type of a draw, float32 or float64.
  """

  prng_key: jax.Array
  index: int
  stddev: float
  dtype: Any

  def key(self, step: jax.Array) -> jax.Array:
    """Returns the key of a step's draw.

    Args:
      step: Number of the step.
    """
    step_key = jax.random.fold_in(self.prng_key, step)
    return jax.random.fold_in(step_key, self.index)


class Noising(Protocol):
  """What `matrix_factorization_privatizer` takes."""

  def init(self, leaf: Any, dtype: Any) -> Any:
    """Returns the first state of one leaf.

    Args:
      leaf: Array, or its shape and dtype.
      dtype: Type of a draw.
    """
    ...

  def noised(
      self, leaf: jax.Array, draws: Draws, step: jax.Array, state: Any
  ) -> tuple[jax.Array, Any]:
    """Returns the leaf plus the step's noise, and the next state.

    Args:
      leaf: Sum, float32 at least.
      draws: Keys and scale of Z.
      step: Number of the step, an int32 scalar.
      state: State of the leaf.
    """
    ...


@dataclasses.dataclass(frozen=True)
class BandedNoising:
  """Toeplitz noise of p bands: step t has the sum of coef[k] Z[t - k].

  Attributes:
    coef: Coefficients of C^-1, the first positive.
  """

  coef: tuple[float, ...]

  def __post_init__(self):
    object.__setattr__(self, "coef", checked_coef("noising_coef", self.coef))

  @property
  def num_draws(self) -> int:
    """Number of draws made at a step."""
    return len(self.coef)

  def init(self, leaf: Any, dtype: Any) -> tuple[()]:
    """See `Noising`."""
    del leaf, dtype
    return ()

  def noised(
      self, leaf: jax.Array, draws: Draws, step: jax.Array, state: Any
  ) -> tuple[jax.Array, Any]:
    """See `Noising`; with one coefficient, 1, it is `gaussian_privatizer`'s."""
    own, *older = (draws.stddev * c for c in self.coef)
    key = draws.key(step)
    if not older:
      return noise_draws.noised(key, leaf, own, draws.dtype), state
    noise = _add_draws(
        draws.prng_key,
        draws.index,
        _draw(key, leaf.shape, own, draws.dtype),
        step - 1,
        jnp.asarray(older, draws.dtype),
        jnp.minimum(len(older), step),
    )
    return noise_draws.add_noise(leaf, noise), state


@dataclasses.dataclass(frozen=True)
class DenseNoising:
  """Noise by the rows of a matrix: step t has the sum of row[j] Z[j].

  Make it by `of`.

  Attributes:
    scales: Entries of each row from its last one backwards, [n, width].
    last: Number of each row's last entry, int32 [n].
    num_entries: Number of entries from the first to the last, int32 [n].
  """

  scales: np.ndarray
  last: np.ndarray
  num_entries: np.ndarray

  @classmethod
  def of(cls, rows: np.ndarray) -> "DenseNoising":
    """Returns the noise of a matrix; zeros at the ends of rows cost nothing.

    Args:
      rows: Matrix C^-1, float64 [n, k], of finite numbers.
    """
    spans = [np.flatnonzero(row) for row in rows]
    spans = [(s[0], s[-1] + 1) if len(s) else (0, 0) for s in spans]
    widths = [end - begin for begin, end in spans]
    scales = np.zeros((len(rows), max(widths)))
    for scale, row, (begin, end) in zip(scales, rows, spans, strict=True):
      scale[: end - begin] = row[begin:end][::-1]
    last = [max(end - 1, 0) for _, end in spans]
    return cls(scales, np.array(last, np.int32), np.array(widths, np.int32))

  def init(self, leaf: Any, dtype: Any) -> tuple[()]:
    """See `Noising`."""
    del leaf, dtype
    return ()

  def noised(
      self, leaf: jax.Array, draws: Draws, step: jax.Array, state: Any
  ) -> tuple[jax.Array, Any]:
    """See `Noising`."""
    scales = jnp.asarray(draws.stddev * self.scales, draws.dtype)[step]
    last, num = jnp.asarray(self.last)[step], jnp.asarray(self.num_entries)
    noise = _add_draws(
        draws.prng_key,
        draws.index,
        jnp.zeros(leaf.shape, draws.dtype),
        last,
        scales,
        num[step],
    )
    return noise_draws.add_noise(leaf, noise), state


@dataclasses.dataclass(frozen=True)
class BandedStrategy:
  """Noise of a Toeplitz strategy of b bands: x[t] solves C x = Z.

  Attributes:
    coef: Coefficients of C, the first positive.
  """

  coef: tuple[float, ...]

  def __post_init__(self):
    object.__setattr__(self, "coef", checked_coef("strategy_coef", self.coef))

  def init(self, leaf: Any, dtype: Any) -> jax.Array:
    """See `Noising`; the last b - 1 noises, in a ring."""
    return jnp.zeros((len(self.coef) - 1, *leaf.shape), dtype)

  def noised(
      self, leaf: jax.Array, draws: Draws, step: jax.Array, state: Any
  ) -> tuple[jax.Array, Any]:
    """See `Noising`; with one coefficient, 1, it is `gaussian_privatizer`'s."""
    first, *others = self.coef
    key, own = draws.key(step), draws.stddev / first
    if not others:
      return noise_draws.noised(key, leaf, own, draws.dtype), state
    factors = jnp.asarray([-c / first for c in others], state.dtype)
    noise = _draw(key, leaf.shape, own, draws.dtype)
    noise, state = _solve_next(noise, state, factors, step)
    return noise_draws.add_noise(leaf, noise), state


@dataclasses.dataclass(frozen=True)
class BufferedStrategy:
  """Noise of a buffered linear Toeplitz strategy: x[t] solves C x = Z.

  Attributes:
    buf_decay: Decay of each buffer, in [0, 1).
    output_scale: Scale of each buffer in the output of C.
  """

  buf_decay: tuple[float, ...]
  output_scale: tuple[float, ...]

  def __post_init__(self):
    for name in ("buf_decay", "output_scale"):
      values = tuple(_validate.as_float(x) for x in getattr(self, name))
      if not all(math.isfinite(x) for x in values):
        _validate.fail(name, "finite numbers", getattr(self, name))
      object.__setattr__(self, name, values)
    if not all(0 <= x < 1 for x in self.buf_decay):
      # At 1 and above, rounding errors add up in the buffers.
      _validate.fail("buf_decay", "in [0, 1)", self.buf_decay)
    if len(self.buf_decay) != len(self.output_scale):
      rule = "as long as buf_decay"
      _validate.fail("output_scale", rule, self.output_scale)

  def init(self, leaf: Any, dtype: Any) -> jax.Array:
    """See `Noising`; one array a buffer."""
    return jnp.zeros((len(self.buf_decay), *leaf.shape), dtype)

  def noised(
      self, leaf: jax.Array, draws: Draws, step: jax.Array, state: Any
  ) -> tuple[jax.Array, Any]:
    """See `Noising`."""
    key = draws.key(step)
    if not self.buf_decay:
      return noise_draws.noised(key, leaf, draws.stddev, draws.dtype), state
    noise = _draw(key, leaf.shape, draws.stddev, draws.dtype)
    decay, scale = (
        jnp.asarray(x, state.dtype) for x in (self.buf_decay, self.output_scale)
    )
    noise, state = _buffer_next(noise, state, decay, scale, step)
    return noise_draws.add_noise(leaf, noise), state


@dataclasses.dataclass(frozen=True)
class StreamedNoising:
  """Noise by any streaming matrix C^-1; its bits are those of its own sums.

  Attributes:
    matrix: Matrix C^-1.
  """

  matrix: streaming_matrix.StreamingMatrix

  def init(self, leaf: Any, dtype: Any) -> Any:
    """See `Noising`."""
    return self.matrix.init_multiply(jax.ShapeDtypeStruct(leaf.shape, dtype))

  def noised(
      self, leaf: jax.Array, draws: Draws, step: jax.Array, state: Any
  ) -> tuple[jax.Array, Any]:
    """See `Noising`."""
    noise = _draw(draws.key(step), leaf.shape, draws.stddev, draws.dtype)
    noise, state = self.matrix.multiply_next(noise, state)
    return noise_draws.add_noise(leaf, noise), state


def checked_coef(name: str, coef: Sequence[float]) -> tuple[float, ...]:
  """Returns Toeplitz coefficients as plain numbers.

  Args:
    name: Name for the message.
    coef: Coefficients.

  Raises:
    ValueError: If there are none, one is not finite, or the first is not
      positive.
  """
  values = tuple(_validate.as_float(x) for x in np.asarray(coef).reshape(-1))
  if not values or not all(map(math.isfinite, values)) or values[0] <= 0:
    _validate.fail(name, "finite numbers, the first of them positive", coef)
  return values


@functools.partial(jax.jit, static_argnames=("shape", "stddev", "dtype"))
def _draw(key, shape, stddev, dtype):
  return stddev * jax.random.normal(key, shape, dtype)


@jax.jit
def _add_draws(prng_key, index, noise, step, scales, num_draws):
  """Adds scales[k] times the draw of step - k, for k < num_draws."""

  def add(k, noise):
    key = Draws(prng_key, index, 1.0, noise.dtype).key(step - k)
    return noise + scales[k] * jax.random.normal(key, noise.shape, noise.dtype)

  # The number is traced, so that no short loop becomes a part of its sum.
  return jax.lax.fori_loop(0, num_draws, add, noise)


@jax.jit
def _solve_next(noise, ring, factors, step):
  """Adds factors[k] times the output of k + 1 steps before."""
  size = ring.shape[0]

  def add(k, x):
    return x + factors[k] * ring[(step - 1 - k) % size]

  noise = jax.lax.fori_loop(0, jnp.minimum(step, size), add, noise)
  return noise, ring.at[step % size].set(noise)


@jax.jit
def _buffer_next(noise, buffers, decay, scale, step):
  size = buffers.shape[0]

  def add(k, x):
    return x - scale[k] * buffers[k]

  # Traced too: all buffers are zero at step 0.
  num_buffers = jnp.where(step > 0, size, 0)
  noise = jax.lax.fori_loop(0, num_buffers, add, noise)
  return noise, decay.reshape(-1, *[1] * noise.ndim) * buffers + noise[None]
