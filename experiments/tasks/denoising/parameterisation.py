"""What a denoising network is given and asked for, at each noise level.

With y = x + s n, n standard normal, a denoiser is
D(y, s) = c_skip y + c_out F(c_in y, c_noise), F the network. The loss of one
draw is weight(s) times the sum over pixels of (D(y, s) - x)^2.

Invariant: c_in y has a variance of at most about 1, and weight(s) c_out^2 is 1:
the loss is the plain squared error of F for the target that it has.

>>> edm = build("edm", sigma_data=0.5)
>>> print(edm.at(jnp.float32(0.5)).skip, edm.at(jnp.float32(0.5)).weight)
0.5 8.0
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_privacy import _validate

SIGMA_DATA = math.sqrt(1.0 / 3.0)
"""Standard deviation of pixels that are uniform in [-1, 1]."""


class Coefficients(NamedTuple):
  """The coefficients of noise levels, each of the levels' shape.

  Attributes:
    skip: Factor of the noisy image.
    out: Factor of the network's output.
    into: Factor of the noisy image that the network sees.
    noise: Number that the network sees of the noise level.
    weight: Weight of the loss.
  """

  skip: jax.Array
  out: jax.Array
  into: jax.Array
  noise: jax.Array
  weight: jax.Array


class Parameterisation(NamedTuple):
  """A way to ask for a denoised image.

  Attributes:
    name: Name of the parameterisation.
    at: `at(sigma)`, the coefficients of noise levels, positive.
  """

  name: str
  at: Callable[[jax.Array], Coefficients]

  def denoise(
      self,
      network_fn: Callable[[jax.Array, jax.Array], jax.Array],
      noisy: jax.Array,
      sigma: jax.Array,
  ) -> jax.Array:
    """Returns D(y, s), [n, ...].

    Args:
      network_fn: `network_fn(scaled, noise)` of scaled images [n, ...] and
        numbers [n].
      noisy: Images with noise, [n, ...].
      sigma: Noise levels, positive, [n].
    """
    at = self.at(sigma)
    axes = tuple(range(1, noisy.ndim))
    skip, out, into = (
        jnp.expand_dims(x, axes) for x in (at.skip, at.out, at.into)
    )
    return skip * noisy + out * network_fn(into * noisy, at.noise)


def time_of(sigma: jax.Array) -> jax.Array:
  """Returns t in [0, 1], (2 / pi) arccos(1 / sqrt(1 + s^2)).

  Args:
    sigma: Noise levels, at least 0.
  """
  return jnp.arctan(sigma) * (2.0 / math.pi)


def sigma_of(time: jax.Array) -> jax.Array:
  """Returns sqrt(1 / cos(pi t / 2)^2 - 1), the inverse of `time_of`.

  Args:
    time: Times in [0, 1).
  """
  return jnp.tan(time * (0.5 * math.pi))


def _edm(sigma_data: float) -> Callable[[jax.Array], Coefficients]:
  def at(sigma):
    square = sigma**2 + sigma_data**2
    root = jnp.sqrt(square)
    return Coefficients(
        skip=sigma_data**2 / square,
        out=sigma * sigma_data / root,
        into=1.0 / root,
        noise=jnp.log(sigma) / 4.0,
        weight=square / (sigma * sigma_data) ** 2,
    )

  return at


def _v(sigma):
  """The network gives -v; v is cos(a) n - sin(a) x, and s is tan(a)."""
  square = sigma**2 + 1.0
  root = jnp.sqrt(square)
  return Coefficients(
      skip=1.0 / square,
      out=sigma / root,
      into=1.0 / root,
      noise=time_of(sigma),
      weight=square / sigma**2,
  )


def _epsilon(sigma):
  """The network gives the noise n itself."""
  return Coefficients(
      skip=jnp.ones_like(sigma),
      out=-sigma,
      into=1.0 / jnp.sqrt(sigma**2 + 1.0),
      noise=time_of(sigma),
      weight=1.0 / sigma**2,
  )


NAMES = ("edm", "epsilon", "v")


def build(name: str, *, sigma_data: float = SIGMA_DATA) -> Parameterisation:
  """Returns a parameterisation.

  Args:
    name: One of `NAMES`.
    sigma_data: Standard deviation of pixels that "edm" assumes, a public
      constant; the others assume 1.

  Raises:
    ValueError: If an argument breaks its rule.

  Source: Karras et al. 2022 (arXiv 2206.00364), table 1, for "edm"; Salimans
  and Ho 2022 (2202.00512) for "v", with the sign of Dockhorn et al. 2023
  (2210.09929); Ho et al. 2020 (2006.11239) for "epsilon".
  """
  if name not in NAMES:
    _validate.fail("parameterisation", f"one of {', '.join(NAMES)}", name)
  is_number = isinstance(sigma_data, (int, float)) and sigma_data is not True
  if not is_number or not 0.0 < sigma_data < math.inf:
    _validate.fail("sigma_data", "positive and finite", sigma_data)
  at = {"edm": _edm(float(sigma_data)), "epsilon": _epsilon, "v": _v}[name]
  return Parameterisation(name, at)
