"""Gaussian differential privacy: mu, and the epsilon it means at some delta.

A mechanism is mu-GDP if telling two neighbours apart is no easier than telling
N(0, 1) from N(mu, 1). Invariant: `epsilon_from_mu` errs low, so that a lower
bound on mu gives a lower bound on epsilon.

Example:
  >>> from jax_privacy.auditing import gdp
  >>> round(gdp.epsilon_from_mu(1.666, delta=1e-5), 2)
  8.0
"""

import math

import numpy as np
from scipy import special

from jax_privacy import _validate
from jax_privacy.auditing import _search


def epsilon_from_mu(mu: float, *, delta: float) -> float:
  """Returns the epsilon at delta of a mu-GDP mechanism.

  Args:
    mu: Number >= 0, or infinity.
    delta: Delta at which epsilon is asked for, in (0, 1).

  Returns:
    The least epsilon >= 0 for which the Gaussian mechanism of mean mu and
    standard deviation 1 is (epsilon, delta)-DP, rounded down by at most a
    millionth; infinity if mu is, or if epsilon is above 2^40.

  Raises:
    ValueError: If an argument breaks its rule.

  Source: Dong, Roth and Su 2019 (1905.02383), corollary 2.13; Balle and Wang
    2018 (1805.06530), theorem 8.
  """
  delta = _search.delta(delta, positive=True)
  number = _validate.as_float(mu)
  if not number >= 0:
    _validate.fail("mu", "a number of at least 0", mu)
  if number == 0 or math.isinf(number):
    return number
  log_delta = math.log(delta)
  return _search.largest_rejected(
      lambda epsilon: _log_delta(number, epsilon) > log_delta
  )


def _log_delta(mu: float, epsilon: float) -> float:
  """log(Phi(mu/2 - epsilon/mu) - exp(epsilon) Phi(-mu/2 - epsilon/mu))."""
  first = special.log_ndtr(mu / 2 - epsilon / mu)
  second = epsilon + special.log_ndtr(-mu / 2 - epsilon / mu)
  if second >= first:  # Equal but for rounding: delta is 0 to all digits.
    return -math.inf
  return float(first + np.log(-np.expm1(second - first)))
