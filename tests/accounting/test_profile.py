"""The whole guarantee: against closed forms and a slow oracle."""

import math

import numpy as np
import pytest
from scipy import special, stats

import accounting
from accounting import Mechanism
from accounting.numerics import pld
from accounting.profile import true_positive_rates


def _run(noise, prob=1.0, steps=1, **fields):
  return Mechanism(
      noise_multiplier=noise, sampling_prob=prob, num_steps=steps, **fields
  )


@pytest.mark.parametrize("mu", [0.2, 1.0, 3.0])
def test_gaussian_release_has_its_closed_forms(mu):
  found = accounting.privacy_profile(_run(1 / mu), reconstruction_prior=0.002)
  assert found.gdp_mu == pytest.approx(mu, rel=1e-4)
  assert found.gdp_regret < 1e-5
  # Total variation of N(0, 1) and N(mu, 1).
  advantage = 2 * special.ndtr(mu / 2) - 1
  assert found.advantage == pytest.approx(advantage, rel=1e-4)
  assert found.bayes_success == pytest.approx((1 + advantage) / 2, rel=1e-4)
  for rate, value in found.tpr_at_fpr.items():
    exact = special.ndtr(special.ndtri(rate) + mu)
    assert value == pytest.approx(exact, rel=1e-4)
    assert value >= exact * (1 - 1e-9), "An upper bound, never below."
  assert found.reconstruction_bound == pytest.approx(
      special.ndtr(special.ndtri(0.002) + mu), rel=1e-4
  )


def test_replacing_doubles_mu():
  found = accounting.privacy_profile(_run(2.0, neighboring_relation="replace"))
  assert found.gdp_mu == pytest.approx(1.0, rel=1e-4)


def test_mu_and_regret_of_a_published_run():
  # gdpnum's README (Gomez et al. 2025): noise 9.4, q .328, 2000 steps.
  found = accounting.privacy_profile(_run(9.4, prob=0.328, steps=2000))
  assert found.gdp_mu == pytest.approx(1.56856, abs=2e-4)
  assert found.gdp_regret == pytest.approx(0.00102, abs=1e-5)


def test_rates_of_one_sampled_step_match_the_likelihood_ratio_test():
  # The oracle: P = (1 - q) N(0) + q N(1) against Q = N(0), thresholds on x.
  q, noise = 0.3, 0.7
  x = np.linspace(-8, 9, 200_001)
  fpr = stats.norm.sf(x, 0, noise)
  tpr = (1 - q) * fpr + q * stats.norm.sf(x, 1, noise)
  rates = np.array([0.001, 0.01, 0.1, 0.3])
  member = np.interp(rates, fpr[::-1], tpr[::-1])
  # And the hypotheses exchanged: falsely calling a member absent.
  absent = np.interp(rates, 1 - tpr, 1 - fpr)
  loss = pld.composed(_run(noise, prob=q), deltas=pld.PROFILE_DELTAS)
  np.testing.assert_allclose(
      true_positive_rates(loss, rates), np.maximum(member, absent), rtol=1e-3
  )


def test_no_rate_exceeds_the_gaussian_of_mu():
  run = _run(1.0, prob=0.02, steps=300)
  found = accounting.privacy_profile(run)
  rates = np.geomspace(1.01e-10, 0.9, 50)
  actual = true_positive_rates(
      pld.composed(run, deltas=pld.PROFILE_DELTAS), rates
  )
  bound = special.ndtr(special.ndtri(rates) + found.gdp_mu)
  assert np.all(actual <= bound * (1 + 1e-6))
  # Planted bug: a mu that is 2% too small is exceeded.
  small = special.ndtr(special.ndtri(rates) + 0.98 * found.gdp_mu)
  assert np.any(actual > small)


def test_profile_is_delta_at_each_epsilon():
  run = _run(2.0, prob=0.1, steps=100)
  found = accounting.privacy_profile(run)
  assert len(found.epsilons) == len(found.deltas) == 100
  assert np.all(np.diff(found.deltas) <= 0)
  for index in (0, 30, 60):
    assert found.deltas[index] == pytest.approx(
        accounting.delta(run, epsilon=found.epsilons[index]), rel=1e-4
    )


def test_without_noise_an_attacker_wins():
  found = accounting.privacy_profile(_run(1e-6))
  assert found.advantage == 1.0
  assert math.isinf(found.gdp_mu)
  assert set(found.tpr_at_fpr.values()) == {1.0}


@pytest.mark.parametrize("prior", [0.0, 1.0, math.nan, "1e-4"])
def test_bad_prior_is_refused(prior):
  with pytest.raises(ValueError, match="^reconstruction_prior must be a numb"):
    accounting.privacy_profile(_run(1.0), reconstruction_prior=prior)
