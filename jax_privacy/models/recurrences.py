"""Linear recurrences over positions: real, complex, and a causal convolution.

Invariant: state t depends on inputs up to t of its own sequence. All positions
are computed together, by `jax.lax.associative_scan`, in O(log t) steps; an
initial state makes the same function go on where it stopped.

>>> a = jnp.full((1, 3, 1), 0.5)
>>> real_scan(a, jnp.ones((1, 3, 1)), jnp.zeros((1, 1)))[0, :, 0].tolist()
[1.0, 1.5, 1.75]
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jax_privacy.models import checks


class Complex(NamedTuple):
  """Complex numbers as two real arrays, which every loss can differentiate.

  Attributes:
    re: Real parts.
    im: Imaginary parts.
  """

  re: jax.Array
  im: jax.Array

  def times(self, other: "Complex") -> "Complex":
    """Returns the products.

    Args:
      other: Complex numbers of the same shape.
    """
    return Complex(
        self.re * other.re - self.im * other.im,
        self.re * other.im + self.im * other.re,
    )

  def plus(self, other: "Complex") -> "Complex":
    """Returns the sums.

    Args:
      other: Complex numbers of the same shape.
    """
    return Complex(self.re + other.re, self.im + other.im)


def real_scan(a: jax.Array, b: jax.Array, initial: jax.Array) -> jax.Array:
  """Returns h of h[t] = a[t] h[t - 1] + b[t].

  Args:
    a: Factors [n, t, r].
    b: Inputs [n, t, r].
    initial: State before the first, [n, r].

  Returns:
    States [n, t, r].
  """

  def join(first, second):
    (a, b), (c, d) = first, second
    return a * c, c * b + d

  b = b.at[:, 0].add(a[:, 0] * initial)
  return jax.lax.associative_scan(join, (a, b), axis=1)[1]


def complex_scan(a: Complex, b: Complex, initial: Complex) -> Complex:
  """Returns h of h[t] = a h[t - 1] + b[t].

  Args:
    a: Factors [r], the same at each position.
    b: Inputs [n, t, r].
    initial: State before the first, [n, r].

  Returns:
    States [n, t, r].
  """

  def join(first, second):
    (a, b), (c, d) = first, second
    return a.times(c), c.times(b).plus(d)

  def wide(x):
    return jnp.broadcast_to(x[None, None], b.re.shape)

  factors = Complex(wide(a.re), wide(a.im))
  start = Complex(factors.re[:, 0], factors.im[:, 0]).times(initial)
  b = Complex(b.re.at[:, 0].add(start.re), b.im.at[:, 0].add(start.im))
  return jax.lax.associative_scan(join, (factors, b), axis=1)[1]


class CausalConv(nnx.Module):
  """A convolution of each feature over its last `size` positions, with bias.

  Args:
    width: Number of features.
    size: Number of positions that are seen, the own included.
    rngs: Source of the weights' random key.

  Source: De et al. 2024 (arXiv 2402.19427), section 2; the first weights have
  variance .01 / size, as in their code.
  """

  def __init__(self, width: int, *, size: int = 4, rngs: nnx.Rngs):
    self.size = checks.positive_int("size", size)
    init = jax.nn.initializers.normal((0.01 / size) ** 0.5)
    self.kernel = nnx.Param(init(rngs.params(), (size, width), jnp.float32))
    self.bias = nnx.Param(jnp.zeros(width, jnp.float32))

  def __call__(
      self, x: jax.Array, before: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Convolves.

    Args:
      x: Floats [n, t, width].
      before: Inputs before those, [n, size - 1, width].

    Returns:
      (floats [n, t, width], the last size - 1 inputs).
    """
    num_positions = x.shape[1]
    inputs = jnp.concatenate([before.astype(x.dtype), x], axis=1)
    kernel, bias = (p[...].astype(x.dtype) for p in (self.kernel, self.bias))
    total = jnp.broadcast_to(bias[None, None], x.shape)
    for i in range(self.size):
      part = inputs[:, i : i + num_positions]
      total = total + part * kernel[i][None, None]
    return total, inputs[:, num_positions:]
