"""Delta by a contour integral: an oracle that uses no grid of losses.

With L the loss of one step under P, and M(z) = E exp(z L), the divergence of T
steps is, for any t > 0,

  delta(eps) = 1/pi int_0^inf Re M(t + iw)^T exp(-(t + iw) eps)
                                / ((t + iw) (t + iw + 1)) dw,

since exp(-z eps) / (z (z + 1)) is the Laplace transform of (1 - exp(eps - s))+.
M is found by the trapezoidal rule, which converges faster than any power for
Gaussians, and M - 1 by itself, so that its logarithm keeps its digits.
"""

import math

import numpy as np
from scipy import optimize


def _nodes(noise, prob, direction, step):
  x = np.arange(-12 * noise, 1 + 12 * noise, step)
  base = np.exp(-0.5 * (x / noise) ** 2) / (noise * math.sqrt(2 * math.pi))
  moved = np.exp((2 * x - 1) / (2 * noise**2))
  ratio = np.log1p(prob * (moved - 1))
  if direction == "add":
    return -ratio, base * step
  return ratio, base * (1 + prob * (moved - 1)) * step


def _log_moment(z, losses, weights):
  """Log E exp(z L) for an array of z."""
  out = np.empty(len(z), complex)
  for i in range(0, len(z), 256):
    exponent = np.multiply.outer(z[i : i + 256], losses)
    out[i : i + 256] = np.log1p(np.expm1(exponent) @ weights)
  return out


def delta(
    *, noise, prob, steps, epsilon, direction="remove", top, spacing, step
):
  """Returns delta at epsilon.

  Args:
    noise: Noise multiplier.
    prob: Sampling probability.
    steps: Number of steps.
    epsilon: Epsilon.
    direction: "remove" or "add".
    top: Largest frequency; beyond it the integrand must not matter.
    spacing: Distance of frequencies, below 2 pi over the width of the sum.
    step: Distance of the quadrature's nodes.
  """
  losses, weights = _nodes(noise, prob, direction, step)

  def bound(log_tilt):
    tilt = math.exp(log_tilt)
    if tilt * losses[-1] > 600 or tilt * losses[0] > 600:
      return 1e9 * tilt  # Beyond what exp can hold, and far too strong.
    moment = _log_moment(np.array([tilt + 0j]), losses, weights)[0].real
    return steps * moment - tilt * epsilon

  found = optimize.minimize_scalar(
      bound, bounds=(-3, 9), method="bounded", options={"xatol": 0.01}
  )
  # The trapezoidal rule in w has no error at its end: half a step from 0.
  z = math.exp(found.x) + 1j * spacing * (np.arange(top / spacing) + 0.5)
  terms = steps * _log_moment(z, losses, weights) - z * epsilon
  return float(np.sum((np.exp(terms) / (z * (z + 1))).real) * spacing / math.pi)


def epsilon(delta_wanted: float, *, guess: float, **options) -> float:
  """Returns epsilon at a delta, by secants in the logarithm of delta.

  Args:
    delta_wanted: Delta.
    guess: An epsilon near it.
    **options: See `delta`.
  """

  def excess(value):
    return math.log(delta(epsilon=value, **options) / delta_wanted)

  found = optimize.root_scalar(
      excess, x0=guess, x1=0.99 * guess, method="secant", rtol=1e-4
  )
  return float(found.root)
