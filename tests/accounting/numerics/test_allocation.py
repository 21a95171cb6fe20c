"""Random allocation: against integrals, exact moments, and order."""

import math

import numpy as np
import pytest
from scipy import special

import accounting
from accounting.numerics import allocation

# What the trapezoidal rule over 28 deviations and doubles may be off by.
_QUADRATURE = 1e-9


def _gap(k, noise):
  """E (X - k)_+ of one ratio X, without the example: Black and Scholes."""
  positive = np.maximum(k, 1e-300)
  d = -noise * np.log(positive)
  half = 0.5 / noise
  call = special.ndtr(d + half) - k * special.ndtr(d - half)
  return np.where(k > 0, call, 1 - k)


def _shortfall(k, noise):
  """E (k - X)_+; a call's complement, in the form that does not cancel."""
  positive = np.maximum(k, 1e-300)
  d = noise * np.log(positive)
  half = 0.5 / noise
  put = k * special.ndtr(d + half) - special.ndtr(d - half)
  return np.where(k > 0, put, 0.0)


def _exact(num_steps, noise, epsilon):
  """Both hockey-stick divergences, integrated over all steps but one."""
  z = np.linspace(-14, 14, 3001 if num_steps == 2 else 701)
  weights = np.exp(-0.5 * z**2) * (z[1] - z[0]) / math.sqrt(2 * math.pi)
  ratio = np.exp(z / noise - 0.5 / noise**2)
  if num_steps == 3:
    ratio = np.add.outer(ratio, ratio).ravel()
    weights = np.multiply.outer(weights, weights).ravel()
  there = _gap(num_steps * math.exp(epsilon) - ratio, noise)
  back = _shortfall(num_steps * math.exp(-epsilon) - ratio, noise)
  back = back * math.exp(epsilon)
  return weights @ there / num_steps, weights @ back / num_steps


def _deltas(num_steps, noise, epsilon, interval):
  term = allocation.OneOfSteps(noise, num_steps)
  found = []
  for step in term.steps(interval, tail=1e-25):
    losses = step.losses(interval)
    shares = np.maximum(-np.expm1(epsilon - losses), 0.0)
    found.append(step.infinite + step.probs @ shares)
  return found


@pytest.mark.few(3)
@pytest.mark.parametrize("num_steps", [2, 3])
@pytest.mark.parametrize("noise", [0.4, 1.0, 6.0])
def test_divergences_are_just_above_the_integral(num_steps, noise):
  deviation = allocation.deviation(num_steps=num_steps, noise=noise)
  for times in (0.0, 0.5, 2.0, 5.0):
    epsilon = times * deviation
    exact = _exact(num_steps, noise, epsilon)
    found = _deltas(num_steps, noise, epsilon, deviation / 100)
    for value, bound in zip(exact, found, strict=True):
      assert value * (1 - _QUADRATURE) <= bound <= value * 1.03 + 1e-20


def _moment(order, noise, num_steps):
  """E A^order, by the multinomial theorem: coefficients of a power series."""
  c = np.arange(order + 1)
  series = np.exp((c**2 - c) / (2 * noise**2)) / special.factorial(c)
  power = np.ones(1)
  for _ in range(num_steps):
    power = np.convolve(power, series)[: order + 1]
  return math.factorial(order) * num_steps**-order * power[order]


@pytest.mark.parametrize(("noise", "num_steps"), [(1.0, 8), (2.0, 11)])
def test_moments_are_just_above_the_exact_ones(noise, num_steps):
  interval = allocation.deviation(num_steps=num_steps, noise=noise) / 60
  step, _ = allocation.OneOfSteps(noise, num_steps).steps(interval, tail=1e-40)
  for order in range(2, 7):
    exponents = step.exponents(interval, order - 1.0)
    found = math.log(np.sum(np.exp(exponents)))
    exact = math.log(_moment(order, noise, num_steps))
    # Convex in the ratio: a spread can only add.
    assert exact * (1 - 1e-12) <= found <= exact * 1.01


def test_a_grid_that_rounds_down_is_caught(monkeypatch):
  split = allocation._split
  monkeypatch.setattr(
      allocation, "_split", lambda v, step: (split(v, step)[0], 0.0 * v)
  )
  allocation.one_of.cache_clear()
  try:
    step, _ = allocation.OneOfSteps(1.0, 8).steps(0.02, tail=1e-40)
  finally:
    allocation.one_of.cache_clear()
  found = math.log(np.sum(np.exp(step.exponents(0.02, 1.0))))
  assert found < math.log(_moment(2, 1.0, 8)) * (1 - 1e-12)


def _mean_delta(num_steps, noise, epsilon, num_samples):
  """The divergence and its standard error, by chance, one step integrated.

  A second large sum matters and is rare: in half of the samples one of the
  other steps is drawn about 3 deviations, which the weights undo.
  """
  rng = np.random.default_rng(0)
  z = rng.standard_normal((num_samples, num_steps - 1))
  half = num_samples // 2
  which = rng.integers(num_steps - 1, size=half)
  z[np.arange(half), which] = 3 + 1.5 * rng.standard_normal(half)
  ratios = np.exp(0.5 * z**2 - 0.5 * ((z - 3) / 1.5) ** 2) / 1.5
  weight = 1 / (0.5 + 0.5 * np.mean(ratios, axis=1))
  rest = np.sum(np.exp(z / noise - 0.5 / noise**2), axis=1)
  # Of (1 - e^epsilon / A)_+ with the example in the first step: the integral
  # over its sum, by Gauss and Legendre from where the loss is positive.
  least = num_steps * math.exp(epsilon) - rest
  low = noise**2 * np.log(np.maximum(least, 1e-9)) + 0.5
  low = np.maximum(low, 1 - 8 * noise)
  nodes, weights = np.polynomial.legendre.leggauss(40)
  span = np.maximum(1 + 8 * noise - low, 2.0 * noise)[:, None]
  x = low[:, None] + span * (nodes + 1) / 2
  ratio = np.exp((x - 0.5) / noise**2) + rest[:, None]
  density = np.exp(-0.5 * ((x - 1) / noise) ** 2) / noise
  density /= math.sqrt(2 * math.pi)
  share = np.maximum(1 - num_steps * math.exp(epsilon) / ratio, 0.0)
  values = np.sum(weights * density * share * span / 2, axis=1) * weight
  return np.mean(values), np.std(values) / math.sqrt(num_samples)


# Epsilon at delta 1e-8 of another implementation's upper bounds.
@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("noise", "num_steps", "other"),
    [(1.0, 8, 3.726), (1.0, 64, 1.806), (2.0, 64, 0.345), (1.0, 128, 1.270)],
)
def test_reference_bounds(noise, num_steps, other):
  run = accounting.Mechanism(
      noise_multiplier=noise,
      num_steps=num_steps,
      sampling_prob=1 / num_steps,
      sampling="random_allocation",
  )
  epsilon = accounting.epsilon(run, delta=1e-8)
  assert 0.95 * other < epsilon < other
  if noise > 1 or num_steps > 64:
    return  # Large losses of many steps; and more of the same.
  # The true delta there is not above 1e-8, nor much below: within six standard
  # errors of the estimate, of which the seed is fixed.
  mean, error = _mean_delta(num_steps, noise, epsilon, 20_000)
  assert error < 0.04 * mean
  assert mean - 6 * error < 1e-8 < mean / 0.97 + 6 * error
