import math

import numpy as np
import pytest
from scipy import integrate, stats

import accounting
from accounting import Mechanism
from jax_privacy.auditing import gdp


def _delta(mu, epsilon):
  """The hockey-stick divergence of N(mu, 1) and N(0, 1), by integration."""

  def excess(x):
    return stats.norm.pdf(x - mu) - math.exp(epsilon) * stats.norm.pdf(x)

  start = epsilon / mu + mu / 2  # Where the integrand turns positive.
  return integrate.quad(excess, start, start + 40, epsabs=1e-14)[0]


@pytest.mark.parametrize("mu", [0.1, 0.5, 1.666, 4.0])
@pytest.mark.parametrize("delta", [1e-8, 1e-5, 0.01])
def test_the_divergence_at_epsilon_is_delta(mu, delta):
  epsilon = gdp.epsilon_from_mu(mu, delta=delta)
  # It may be low by a millionth (of 1, or relative), and never high.
  step = 2e-6 * max(1.0, epsilon)
  assert _delta(mu, epsilon) >= delta * (1 - 1e-6)
  assert _delta(mu, epsilon + step) <= delta * (1 + 1e-6)


def test_agrees_with_the_accountant():
  # Another implementation, by the privacy loss distribution (it errs high).
  run = Mechanism(noise_multiplier=0.6, sampling_prob=1.0, num_steps=1)
  theirs = accounting.epsilon(run, delta=1e-5, accountant="pld")
  ours = gdp.epsilon_from_mu(1 / 0.6, delta=1e-5)
  assert theirs * 0.999 < ours <= theirs


def test_ends_of_the_range():
  assert gdp.epsilon_from_mu(0.0, delta=1e-5) == 0
  assert gdp.epsilon_from_mu(math.inf, delta=1e-5) == math.inf
  # Total variation 2 Phi(mu/2) - 1 = 0.0399 is below delta: epsilon is 0.
  assert gdp.epsilon_from_mu(0.1, delta=0.05) == 0
  # For large mu, epsilon = mu^2/2 + mu z with z a little below Phi^-1(1 - d).
  for mu in (100.0, 1e4):
    z = (gdp.epsilon_from_mu(mu, delta=1e-5) - mu**2 / 2) / mu
    assert 0.95 * stats.norm.isf(1e-5) < z < stats.norm.isf(1e-5)
  assert 0 <= gdp.epsilon_from_mu(1e-9, delta=1e-300) < 1e-6


def test_epsilon_grows_with_mu_and_falls_with_delta():
  mus = np.linspace(0.01, 8, 50)
  epsilons = [gdp.epsilon_from_mu(m, delta=1e-5) for m in mus]
  assert (np.diff(epsilons) > 0).all()
  epsilons = [gdp.epsilon_from_mu(1.0, delta=d) for d in np.logspace(-12, -2)]
  assert (np.diff(epsilons) < 0).all()


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, math.nan, True, "1e-5"])
def test_delta_is_refused(delta):
  with pytest.raises(ValueError, match=r"delta must be in \(0, 1\), got"):
    gdp.epsilon_from_mu(1.0, delta=delta)


@pytest.mark.parametrize("mu", [-1.0, math.nan, None, True])
def test_mu_is_refused(mu):
  with pytest.raises(ValueError, match="mu must be a number of at least 0"):
    gdp.epsilon_from_mu(mu, delta=1e-5)
