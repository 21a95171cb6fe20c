"""Statistical bounds on Gaussian noise, for the tests.

All have a chance of a false alarm below 1e-6, and keys are fixed, so a failure
is a fault and not bad luck.
"""

import numpy as np
from scipy import stats

_FALSE_ALARM = 1e-6


def has_stddev(sample, stddev):
  """Whether a sample of N(0, s^2) is one of s = stddev, by chi-square.

  n variance / s^2 is chi-square with n degrees of freedom. For n = 20,000 its
  two-sided 1e-6 interval is +-2.4% in standard deviation, so that 2/3 or 3/2 of
  the right scale is far outside.
  """
  sample = np.asarray(sample, np.float64).ravel()
  statistic = np.sum(sample**2) / stddev**2
  chi2 = stats.chi2(sample.size)
  return bool(
      chi2.ppf(_FALSE_ALARM / 2) < statistic < chi2.isf(_FALSE_ALARM / 2)
  )


def is_normal(sample, stddev):
  """Whether a sample is N(0, stddev^2), by Kolmogorov and Smirnov's test."""
  sample = np.asarray(sample, np.float64).ravel()
  return bool(stats.kstest(sample / stddev, "norm").pvalue > _FALSE_ALARM)


def are_uncorrelated(a, b):
  """Whether two samples of n independent normals could be independent.

  Their correlation is about N(0, 1/n): 5 / sqrt(n) is passed by chance once in
  1.7 million.
  """
  a, b = (np.asarray(x, np.float64).ravel() for x in (a, b))
  return bool(abs(np.corrcoef(a, b)[0, 1]) < 5 / np.sqrt(a.size))
