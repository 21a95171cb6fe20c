"""Lower bounds on epsilon from one run with many canaries, by counting guesses.

Each of num_canaries canaries is put in or left out by a fair coin of its own.
An attacker who sees the released model guesses the coins of some of them, and
may choose which. A guarantee limits how many guesses can be right. A count that
is less likely than the significance refutes the guarantee.

Invariant: these bounds assume nothing of the scores. Canaries may interfere,
scores may be dependent and of any distribution; the coins alone must be fair
and independent. With independent canaries, other bounds are much higher.

Example:
  >>> from jax_privacy.auditing import one_run
  >>> counts = dict(num_correct=95, num_guesses=100, num_canaries=1000)
  >>> bound = one_run.epsilon_lower_bound(
  ...     **counts, significance=0.05, delta=0.0)
  >>> round(bound, 2)
  2.17
"""

import functools
import math

import numpy as np
from scipy import special

from jax_privacy import _validate
from jax_privacy.auditing import _search, gdp

FAMILIES = ("gaussian", "approximate")
# Beyond rounding in sums of a few thousand terms; a rejection needs more.
_SLACK = 1e-9


@functools.lru_cache(maxsize=4096, typed=True)
def epsilon_lower_bound(
    *,
    num_correct: int,
    num_guesses: int,
    num_canaries: int,
    significance: float,
    delta: float,
) -> float:
  """Bounds epsilon from below by the number of right guesses.

  Args:
    num_correct: Number of right guesses.
    num_guesses: Number of guesses; nothing was guessed of the other canaries.
    num_canaries: Number of coins that were thrown.
    significance: Probability with which the bound may fail, in (0, 1).
    delta: Delta at which epsilon is bounded, in [0, 1).

  Returns:
    The largest epsilon refuted, 0 if none is.

  Raises:
    ValueError: If an argument breaks its rule.

  Guarantee: If the mechanism is (epsilon, delta)-DP with respect to putting in
    or leaving out one canary, the result exceeds epsilon with probability at
    most `significance`, provided num_guesses was fixed beforehand.

  Source: Steinke, Nasr and Jagielski 2023 (2305.08846), theorem 5.2.
  """
  counts = _checked(num_correct, num_guesses, num_canaries)
  significance = _search.significance(significance)
  delta = _search.delta(delta)
  return _search.largest_rejected(
      lambda epsilon: _p_value(*counts, epsilon, delta) < significance
  )


def _p_value(num_correct, num_guesses, num_canaries, epsilon, delta) -> float:
  """Bounds the probability of num_correct or more right guesses.

  Under pure DP, right guesses are at most Binomial(num_guesses, q). Each of
  the 2 m delta units of failure can lift a count that falls short by i only at
  a cost of i units, hence the maximum of P[v - i <= W < v] / i.
  """
  from scipy import stats  # An import of a second, when it is needed.

  q = special.expit(epsilon)
  tail = stats.binom.sf(num_correct - 1, num_guesses, q)
  if delta == 0 or num_correct == 0:
    return float(tail)
  shortfall = np.arange(1, num_correct + 1)
  log_pmf = stats.binom.logpmf(num_correct - shortfall, num_guesses, q)
  lifted = np.max(np.cumsum(np.exp(log_pmf)) / shortfall)
  return float(min(1.0, tail + 2 * num_canaries * delta * lifted))


@functools.lru_cache(maxsize=4096, typed=True)
def epsilon_lower_bound_fdp(
    *,
    num_correct: int,
    num_guesses: int,
    num_canaries: int,
    significance: float,
    delta: float,
    family: str = "gaussian",
) -> float:
  """Bounds epsilon from below by refuting a whole trade-off curve.

  Args:
    num_correct: Number of right guesses.
    num_guesses: Number of guesses.
    num_canaries: Number of coins that were thrown.
    significance: Probability with which the bound may fail, in (0, 1).
    delta: Delta at which epsilon is bounded, in (0, 1) for "gaussian", else in
      [0, 1).
    family: Curves to refute. "gaussian": refutes mu-GDP for every mu below
      some mu', and returns the epsilon at delta that mu' means. "approximate":
      refutes (epsilon, delta)-DP itself, whatever the mechanism.

  Returns:
    The largest epsilon refuted, 0 if none is.

  Raises:
    ValueError: If an argument breaks its rule.

  Guarantee: If the mechanism's trade-off curve is at or above a member of the
    family, the result exceeds that member's epsilon at `delta` with probability
    at most `significance`, provided num_guesses was fixed beforehand. The
    "gaussian" bound on epsilon(delta) alone thus ASSUMES that the mechanism's
    curve is as good as the curve of the Gaussian with the same epsilon(delta).
    A Gaussian mechanism's is; DP-SGD's of many steps nearly is; randomised
    response's and Laplace's are not.

  Source: Mahloujifar, Melis and Chaudhuri 2024 (2410.22235); `_refuted` has the
    argument.
  """
  counts = _checked(num_correct, num_guesses, num_canaries)
  significance = _search.significance(significance)
  delta = _search.delta(delta, positive=family == "gaussian")
  if family == "gaussian":
    mu = _search.largest_rejected(
        lambda mu: _refuted(
            *counts,
            significance,
            lambda y: special.ndtr(special.ndtri(y) - mu),
        )
    )
    return gdp.epsilon_from_mu(mu, delta=delta)
  if family == "approximate":
    return _search.largest_rejected(
        lambda epsilon: _refuted(
            *counts,
            significance,
            lambda y: max(
                math.exp(-epsilon) * (y - delta),
                1 - delta - math.exp(min(epsilon, 700.0)) * (1 - y),
            ),
        )
    )
  _validate.fail("family", f"one of {FAMILIES}", family)


def _refuted(num_correct, num_guesses, num_canaries, probability, inverse_fn):
  """Whether num_correct right guesses have less than this probability.

  Let p_i be the probability of i right guesses of k, r_i the sum of (j / m) p_j
  and h_i the sum of ((k - j) / m) p_j, both over j >= i. Throwing one canary's
  coin again turns a right guess among i + 1 into a wrong one among i, so that
  r_{i+1} <= F(h_i), where F(x) is the largest true positive rate at false
  positive rate x (concave, so Jensen's inequality averages it over canaries
  and coins). `inverse_fn` is the inverse of F.

  Suppose p_c + p_{c+1} + ... >= probability. Least mass is then needed if all
  of it is at c and every h_i is as small as the inequality allows. If that
  needs more than mass 1, r_0 + h_0 > k / m, the supposition is false.
  """
  right = probability * num_correct / num_canaries
  wrong = probability * (num_guesses - num_correct) / num_canaries
  most = num_guesses / num_canaries * (1 + _SLACK)
  for i in range(num_correct - 1, -1, -1):
    if right + wrong > most:
      return True
    added = max(0.0, float(inverse_fn(min(right, 1.0))) - wrong)
    wrong += added
    right += added * i / (num_guesses - i)
  return right + wrong > most


def _checked(num_correct, num_guesses, num_canaries):
  counts = (
      _validate.integer("num_correct", num_correct, at_least=0),
      _validate.integer("num_guesses", num_guesses, at_least=1),
      _validate.integer("num_canaries", num_canaries, at_least=1),
  )
  if not counts[0] <= counts[1] <= counts[2]:
    rule = "at least num_correct and at most num_canaries"
    _validate.fail("num_guesses", rule, num_guesses)
  return counts
