import math

import numpy as np
import pytest
from scipy import special, stats

from jax_privacy.auditing import error_rates

_STRATEGIES = {
    "bonferroni": error_rates.Bonferroni(),
    "bonferroni_1": error_rates.Bonferroni(1),
    "bonferroni_many": error_rates.Bonferroni(200),
    "explicit": error_rates.Explicit(1.0),
    "split": error_rates.Split(),
}


def _mus(rates):
  return error_rates.mus_from_rates(rates)


# Scores with known error rates at every threshold, in both forms ("above", as
# Bonferroni's first half, and "at least"): normal, and with many ties.
def _normal(rng, size):
  return rng.normal(size=size[0]) + 1.5, rng.normal(size=size[1])


def _binary(rng, size):
  return rng.binomial(1, 0.7, size[0]), rng.binomial(1, 0.3, size[1])


def _counted(rng, size):
  return rng.poisson(4.0, size[0]), rng.poisson(2.0, size[1])


class _Normal:
  """`stats.norm(mean)`, of which SciPy's is slow to ask."""

  def __init__(self, mean):
    self._mean = mean

  def sf(self, x):
    return special.ndtr(self._mean - x)

  def cdf(self, x):
    return special.ndtr(x - self._mean)


class _Whole:
  """A law of whole numbers from 0 to 98, by a table of SciPy's."""

  def __init__(self, law):
    self._sf, self._cdf = law.sf(np.arange(-1, 99)), law.cdf(np.arange(-1, 99))

  def sf(self, x):
    return self._sf[np.clip(np.floor(x) + 1, 0, 99).astype(int)]

  def cdf(self, x):
    return self._cdf[np.clip(np.floor(x) + 1, 0, 99).astype(int)]


_CASES = {
    "normal": (_normal, _Normal(1.5), _Normal(0.0)),
    "binary": (
        _binary,
        _Whole(stats.bernoulli(0.7)),
        _Whole(stats.bernoulli(0.3)),
    ),
    "counts": (
        _counted,
        _Whole(stats.poisson(4.0)),
        _Whole(stats.poisson(2.0)),
    ),
}


@pytest.mark.few(5)
@pytest.mark.parametrize("case", list(_CASES))
@pytest.mark.parametrize("strategy", list(_STRATEGIES))
@pytest.mark.parametrize("size", [(40, 60), (5, 2)])
def test_all_bounds_hold_together(case, strategy, size):
  draw, in_law, out_law = _CASES[case]
  rng = np.random.default_rng(1)
  num_trials, significance = 600, 0.2
  failures = 0
  for _ in range(num_trials):
    in_scores, out_scores = (x.astype(float) for x in draw(rng, size))
    rates = error_rates.upper_bounds(
        in_scores,
        out_scores,
        significance=significance,
        threshold_strategy=_STRATEGIES[strategy],
        objective_fn=_mus,
    )
    t = rates.thresholds
    # A pair is refuted only if it is wrong for "score > t" AND for ">= t".
    above = (rates.false_positive >= out_law.sf(t) - 1e-12) & (
        rates.false_negative >= in_law.cdf(t) - 1e-12
    )
    below = np.nextafter(t, -math.inf)
    at_least = (rates.false_positive >= out_law.sf(below) - 1e-12) & (
        rates.false_negative >= in_law.cdf(below) - 1e-12
    )
    failures += not (above | at_least).all()
  # Failures are at most Binomial(600, 0.2), above its 1 - 1e-6 quantile (168)
  # with probability 1e-6.
  assert failures <= stats.binom.isf(1e-6, num_trials, significance)


def test_explicit_bounds_are_not_too_wide():
  # Of the two bounds of a pair each fails with probability near 0.1 (normal
  # scores; counts are whole numbers, so a little less), together near 0.19.
  rng = np.random.default_rng(2)
  failures = 0
  for _ in range(500):
    in_scores, out_scores = _normal(rng, (300, 300))
    rates = error_rates.upper_bounds(
        in_scores,
        out_scores,
        significance=0.2,
        threshold_strategy=error_rates.Explicit(1.0),
    )
    failures += rates.false_positive[0] < stats.norm.sf(1.0) or (
        rates.false_negative[0] < stats.norm.cdf(1.0 - 1.5)
    )
  assert failures >= 500 * 0.1


def test_choosing_a_threshold_uncorrected_is_caught():
  # The planted bug: without a correction, the best of many thresholds on equal
  # distributions (mu = 0, so any positive bound is a failure) fails far more
  # often than the significance allows; with one it does not.
  rng = np.random.default_rng(3)
  naive = honest = 0
  for _ in range(200):
    in_scores, out_scores = rng.normal(size=(2, 200))
    thresholds = np.unique(np.append(in_scores, out_scores))
    rates = error_rates._at(thresholds, in_scores, out_scores, 0.2)
    naive += np.max(_mus(rates)) > 0
    rates = error_rates.upper_bounds(
        in_scores,
        out_scores,
        significance=0.2,
        threshold_strategy=error_rates.Bonferroni(),
    )
    honest += np.max(_mus(rates)) > 0
  limit = stats.binom.isf(1e-6, 200, 0.2)
  assert honest <= limit < naive


def test_clopper_pearson_inverts_the_binomial():
  # At the bound, a count this small has probability exactly the significance.
  for total in (1, 7, 1000):
    counts = np.arange(total)
    bounds = error_rates.clopper_pearson_upper(counts, total, 1e-4)
    tails = stats.binom.cdf(counts, total, bounds)
    np.testing.assert_allclose(tails, 1e-4, rtol=1e-8)
    assert error_rates.clopper_pearson_upper([total], total, 1e-4) == [1.0]


def test_epsilon_and_mu_invert_known_curves():
  # Randomised response with e^eps = 4 and delta = 0.1: FPR = FNR = 0.9 / 5.
  rate = np.array([0.9 / 5])
  rates = error_rates.ErrorRates(np.zeros(1), rate, rate)
  found = error_rates.epsilons_from_rates(rates, delta=0.1)
  np.testing.assert_allclose(found, math.log(4))
  # N(mu, 1) against N(0, 1).
  t = np.array([-1.0, 0.5, 3.0])
  rates = error_rates.ErrorRates(t, special.ndtr(-t), special.ndtr(t - 1.7))
  np.testing.assert_allclose(error_rates.mus_from_rates(rates), 1.7)
  # The second of the two inequalities is the stronger one here.
  rates = error_rates.ErrorRates(np.zeros(1), np.array([0.5]), np.array([1e-3]))
  found = error_rates.epsilons_from_rates(rates, delta=0.0)
  np.testing.assert_allclose(found, math.log(0.5 / 1e-3))


def test_useless_rates_give_zero():
  ones = np.ones(1)
  rates = error_rates.ErrorRates(ones, ones, ones)
  assert error_rates.epsilons_from_rates(rates, delta=0.0) == [0.0]
  assert error_rates.mus_from_rates(rates) == [0.0]


@pytest.mark.parametrize("size", [1, 2, 3, 10, 1000])
@pytest.mark.parametrize("num_ranks", [1, 2, 7, 5000])
def test_ranks_are_counts(size, num_ranks):
  ranks = error_rates._ranks(size, num_ranks)
  assert ranks[0] == 0 and ranks[-1] < size and len(ranks) <= num_ranks
  assert (np.diff(ranks) > 0).all()


@pytest.mark.parametrize(
    "make, error",
    [
        (lambda: error_rates.Bonferroni(0), "num_ranks must be an integer"),
        (lambda: error_rates.Explicit(math.nan), "threshold must be a finite"),
        (lambda: error_rates.Explicit(True), "threshold must be a finite"),
        (
            lambda: error_rates.Split(1.0),
            "threshold_estimation_frac must be",
        ),
        (
            lambda: error_rates.Split(0.0),
            "threshold_estimation_frac must be",
        ),
        (lambda: error_rates.Split(0.5, None), "seed must be an integer"),
    ],
)
def test_strategies_check_their_fields(make, error):
  with pytest.raises(ValueError, match=error):
    make()


def test_a_split_needs_two_of_each_and_other_strategies_are_refused():
  kwargs = dict(significance=0.05, objective_fn=_mus)
  with pytest.raises(ValueError, match="number of out scores must be enough"):
    error_rates.upper_bounds(
        np.ones(5),
        np.ones(1),
        threshold_strategy=error_rates.Split(),
        **kwargs,
    )
  with pytest.raises(ValueError, match="threshold_strategy must be a Bonf"):
    error_rates.upper_bounds(
        np.ones(5), np.ones(5), threshold_strategy=None, **kwargs
    )


def test_a_median_of_splits_is_that_of_their_bounds_at_half_significance():
  rng = np.random.default_rng(0)
  ins, outs = rng.normal(1.5, 1, 300), rng.normal(0, 1, 300)
  several = error_rates.MultiSplit(5, 0.3, seed=3)
  assert len({split.seed for split in several.splits()}) == 5

  def bound(strategy, significance):
    return error_rates.lower_bound(
        ins,
        outs,
        significance=significance,
        threshold_strategy=strategy,
        objective_fn=error_rates.mus_from_rates,
    )

  # A whole significance for each would fail twice as often as it says.
  each = [bound(split, 0.05) for split in several.splits()]
  assert bound(several, 0.1) == np.median(each) > 0
  with pytest.raises(ValueError, match="num_samples must be an integer"):
    error_rates.MultiSplit(0)
  with pytest.raises(ValueError, match="threshold_estimation_frac must be"):
    error_rates.MultiSplit(threshold_estimation_frac=1.0)
