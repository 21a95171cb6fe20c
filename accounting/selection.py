"""What choosing the best of a random number of runs does to a whole profile.

Let K be the number of runs, phi(s) = E s^K, and delta(e) the profile of each
run: the least delta at every epsilon, adding and removing. A run's score is
part of its output. Koskela, Redberg and Wang 2024 (2402.06701), Theorem 8 and
those that follow from it: if a number c has

  phi'(F) <= e^c phi'(F')

for the probabilities F and F' of a score no better than any given one, with a
unit's data and without, then the best of K runs has at every epsilon >= c

  delta_best(epsilon) <= E[K] delta(epsilon - c).

The proof in short. The best run is y with density p(y) phi'(F(y)), and phi'
rises to phi'(1) = E[K]. So the hockey-stick divergence at epsilon is at most
the one of p and p' at epsilon - c, times E[K]. What is left is c. By the
guarantee of one run, 1 - F' <= e^e (1 - F) + delta(e) for every e, and the same
holds of F and F'. Hence, with e* the least e such that

  exp(e*) - 1 >= odds x delta(e*):

  truncated negative binomial of shape eta, parameter gamma:
      phi'(s) ~ (1 - (1 - gamma) s)^-(eta + 1),
      c = (eta + 1) e*,    odds = (1 - gamma) / gamma;
  binomial of n trials with probability p: phi'(s) ~ (1 - p + p s)^(n - 1),
      c = (n - 1) e*,      odds = p / (1 - p);
  Poisson of mean m: phi'(s) ~ exp(m s),
      c = m delta(0), the limit of the binomial one.

Both quotients of phi' are powers of a fraction of linear functions of 1 - F or
F', which e* makes constant: it is at most exp(e*) at every score. No run at all
(K = 0) has the same probability on both sides, and gives nothing away. The
number of runs must not depend on the data, and the score of a run not on other
runs. Invariant: what is returned is no less than the theorem's, rounding
included.

>>> geometric = geometric_of(4.0)
>>> round(geometric.odds, 6), round(geometric.shift(lambda e: 0.01 + 0 * e), 4)
(3.0, 0.0591)
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# Halvings of an interval: to the last digit.
_HALVINGS = 60
_UP = 1 + 1e-9


class NumTrials(NamedTuple):
  """The distribution of the number of runs.

  Attributes:
    mean: Mean number of runs.
    power: Factor of e*: eta + 1, or n - 1; the mean for a Poisson number.
    odds: Factor of delta(e*); None for a Poisson number.
    shape: Shape eta for Papernot and Steinke's theorems; None without one.
  """

  mean: float
  power: float
  odds: float | None
  shape: float | None

  def shift(self, profile: Callable[[np.ndarray], np.ndarray]) -> float:
    """Returns c: what epsilon of one run grows by.

    Args:
      profile: Function from epsilons to upper bounds of one run's deltas.
    """
    if self.odds is None:
      return self.power * float(profile(np.zeros(1))[0]) * _UP
    if not self.power:
      return 0.0
    low, high = 0.0, math.log1p(self.odds)  # Delta is at most 1.
    for _ in range(_HALVINGS):
      middle = 0.5 * (low + high)
      delta = float(profile(np.array([middle]))[0])
      if math.expm1(middle) >= self.odds * delta:
        high = middle
      else:
        low = middle
    return self.power * high * _UP


def poisson_of(mean: float) -> NumTrials:
  """Returns a Poisson number of runs.

  Args:
    mean: Mean number, above 0.
  """
  return NumTrials(mean, mean, None, math.inf)


def geometric_of(mean: float) -> NumTrials:
  """Returns a geometric number of runs: 1, 2, 3, ...

  Args:
    mean: Mean number, above 1.
  """
  return NumTrials(mean, 2.0, (mean - 1) * _UP, 1.0)


def logarithmic_of(mean: float) -> NumTrials:
  """Returns a number of runs from the logarithmic distribution.

  Args:
    mean: Mean number, above 1.
  """
  from scipy import optimize

  # The mean is odds / log(1 + odds).
  log_odds = optimize.brentq(
      lambda x: math.exp(x) / math.log1p(math.exp(x)) - mean,
      math.log(mean - 1) - 1,
      2 * math.log(mean) + 5,
      xtol=1e-13,
  )
  # A number, since no full output is asked for.
  # pyrefly: ignore[bad-argument-type]
  return NumTrials(mean, 1.0, math.exp(log_odds) * _UP, 0.0)


def binomial_of(mean: float, num_trials_max: int) -> NumTrials:
  """Returns a binomial number of runs: each of several is made by a coin toss.

  Args:
    mean: Mean number, above 0.
    num_trials_max: Largest number, above the mean.
  """
  odds = mean / (num_trials_max - mean)
  return NumTrials(mean, float(num_trials_max - 1), odds * _UP, None)
