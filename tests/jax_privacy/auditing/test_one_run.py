"""The one-run bounds, by exact probabilities: no sampling is needed.

A bound depends on the count of right guesses alone and grows with it. So the
probability that it exceeds the truth is the tail, under the true mechanism, of
the counts for which it does.
"""

import math

import numpy as np
import pytest
from scipy import optimize, special, stats

from jax_privacy.auditing import gdp, one_run

_BOUNDS = {
    "one_run": one_run.epsilon_lower_bound,
    "gaussian": one_run.epsilon_lower_bound_fdp,
    "approximate": lambda **k: one_run.epsilon_lower_bound_fdp(
        **k, family="approximate"
    ),
}


def _bound(method, num_correct, num_guesses, num_canaries, **kwargs):
  return _BOUNDS[method](
      num_correct=num_correct,
      num_guesses=num_guesses,
      num_canaries=num_canaries,
      **kwargs,
  )


def _least_count(method, epsilon, num_guesses, num_canaries, **kwargs):
  """The least count whose bound exceeds epsilon; one more than all if none."""
  for count in range(num_guesses + 1):
    found = _bound(method, count, num_guesses, num_canaries, **kwargs)
    if found > epsilon:
      return count
  return num_guesses + 1


# Randomised response on each coin: all k guesses right independently, with
# probability q = e^eps / (1 + e^eps). It is the mechanism that Steinke et al.
# show to be the worst for pure DP, so the bound must be (nearly) exact there:
# counts are whole numbers, and no test of Binomial(k, q) does better.
@pytest.mark.parametrize("epsilon", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("significance", [0.01, 0.05, 0.3])
@pytest.mark.parametrize("k", [20, 200])
def test_exact_for_randomised_response(epsilon, significance, k):
  least = _least_count(
      "one_run", epsilon, k, k, significance=significance, delta=0.0
  )
  right = stats.binom(k, special.expit(epsilon))
  assert right.sf(least - 1) <= significance
  assert right.sf(least - 2) > significance  # One less would be too many.


@pytest.mark.few(4)
@pytest.mark.parametrize("method", ["one_run", "approximate"])
@pytest.mark.parametrize("epsilon", [0.5, 2.0])
@pytest.mark.parametrize("delta", [1e-4, 0.01])
@pytest.mark.parametrize("k", [30, 100])
def test_valid_for_mechanisms_that_fail_with_probability_delta(
    method, epsilon, delta, k
):
  # Both are (epsilon, delta)-DP: failing coin by coin, and all at once.
  right = stats.binom(k, special.expit(epsilon))
  lifted = stats.binom(k, delta + (1 - delta) * special.expit(epsilon))
  for significance in (0.02, 0.05, 0.2):
    least = _least_count(
        method, epsilon, k, k, significance=significance, delta=delta
    )
    assert lifted.sf(least - 1) <= significance
    at_once = delta * (least <= k) + (1 - delta) * right.sf(least - 1)
    assert at_once <= significance


@pytest.mark.parametrize("mu", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("k", [20, 200])
def test_valid_for_gaussians_that_are_guessed_by_sign(mu, k):
  # Scores N(0, 1) or N(mu, 1), called in above mu / 2: right with probability
  # Phi(mu / 2), independently.
  right = stats.binom(k, stats.norm.cdf(mu / 2))
  epsilon = gdp.epsilon_from_mu(mu, delta=1e-5)
  for significance in (0.01, 0.05, 0.3):
    least = _least_count(
        "gaussian", epsilon, k, k, significance=significance, delta=1e-5
    )
    assert right.sf(least - 1) <= significance
    if k == 200 and mu < 1:  # Not vacuous, though it uses no independence and
      # loses by guessing all: 3 deviations above the exact quantile refute it.
      enough = right.mean() + (3 + stats.norm.isf(significance)) * right.std()
      assert least <= enough


def _most_mass(c, k, m, tangents):
  """A slow oracle: the largest P[at least c right] by linear programming.

  p_0 ... p_k >= 0 are the unknowns, and for every tangent (a, b) of the
  trade-off bound, r_{i+1} <= a + b h_i for i = 0 ... k - 1.
  """
  count = np.arange(k + 1)
  rows, limits = [], []
  for i in range(k):
    r = np.where(count >= i + 1, count / m, 0)
    h = np.where(count >= i, (k - count) / m, 0)
    for a, b in tangents:
      rows.append(r - b * h)
      limits.append(a)
  found = optimize.linprog(
      -(count >= c).astype(float),
      A_ub=np.array(rows),
      b_ub=limits,
      A_eq=np.ones((1, k + 1)),
      b_eq=[1.0],
  )
  assert found.status == 0
  return -found.fun


def _approximate_tangents(epsilon, delta):
  # TPR <= delta + e^eps FPR, and 1 - FPR <= delta + e^eps (1 - TPR).
  return [
      (delta, math.exp(epsilon)),
      (1 - math.exp(-epsilon) * (1 - delta), math.exp(-epsilon)),
  ]


def _gaussian_tangents(mu):
  # TPR = Phi(Phi^-1(x) + mu), concave in the false positive rate x.
  z = np.linspace(-6, 6, 120)
  slope = stats.norm.pdf(z + mu) / stats.norm.pdf(z)
  return list(
      zip(
          stats.norm.cdf(z + mu) - slope * stats.norm.cdf(z), slope, strict=True
      )
  )


@pytest.mark.parametrize("c, k, m", [(7, 8, 8), (8, 8, 20), (11, 12, 40)])
@pytest.mark.parametrize("epsilon, delta", [(1.0, 0.0), (0.7, 0.01)])
def test_the_recursion_solves_the_linear_program(c, k, m, epsilon, delta):
  # At the epsilon that is just refuted, the most mass that the inequalities
  # leave to c or more right guesses is the significance itself.
  most = _most_mass(c, k, m, _approximate_tangents(epsilon, delta))
  found = _bound("approximate", c, k, m, significance=most, delta=delta)
  assert found == pytest.approx(epsilon, abs=1e-4)


@pytest.mark.parametrize("c, k, m", [(7, 8, 8), (8, 8, 20), (11, 12, 40)])
def test_the_recursion_solves_the_gaussian_program(c, k, m):
  most = _most_mass(c, k, m, _gaussian_tangents(1.0))
  found = _bound("gaussian", c, k, m, significance=most, delta=1e-5)
  # Tangents enclose the curve from above, so the program allows a little more.
  truth = gdp.epsilon_from_mu(1.0, delta=1e-5)
  assert found == pytest.approx(truth, rel=5e-3)


@pytest.mark.parametrize("method", list(_BOUNDS))
def test_bounds_move_the_right_way(method):
  kwargs = dict(significance=0.05, delta=1e-4)
  counts = [_bound(method, c, 50, 100, **kwargs) for c in range(51)]
  assert (np.diff(counts) >= 0).all() and counts[-1] > 1
  assert counts[25] == 0  # Half right shows nothing.
  stricter = _bound(method, 48, 50, 100, significance=0.01, delta=1e-4)
  assert stricter < counts[48]
  smaller_delta = _bound(method, 48, 50, 100, significance=0.05, delta=1e-6)
  assert smaller_delta > counts[48]


def test_all_right_has_a_closed_form():
  # q^k = significance gives epsilon = log(q / (1 - q)).
  q = 0.05 ** (1 / 40)
  found = _bound("one_run", 40, 40, 40, significance=0.05, delta=0.0)
  assert found == pytest.approx(math.log(q / (1 - q)), abs=1e-5)


@pytest.mark.parametrize("method", ["one_run", "approximate"])
def test_a_delta_that_explains_everything_leaves_no_bound(method):
  # With delta = 0.1 a mechanism may release all coins in one run of ten.
  kwargs = dict(significance=0.05, delta=0.1)
  assert _bound(method, 100, 100, 100, **kwargs) == 0


@pytest.mark.parametrize("method", list(_BOUNDS))
@pytest.mark.parametrize(
    "change, error",
    [
        (dict(num_correct=11), "num_guesses must be at least num_correct"),
        (dict(num_guesses=21), "num_guesses must be at least num_correct and"),
        (dict(num_correct=-1), "num_correct must be an integer of at least 0"),
        (dict(num_guesses=0, num_correct=0), "num_guesses must be an integer"),
        (dict(num_canaries=20.0), "num_canaries must be an integer"),
        (dict(significance=0.0), r"significance must be in \(0, 1\)"),
        (dict(significance=1.0), r"significance must be in \(0, 1\)"),
        (dict(delta=math.nan), "delta must be in"),
        (dict(delta=-0.1), "delta must be in"),
        (dict(delta=1.0), "delta must be in"),
    ],
)
def test_arguments_are_checked(method, change, error):
  kwargs = dict(
      num_correct=9,
      num_guesses=10,
      num_canaries=20,
      significance=0.05,
      delta=1e-5,
  )
  with pytest.raises(ValueError, match=error):
    _BOUNDS[method](**(kwargs | change))


def test_delta_zero_and_families():
  kwargs = dict(num_correct=9, num_guesses=10, num_canaries=20)
  with pytest.raises(ValueError, match=r"delta must be in \(0, 1\), got 0"):
    one_run.epsilon_lower_bound_fdp(**kwargs, significance=0.05, delta=0.0)
  with pytest.raises(ValueError, match="family must be one of"):
    one_run.epsilon_lower_bound_fdp(
        **kwargs, significance=0.05, delta=1e-5, family="laplace"
    )
