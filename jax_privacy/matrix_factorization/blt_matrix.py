"""Buffered linear Toeplitz (BLT) strategies: a few buffers for any n.

`buffered_toeplitz.py` has this under the names of jax-privacy. Coefficient t of
C, for t > 0, is the sum of output_scale[i] buf_decay[i]^(t - 1), so C and C^-1
are multiplied with one buffer of the gradient's shape for each i.

Invariant: the inverse of a BLT is a BLT with as many buffers; both are float64
unless float32 was asked for.

Example:
  >>> import jax, jax.numpy as jnp
  >>> from jax_privacy.matrix_factorization import blt_matrix
  >>> with jax.enable_x64():
  ...   blt = blt_matrix.BufferedToeplitz.build([0.9], [0.1])
  ...   print(blt.toeplitz_coefs(4), blt.inverse().toeplitz_coefs(4))
  [1.    0.1   0.09  0.081] [ 1.    -0.1   -0.08  -0.064]
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jax_privacy.matrix_factorization import streaming_matrix, toeplitz_coefs

_LEAST_GAP = 1e-9


@chex.dataclass
class BufferedToeplitz:
  """A lower-triangular Toeplitz matrix with 1 on its diagonal.

  Make it by `build`, which checks its numbers.

  Attributes:
    buf_decay: Factor by which each buffer keeps its value, [buffers].
    output_scale: Factor of each buffer in the output, [buffers].
  """

  buf_decay: jax.Array
  output_scale: jax.Array

  @classmethod
  def build(
      cls,
      buf_decay: Any,
      output_scale: Any,
      dtype: jax.typing.DTypeLike = jnp.float64,
  ) -> "BufferedToeplitz":
    """Returns the matrix, with decays in descending order.

    Args:
      buf_decay: Decay of each buffer.
      output_scale: Scale of each buffer in the output.
      dtype: Type of both. Optimisers need float64.

    Raises:
      ValueError: If the two are no vectors of one length, or JAX has no float64
        where it is asked for.
    """
    _check_float64(dtype)
    matrix = cls(
        buf_decay=jnp.asarray(buf_decay, dtype=dtype),
        output_scale=jnp.asarray(output_scale, dtype=dtype),
    )
    return matrix.canonicalize()

  @classmethod
  def from_rational_approx_to_sqrt_x(
      cls,
      num_buffers: int,
      *,
      max_buf_decay: float = 1.0,
      max_pillutla_score: float | None = None,
      buf_decay_scale: float = 1.6,
      buf_decay_shift: int = -1,
  ) -> "BufferedToeplitz":
    """Returns a strategy near the square root, to begin an optimisation at.

    The root of y = 1 - x is an integral over h of e^h y / (y + e^(2 h)), up to
    a factor; a sum over points h gives a rational function, whose poles are
    decays.

    Args:
      num_buffers: Number of buffers.
      max_buf_decay: Largest decay; all are scaled down to it.
      max_pillutla_score: Largest `pillutla_score`; output scales are scaled
        down to it. None for any.
      buf_decay_scale: Factor of the distance between points.
      buf_decay_shift: Number of points by which decays are moved towards 1, if
        negative.

    Raises:
      ValueError: If there is no buffer.

    Source: Dvijotham et al. 2024 (2404.16706), proposition 4.5.
    """
    if num_buffers < 1:
      raise ValueError(f"num_buffers must be >= 1, got {num_buffers}.")
    half = (num_buffers + 1) // 2
    width = buf_decay_scale * np.pi / np.sqrt(2 * (half + 1))
    points = np.arange(num_buffers) - half + 1 + buf_decay_shift
    decay = 1 / (1 + np.exp(2 * width * points))
    weights = decay * np.exp(width * points)
    # (1 - x) w / (1 - d x) is w, and then w (d - 1) d^(t - 1).
    scale = -weights * decay * np.exp(2 * width * points) / weights.sum()
    found = cls.build(decay, scale).inverse()
    decay = found.buf_decay * jnp.minimum(
        1.0, max_buf_decay / found.buf_decay[0]
    )
    scale = found.output_scale
    if max_pillutla_score is not None:
      score = jnp.sum(scale / decay)
      scale = scale * jnp.minimum(1.0, max_pillutla_score / score)
    return cls.build(decay, scale)

  def validate(self) -> None:
    """Refuses what are no two vectors of one length and dtype.

    Raises:
      ValueError: If they differ.
    """
    decay, scale = self.buf_decay, self.output_scale
    both = "buf_decay and output_scale must"
    if decay.ndim != 1 or scale.ndim != 1:
      raise ValueError(f"{both} be 1D, got {decay.shape} and {scale.shape}.")
    if decay.shape != scale.shape:
      raise ValueError(
          f"{both} have the same length, got {decay.shape} and {scale.shape}."
      )
    if decay.dtype != scale.dtype:
      raise ValueError(
          f"{both} have the same dtype, got {decay.dtype} and {scale.dtype}."
      )

  def canonicalize(self) -> "BufferedToeplitz":
    """Returns the matrix with decays in descending order."""
    self.validate()
    order = jnp.argsort(-self.buf_decay)
    return BufferedToeplitz(
        buf_decay=self.buf_decay[order], output_scale=self.output_scale[order]
    )

  @property
  def dtype(self) -> Any:
    """Type of the numbers."""
    return self.buf_decay.dtype

  def check_dtype(self) -> None:
    """Refuses float64 numbers where JAX has no float64."""
    _check_float64(self.dtype)

  def toeplitz_coefs(self, n: int) -> jax.Array:
    """Returns the first n coefficients.

    Args:
      n: Number of coefficients.
    """
    decay, scale = jnp.asarray(self.buf_decay), jnp.asarray(self.output_scale)
    exponents = jnp.arange(n - 1)[:, None].astype(decay.dtype)
    powers = decay[None, :] ** exponents
    tail = jnp.sum(powers * scale[None, :], axis=1)
    return jnp.concatenate([jnp.ones(1, tail.dtype), tail])

  def materialize(self, n: int) -> jax.Array:
    """Returns the matrix [n, n].

    Args:
      n: Number of rows.
    """
    return toeplitz_coefs.materialize_lower_triangular(self.toeplitz_coefs(n))

  def inverse(self, skip_checks: bool = False) -> "BufferedToeplitz":
    """Returns C^-1.

    Args:
      skip_checks: Whether to leave out checks, which need concrete values.

    Raises:
      ValueError: If two decays are nearer than 1e-9.

    Source: Dvijotham et al. 2024 (2404.16706), lemma 5.2.
    """
    self.check_dtype()
    if not skip_checks and len(self.buf_decay) > 1:
      gap = min_buf_decay_gap(self.buf_decay)
      if not gap >= _LEAST_GAP:
        raise ValueError(
            f"buf_decay must be {_LEAST_GAP} apart, got a gap of {gap}."
        )
    # x = y - scale . buffers; buffers' = decay buffers + x.
    feedback = jnp.broadcast_to(
        self.output_scale[None, :], [len(self.buf_decay)] * 2
    )
    decay = jnp.linalg.eigvals(jnp.diag(self.buf_decay) - feedback).real
    scale = _output_scale(decay, self.buf_decay)
    inverse = BufferedToeplitz(buf_decay=decay, output_scale=scale)
    return inverse.canonicalize()

  def pillutla_score(self) -> jax.Array:
    """Returns the sum of output_scale / buf_decay.

    Below 1, the inverse has no negative decay.

    Source: "An inversion theorem for BLT matrices" 2025 (2504.21413).
    """
    return jnp.sum(self.output_scale / self.buf_decay)

  def as_streaming_matrix(self) -> streaming_matrix.StreamingMatrix:
    """Returns C, one row at a time."""
    return self._streaming(is_inverse=False)

  def inverse_as_streaming_matrix(self) -> streaming_matrix.StreamingMatrix:
    """Returns C^-1, one row at a time; its state is one buffer a decay."""
    return self._streaming(is_inverse=True)

  def _streaming(self, is_inverse):
    self.check_dtype()
    decay, scale = np.asarray(self.buf_decay), np.asarray(self.output_scale)

    def init(value):
      return jnp.zeros((len(decay), *value.shape), decay.dtype)

    def multiply_next(value, buffers):
      value = value.astype(buffers.dtype)
      read = jnp.tensordot(
          scale, buffers, axes=1, precision=jax.lax.Precision.HIGHEST
      )
      out = value - read if is_inverse else value + read
      kept = decay.reshape(-1, *[1] * value.ndim) * buffers
      return out, kept + (out if is_inverse else value)[None]

    return streaming_matrix.StreamingMatrix.from_array_implementation(
        init, multiply_next
    )

  def __str__(self):
    coefs = ", ".join(f"{c:.5f}" for c in self.toeplitz_coefs(10))
    return (
        "BufferedToeplitz.build(\n"
        f"    buf_decay={self.buf_decay.tolist()},\n"
        f"    output_scale={self.output_scale.tolist()},\n"
        f"    dtype=jnp.{self.dtype})\n"
        f"Initial Toeplitz coefs=[{coefs}, ...]"
    )


def min_buf_decay_gap(buf_decay: jax.Array) -> jax.Array:
  """Returns the least distance of two decays; inf for fewer than two.

  Args:
    buf_decay: Decays, in any order.
  """
  ordered = jnp.sort(jnp.asarray(buf_decay))
  return jnp.min(jnp.diff(ordered), initial=jnp.inf)


def blt_pair_from_theta_pair(
    theta: jax.Array, theta_hat: jax.Array
) -> tuple[BufferedToeplitz, BufferedToeplitz]:
  """Returns the strategy and its inverse, made of the decays of both.

  Args:
    theta: Decays of C, all different.
    theta_hat: Decays of C^-1, all different.

  Source: Dvijotham et al. 2024 (2404.16706), lemma 5.2.
  """
  theta, theta_hat = jnp.asarray(theta), jnp.asarray(theta_hat)
  pairs = ((theta, theta_hat), (theta_hat, theta))
  strategy, noising = (
      BufferedToeplitz.build(own, _output_scale(own, other), own.dtype)
      for own, other in pairs
  )
  return strategy, noising


def _output_scale(decay: jax.Array, other: jax.Array) -> jax.Array:
  """Output scales of a BLT, from its decays and those of its inverse."""
  above = jnp.prod(decay[:, None] - other[None, :], axis=1)
  gaps = decay[:, None] - decay[None, :]
  same = jnp.eye(len(decay), dtype=bool)
  return above / jnp.prod(jnp.where(same, jnp.ones_like(gaps), gaps), axis=1)


def _check_float64(dtype: Any) -> None:
  if jnp.dtype(dtype) == jnp.float64 and not jax.config.read("jax_enable_x64"):
    raise ValueError(
        "jax_enable_x64 must be True for a BufferedToeplitz of"
        " dtype=jnp.float64, got False (use `with jax.enable_x64():`)."
    )
