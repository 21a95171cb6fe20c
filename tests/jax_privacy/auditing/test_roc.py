"""How strong an attack was: hull, accuracy, raw counts, bootstrap."""

import itertools

import numpy as np
import pytest
from scipy import stats

from jax_privacy import auditing
from jax_privacy.auditing import roc


def _attack(num_in=40, num_out=50, shift=1.0, seed=0, ties=True):
  rng = np.random.default_rng(seed)
  ins = rng.normal(shift, 1, num_in)
  outs = rng.normal(0, 1, num_out)
  if ties:
    ins, outs = np.round(ins, 1), np.round(outs, 1)
  return ins, outs


def _points(ins, outs):
  """Rates of every threshold, by counting."""
  thresholds = [np.inf, *np.unique(np.append(ins, outs))]
  return [(np.mean(outs >= t), np.mean(ins >= t)) for t in thresholds]


def _best_tpr(ins, outs, fpr):
  """The best mixture of two thresholds, by trying all pairs."""
  best = 0.0
  for a, b in itertools.combinations_with_replacement(_points(ins, outs), 2):
    low, high = sorted((a, b))
    if low[0] <= fpr <= high[0]:
      share = (fpr - low[0]) / (high[0] - low[0]) if high[0] > low[0] else 1.0
      tpr = low[1] + share * (high[1] - low[1])
      best = max(best, tpr, *(y for x, y in (a, b) if x <= fpr))
  return best


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("shift", [-1.0, 0.0, 1.0, 4.0])
def test_tpr_is_the_best_of_all_mixtures(seed, shift):
  ins, outs = _attack(12, 15, shift, seed)
  fprs = np.append(np.linspace(0, 1, 11), [1 / 15, 2 / 15])
  found = auditing.CanaryScoreAuditor(ins, outs).tpr_at_given_fpr(fprs)
  want = [_best_tpr(ins, outs, fpr) for fpr in fprs]
  np.testing.assert_allclose(found, want, atol=1e-12)
  one = auditing.CanaryScoreAuditor(ins, outs).tpr_at_given_fpr(fprs[3])
  assert one == found[3] and isinstance(one, float)


def test_the_area_is_the_chance_of_a_right_order():
  ins, outs = _attack()
  pairs = (ins[:, None] > outs) + 0.5 * (ins[:, None] == outs)
  found = roc.Attack(ins, outs).attack_auroc()
  np.testing.assert_allclose(found, pairs.mean(), rtol=1e-12)
  assert roc.Attack([0.0, 0.1], [1.0, 2.0]).attack_auroc() == 0.0


@pytest.mark.parametrize("prevalence", [None, 0.0, 0.3, 1.0])
def test_accuracy_is_the_best_threshold_s(prevalence):
  ins, outs = _attack()
  share = 40 / 90 if prevalence is None else prevalence
  want = max(
      share * tpr + (1 - share) * (1 - fpr) for fpr, tpr in _points(ins, outs)
  )
  attack = roc.Attack(ins, outs)
  np.testing.assert_allclose(attack.max_accuracy(prevalence=prevalence), want)
  bound = attack.max_accuracy(prevalence=prevalence, significance=0.05)
  assert want <= bound <= 1


@pytest.mark.parametrize("min_count", [0, 1, 5, 60])
@pytest.mark.parametrize("delta", [0.0, 0.1])
def test_raw_counts_are_the_steepest_slope(min_count, delta):
  ins, outs = _attack()
  found = roc.Attack(ins, outs).epsilon_raw_counts(min_count, delta)
  if min_count >= 50:
    assert found == 0.0
    return
  least = min_count / 50
  grid = np.linspace(max(least, 1e-9), 1, 4000)
  tprs = np.array([_best_tpr(ins, outs, x) for x in grid[:4]])
  tprs = np.append(tprs, roc.Attack(ins, outs).tpr_at_given_fpr(grid[4:]))
  with np.errstate(divide="ignore", invalid="ignore"):
    want = np.nanmax(np.log(tprs - delta) - np.log(grid))
  if min_count == delta == 0:
    assert found == np.inf
  else:
    # A grid of 4,000 misses corners by 1 / 4000 of a rate of 1 / 50 at most.
    np.testing.assert_allclose(found, max(want, 0), atol=2e-2)


def test_the_reverse_attack_counts_where_it_may():
  ins, outs = _attack(400, 400, shift=-1.0, ties=False)
  attack = roc.Attack(ins, outs)
  assert attack.epsilon_raw_counts(20) < 0.3
  two = attack.epsilon_raw_counts(20, one_sided=False)
  mirrored = roc.Attack(-outs, -ins).epsilon_raw_counts(20)
  assert two == mirrored == max(two, attack.epsilon_raw_counts(20))


def test_one_sided_bounds_leave_out_the_second_inequality():
  ins, outs = _attack(500, 500, shift=1.0, ties=False)
  auditor = auditing.CanaryScoreAuditor(ins, outs)
  at = auditing.Explicit(-1.0)  # Few false negatives, many false positives.
  both = auditor.epsilon_clopper_pearson(0.05, 0.01, threshold_strategy=at)
  one = auditor.epsilon_clopper_pearson(0.05, 0.01, True, threshold_strategy=at)
  upper = auditing.roc.error_rates.clopper_pearson_upper
  fpr = upper(np.sum(outs >= -1), 500, 0.025)
  fnr = upper(np.sum(ins < -1), 500, 0.025)
  np.testing.assert_allclose(one, max(0, np.log((1 - 0.01 - fnr) / fpr)))
  np.testing.assert_allclose(both, np.log((1 - 0.01 - fpr) / fnr))
  assert both > one


def test_bootstrap_gives_quantiles_of_the_metric():
  ins, outs = _attack(300, 300, ties=False)
  attack = roc.Attack(ins, outs)
  params = roc.BootstrapParams(200, quantiles=(0.1, 0.5, 0.9), seed=1)
  low, middle, high = attack.attack_auroc(bootstrap_params=params)
  # Hanley and McNeil 1982: the standard error of an area of 0.76 is 0.019.
  area = stats.norm.cdf(1 / np.sqrt(2))
  assert low < middle < high and abs(middle - area) < 6 * 0.019
  # 2 x 1.28 standard errors; a spread of 200 draws is off by 7% a sigma.
  assert 0.5 < (high - low) / (2 * 1.2816 * 0.019) < 1.5
  again = attack.attack_auroc(bootstrap_params=params)
  np.testing.assert_array_equal(again, (low, middle, high))
  few = roc.BootstrapParams(20, quantiles=0.5, seed=0)
  assert np.ndim(attack.tpr_at_given_fpr(0.1, bootstrap_params=few)) == 0
  assert attack.epsilon_raw_counts(9, bootstrap_params=few) > 0


def test_corrected_quantiles():
  values = np.arange(98.0)
  # In the middle of the draws, quantiles stay where they are.
  same = roc._corrected(np.array([0.1, 0.9]), values, 48.5, 0.0)
  np.testing.assert_allclose(same, [0.1, 0.9])
  # Efron 1987, (6.8): with 80 of 100 below, both move by twice z(0.8).
  shift = stats.norm.ppf(0.8)
  moved = roc._corrected(np.array([0.1]), values, 78.5, 0.0)
  want = stats.norm.cdf(2 * shift + stats.norm.ppf(0.1))
  np.testing.assert_allclose(moved, want)
  accelerated = roc._corrected(np.array([0.1]), values, 78.5, 0.05)
  inner = shift + stats.norm.ppf(0.1)
  want = stats.norm.cdf(shift + inner / (1 - 0.05 * inner))
  np.testing.assert_allclose(accelerated, want)


def test_acceleration_is_a_sixth_of_the_skewness_for_a_mean():
  # Of a mean of exponential numbers: 2 / 6 / sqrt(n), to 1 / sqrt(n) of it.
  ins = -np.log1p(-(np.arange(400) + 0.5) / 400)
  attack = roc.Attack(ins, [0.0])
  found = attack._acceleration(lambda a: np.mean(a._in))
  np.testing.assert_allclose(found, 2 / 6 / np.sqrt(400), rtol=0.05)
  assert roc.Attack([1.0], [0.0])._acceleration(lambda a: 1.0) == 0
  params = roc.BootstrapParams(50, acceleration=True, seed=0)
  low, high = _small().attack_auroc(bootstrap_params=params)
  assert low < _small().attack_auroc() < high


def _small():
  return roc.Attack(*_attack(30, 30, ties=False))


def test_an_interval_has_two_tails():
  params = roc.BootstrapParams.confidence_interval(confidence=0.99)
  np.testing.assert_allclose(params.quantiles, (0.005, 0.995))
  assert params.num_samples == 1000


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda a: a.tpr_at_given_fpr(1.1), r"fpr must be in \[0, 1\]"),
        (lambda a: a.tpr_at_given_fpr(np.nan), r"fpr must be in \[0, 1\]"),
        (
            lambda a: a.tpr_at_given_fpr(
                [0.1], bootstrap_params=roc.BootstrapParams()
            ),
            "fpr must be a scalar for bootstrap",
        ),
        (lambda a: a.max_accuracy(prevalence=2), "prevalence must be in"),
        (lambda a: a.max_accuracy(significance=0), "significance must be in"),
        (lambda a: a.epsilon_raw_counts(-1), "min_count must be an integer"),
        (lambda a: a.epsilon_raw_counts(1, 1.0), "delta must be in"),
        (lambda a: roc.BootstrapParams(quantiles=[]), "quantiles must be one"),
        (
            lambda a: roc.BootstrapParams(quantiles=(0, 1)),
            "quantiles must be i",
        ),
        (
            lambda a: roc.BootstrapParams.confidence_interval(confidence=1),
            "confidence must be in",
        ),
        (lambda a: roc.BootstrapParams(0), "num_samples must be an integer"),
        (
            lambda a: roc.BootstrapParams(
                bias_correction=False, acceleration=True
            ),
            "bias_correction must be True with acceleration",
        ),
        (lambda a: roc.Attack([], [1.0]), "in_canary_scores must be a one-dim"),
        (
            lambda a: roc.Attack([1.0], [np.nan]),
            "out_canary_scores must be fin",
        ),
    ],
)
def test_bad_input_is_refused(call, text):
  with pytest.raises(ValueError, match=text):
    call(roc.Attack([1.0, 2.0], [0.0, 1.0]))
