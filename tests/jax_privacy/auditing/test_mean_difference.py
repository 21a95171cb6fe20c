import math

import numpy as np
import pytest
from scipy import stats

from jax_privacy.auditing import mean_difference


def _bound(in_scores, out_scores, significance=0.05):
  return mean_difference.mu_lower_bound(
      np.asarray(in_scores), np.asarray(out_scores), significance=significance
  )


@pytest.mark.parametrize("num_in, num_out", [(2, 2), (5, 40), (200, 200)])
@pytest.mark.parametrize("mu", [0.5, 2.0])
def test_fails_as_often_as_it_may(num_in, num_out, mu):
  # The interval is exact, so failures are Binomial(400, 0.2): outside its 1e-6
  # quantiles on either side (44 and 119) with probability 2e-6.
  rng = np.random.default_rng(4)
  failures = 0
  for _ in range(400):
    in_scores = 3.0 * (rng.normal(size=num_in) + mu) - 7.0
    out_scores = 3.0 * rng.normal(size=num_out) - 7.0
    failures += _bound(in_scores, out_scores, 0.2) > mu
  law = stats.binom(400, 0.2)
  assert law.ppf(1e-6) <= failures <= law.isf(1e-6)


@pytest.mark.parametrize("sigma", [1e-2, 1e-4, 1e-8, 1e-12])
def test_next_to_no_noise_gives_a_large_mu(sigma):
  # SciPy's distribution function gives up here. mu = 1 / sigma; with 400 scores
  # the standard deviation is known to 4%, and the bound is below by few of it.
  rng = np.random.default_rng(5)
  noise = sigma * rng.normal(size=(2, 200))
  found = _bound(1 + noise[0], noise[1])
  assert 0.8 / sigma < found < 1 / sigma * 1.1


def test_the_two_formulas_meet():
  # A t statistic just below and just above the switch: at most 2% apart.
  below, above = (
      mean_difference._noncentrality(98, t, 0.05) for t in (999.9, 1000.1)
  )
  assert 0.98 * below < above < below * 1.001


def test_a_significance_below_rounding_refutes_nothing():
  # 1 - cdf is 0 in floats for many a mu below the truth, and above it too.
  rng = np.random.default_rng(8)
  in_scores, out_scores = rng.normal(size=(2, 300))
  bounds = [_bound(in_scores + 2, out_scores, 10.0**-k) for k in range(1, 20)]
  assert (np.diff(bounds) <= 0).all()
  assert bounds[5] > 1 and bounds[-1] == 0


def test_no_noise_at_all():
  assert _bound(np.full(5, 2.0), np.full(5, 1.0)) == math.inf
  assert _bound(np.full(5, 1.0), np.full(5, 2.0)) == 0.0
  assert _bound(np.full(5, 1.0), np.full(5, 1.0)) == 0.0


@pytest.mark.parametrize("scale", [1e-200, 1e-160, 1e150])
def test_units_do_not_matter(scale):
  # Squares of such scores are 0 or infinite.
  rng = np.random.default_rng(6)
  in_scores, out_scores = rng.normal(size=(2, 100))
  plain = _bound(in_scores + 2, out_scores)
  assert _bound(scale * (in_scores + 2), scale * out_scores) == pytest.approx(
      plain, rel=1e-5
  )


def test_a_negative_difference_shows_nothing():
  rng = np.random.default_rng(7)
  scores = rng.normal(size=(2, 100))
  assert _bound(scores[0] - 3, scores[1]) == 0.0


def test_arguments_are_checked():
  with pytest.raises(ValueError, match="at least 3, got 2"):
    _bound([1.0], [0.0])
  for significance in (0.0, 1.0, math.nan):
    with pytest.raises(ValueError, match="significance must be in"):
      _bound([1.0, 2.0], [0.0], significance)
