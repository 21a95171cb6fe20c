import functools
import math

import numpy as np
import pytest
from scipy import stats

from jax_privacy import auditing
from jax_privacy.auditing import gdp

_MU = 1.666030597  # epsilon 8 at delta 1e-5, see test_the_setting.
_DELTA = 1e-5
# Valid whatever the mechanism's curve, for independent scores.
_GENERAL = ("one_run", "clopper_pearson")
_ALL = (*_GENERAL, "one_run_fdp", "from_gdp", "mean_difference")


def _auditor(rng, num_canaries, scores_fn):
  """Throws a coin per canary, and draws scores by scores_fn(rng, coins)."""
  included = rng.random(num_canaries) < 0.5
  scores = scores_fn(rng, included)
  return auditing.CanaryScoreAuditor(scores[included], scores[~included])


def _gaussian(rng, included, mu=_MU):
  return rng.normal(size=len(included)) + mu * included


def _bound(auditor, method, significance, delta):
  if method == "approximate":
    return auditor.epsilon_one_run_fdp(
        significance, delta, family="approximate"
    )
  return getattr(auditor, f"epsilon_{method}")(significance, delta)


def test_the_setting():
  assert gdp.epsilon_from_mu(_MU, delta=_DELTA) == pytest.approx(8, abs=1e-4)


@functools.cache
def _measured():
  rows = [
      _auditor(np.random.default_rng(seed), 1000, _gaussian).all_bounds(
          0.05, _DELTA
      )
      for seed in range(200)
  ]
  return {name: [row[name] for row in rows] for name in rows[0]}


# Means over 200 seeds, which the module's docstring shows. The mean of 200 has
# a standard deviation of 0.04 at most, and 0.15 is nearly four of these: other
# random generators pass, another bound does not. At least as tight as was
# expected from other implementations: 2.3, 3.2, 2.1, 6.4 and 7.5, less half a
# standard deviation of one audit.
@pytest.mark.slow
@pytest.mark.parametrize(
    "method, mean, expected",
    [
        ("one_run", 2.80, 2.3),
        ("one_run_fdp", 4.33, 3.2),
        ("clopper_pearson", 2.16, 2.1),
        ("from_gdp", 6.27, 6.4),
        ("mean_difference", 7.32, 7.5),
    ],
)
def test_the_table_of_the_docstring(method, mean, expected):
  bounds = _measured()[method]
  assert np.mean(bounds) == pytest.approx(mean, abs=0.15)
  assert np.mean(bounds) > expected - 0.5 * np.std(bounds)
  # Above the truth at most 5% of the time: above Binomial(200, 0.05)'s
  # 1 - 1e-6 quantile (26) once in a million.
  assert np.sum(np.array(bounds) > 8) <= stats.binom.isf(1e-6, 200, 0.05)


@pytest.mark.slow
def test_mean_difference_is_as_tight_as_it_may_be():
  # Its interval is exact here, so it must fail about that often: Binomial(200,
  # 0.05) is below 1 with probability 4e-5.
  assert np.sum(np.array(_measured()["mean_difference"]) > 8) >= 1


def _no_more_failures_than_allowed(
    scores_fn, epsilon, *, methods, delta, num_canaries=300
):
  num_trials, significance = 150, 0.2
  failures = dict.fromkeys(methods, 0)
  for seed in range(num_trials):
    auditor = _auditor(np.random.default_rng(seed), num_canaries, scores_fn)
    for method in methods:
      found = _bound(auditor, method, significance, delta)
      failures[method] += found > epsilon
  # Failures are at most Binomial(150, 0.2): above its 1 - 1e-6 quantile (55)
  # with probability 1e-6.
  limit = stats.binom.isf(1e-6, num_trials, significance)
  assert all(count <= limit for count in failures.values()), failures


@pytest.mark.few(1)
@pytest.mark.parametrize("mu", [0.0, 0.3, 3.0])
def test_valid_for_gaussian_mechanisms(mu):
  _no_more_failures_than_allowed(
      functools.partial(_gaussian, mu=mu),
      gdp.epsilon_from_mu(mu, delta=_DELTA),
      methods=(*_ALL, "approximate"),
      delta=_DELTA,
  )


@pytest.mark.few(1)
@pytest.mark.parametrize("epsilon", [0.5, 2.0])
@pytest.mark.parametrize("delta", [0.0, 0.01])
def test_valid_for_randomised_response(epsilon, delta):
  # With probability delta the coin itself, marked as such by a large score.
  def scores_fn(rng, included):
    truthful = rng.random(len(included)) < 1 / (1 + math.exp(-epsilon))
    answer = np.where(included == truthful, 1.0, 0.0)
    revealed = rng.random(len(included)) < delta
    return np.where(revealed, np.where(included, 2.0, -1.0), answer)

  _no_more_failures_than_allowed(
      scores_fn,
      epsilon,
      methods=(*_GENERAL, "approximate"),
      delta=delta,
  )


@pytest.mark.few(1)
@pytest.mark.parametrize("epsilon", [0.5, 3.0])
def test_valid_for_laplace_mechanisms(epsilon):
  def scores_fn(rng, included):
    return included + rng.laplace(scale=1 / epsilon, size=len(included))

  methods = (*_GENERAL, "approximate")
  _no_more_failures_than_allowed(scores_fn, epsilon, methods=methods, delta=0.0)


@pytest.mark.slow
def test_one_run_bounds_are_valid_where_scores_depend_on_each_other():
  # One noise for all canaries, and one shift: scores far from independent.
  # Gaussian mechanism of the SUM of 300 coins with noise sigma: sensitivity 1.
  def scores_fn(rng, included):
    total = np.sum(included) + rng.normal()
    return total + 1e-3 * rng.normal(size=len(included))

  _no_more_failures_than_allowed(
      scores_fn,
      gdp.epsilon_from_mu(1.0, delta=_DELTA),
      methods=("one_run", "one_run_fdp", "approximate"),
      delta=_DELTA,
  )


def test_a_gaussian_curve_is_an_assumption():
  # Randomised response is (1, 0)-DP, but as an equally revealing Gaussian its
  # epsilon at 1e-5 would be 6: the docstring's warning is not idle.
  def scores_fn(rng, included):
    truthful = rng.random(len(included)) < 1 / (1 + math.exp(-1.0))
    return np.where(included == truthful, 1.0, 0.0)

  auditor = _auditor(np.random.default_rng(0), 20_000, scores_fn)
  assert auditor.epsilon_from_gdp(0.01, _DELTA) > 2
  assert auditor.epsilon_clopper_pearson(0.01, _DELTA) < 1


@pytest.mark.parametrize("method", [*_ALL, "approximate"])
def test_missing_noise_is_noticed(method):
  # Scores that tell all: every bound far above what noise would allow.
  included = np.random.default_rng(0).random(1000) < 0.5
  scores = included.astype(float)
  auditor = auditing.CanaryScoreAuditor(scores[included], scores[~included])
  expected = math.inf if method == "mean_difference" else 3.5
  assert _bound(auditor, method, 0.05, _DELTA) >= expected


def test_equal_scores_show_nothing():
  auditor = auditing.CanaryScoreAuditor(np.zeros(500), np.zeros(500))
  assert set(auditor.all_bounds(0.05, _DELTA).values()) == {0.0}
  assert auditor.attack_auroc() == 0.5


def test_ties_favour_neither_group():
  # If equal scores kept their order (in before out), all guesses at the top
  # and bottom would be right, and the bound large.
  for num_guesses in (10, 100, 1000):
    for seed in range(20):
      auditor = auditing.CanaryScoreAuditor(
          np.zeros(500), np.zeros(500), tie_seed=seed
      )
      bound = auditor.epsilon_one_run(1e-4, 0.0, num_guesses=num_guesses)
      assert bound == 0.0


def test_candidates_share_the_significance():
  auditor = _auditor(np.random.default_rng(1), 1000, _gaussian)
  for method in (auditor.epsilon_one_run, auditor.epsilon_one_run_fdp):
    alone = [method(0.025, _DELTA, num_guesses=k) for k in (500, 125)]
    assert method(0.05, _DELTA, num_guesses=(500, 125)) == max(alone)
    assert method(0.05, _DELTA) == max(alone)  # The default.


def test_guesses_are_the_extreme_scores():
  auditor = auditing.CanaryScoreAuditor([9.0, 8.0, 0.0], [7.0, 1.0, 2.0])
  # From the top: in, in, out, ...; from the bottom: in, out, out, out.
  right = [auditor._num_correct(k, one_sided=False) for k in range(1, 7)]
  assert right == [1, 1, 2, 3, 3, 4]
  # From the top alone: in, in, out, out, out, in.
  right = [auditor._num_correct(k, one_sided=True) for k in range(1, 7)]
  assert right == [1, 2, 2, 2, 2, 3]


def test_monotone_in_scores_and_units():
  # Only ranks matter, but for the mean difference, which knows no unit.
  auditor = _auditor(np.random.default_rng(2), 400, _gaussian)
  scaled = auditing.CanaryScoreAuditor(
      1e-3 * auditor._in - 5, 1e-3 * auditor._out - 5
  )
  ours = auditor.all_bounds(0.05, _DELTA)
  assert scaled.all_bounds(0.05, _DELTA) == pytest.approx(ours, abs=1e-4)


def test_area_under_the_curve():
  rng = np.random.default_rng(3)
  ins, outs = rng.integers(5, size=30) + 1, rng.integers(5, size=20)
  pairs = np.mean(
      (ins[:, None] > outs[None, :]) + 0.5 * (ins[:, None] == outs[None, :])
  )
  found = auditing.CanaryScoreAuditor(ins, outs).attack_auroc()
  assert found == pytest.approx(pairs)


@pytest.mark.parametrize(
    "scores, got",
    [
        ([1.0, math.nan], "1 of 2 that are not"),
        ([math.inf, 1.0, -math.inf], "2 of 3 that are not"),
        ([], r"float64 \(0,\)"),
        ([[1.0]], r"float64 \(1, 1\)"),
        ([True, False], r"bool \(2,\)"),
        (["1"], "<U1"),
        ([1j], "complex128"),
        (3.0, r"float64 \(\)"),
    ],
)
def test_scores_are_checked(scores, got):
  with pytest.raises(ValueError, match=f"in_canary_scores must be .*{got}"):
    auditing.CanaryScoreAuditor(scores, [0.0])
  with pytest.raises(ValueError, match=f"out_canary_scores must be .*{got}"):
    auditing.CanaryScoreAuditor([0.0], scores)


def test_unfair_coins_are_refused():
  auditor = auditing.CanaryScoreAuditor(np.ones(900), np.zeros(100))
  for method in (auditor.epsilon_one_run, auditor.epsilon_one_run_fdp):
    with pytest.raises(ValueError, match="about half of 1000 for a one-run"):
      method(0.05, _DELTA)
  assert auditor.epsilon_clopper_pearson(0.05, _DELTA) > 0  # Needs none.


@pytest.mark.parametrize(
    "num_guesses, error",
    [
        (0, "num_guesses must be an integer of at least 1"),
        (5, "num_guesses must be at most 4"),
        (2.0, "num_guesses must be an integer"),
        ((2, 5), "num_guesses must be at most 4"),
        ((), "num_guesses must be an int or a sequence"),
    ],
)
def test_num_guesses_is_checked(num_guesses, error):
  auditor = auditing.CanaryScoreAuditor([1.0, 2.0], [0.0, 0.0])
  with pytest.raises(ValueError, match=error):
    auditor.epsilon_one_run(0.05, 0.0, num_guesses=num_guesses)


@pytest.mark.parametrize("method", _ALL)
def test_significance_and_delta_are_checked(method):
  auditor = auditing.CanaryScoreAuditor([1.0, 2.0], [0.0, 0.0])
  for value in (0.0, 1.0, math.nan, True):
    with pytest.raises(ValueError, match="significance must be in"):
      _bound(auditor, method, value, 1e-5)
  for value in (-1e-5, 1.0, math.nan, True):
    with pytest.raises(ValueError, match="delta must be in"):
      _bound(auditor, method, 0.05, value)
  if method not in _GENERAL:
    with pytest.raises(ValueError, match=r"delta must be in \(0, 1\)"):
      _bound(auditor, method, 0.05, 0.0)


@pytest.mark.parametrize("num_in, num_out", [(1, 1), (1, 2), (3, 1)])
def test_few_canaries_show_little(num_in, num_out):
  auditor = auditing.CanaryScoreAuditor(np.ones(num_in), np.zeros(num_out))
  for method in ("one_run", "one_run_fdp", "clopper_pearson", "from_gdp"):
    assert _bound(auditor, method, 0.05, _DELTA) == 0.0


def test_significance_above_a_half_is_no_error():
  auditor = _auditor(np.random.default_rng(4), 200, _gaussian)
  bounds = auditor.all_bounds(0.9, _DELTA)
  assert all(math.isfinite(bound) for bound in bounds.values())


def test_one_sided_guesses_call_the_highest_scores_in():
  rng = np.random.default_rng(0)
  ins, outs = rng.normal(2, 1, 60), rng.normal(0, 1, 60)
  auditor = auditing.CanaryScoreAuditor(ins, outs)
  tenth = np.sort(np.append(ins, outs))[-10]
  want = auditing.one_run.epsilon_lower_bound(
      num_correct=int(np.sum(ins >= tenth)),
      num_guesses=10,
      num_canaries=120,
      significance=0.05,
      delta=1e-5,
  )
  found = auditor.epsilon_one_run(0.05, 1e-5, True, num_guesses=10)
  assert found == want > 0
  by_fdp = auditor.epsilon_one_run_fdp(0.05, 1e-5, True, num_guesses=10)
  assert by_fdp > auditor.epsilon_one_run_fdp(0.05, 1e-5, True, num_guesses=2)
