"""Sums by logarithms: against SciPy's, where it is exact, and their ends."""

import math

import numpy as np
import pytest
from scipy import special

from accounting.numerics import log_sums


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("scale", [1e-3, 50.0, 1e5])
def test_sums_are_scipys(scale, axis):
  logs = scale * np.random.default_rng(0).normal(size=(7, 9))
  found = log_sums.log_sum_exp(logs, axis=axis)
  # Each adds less than 10 numbers below 1, so to 10 units in the last place.
  want = special.logsumexp(logs, axis=axis)
  np.testing.assert_allclose(found, want, rtol=1e-14, atol=1e-14)


def test_what_is_next_to_nothing_is_kept():
  # Planted bug: log(sum(exp)) is 0 here.
  found = log_sums.log_sum_exp(np.array([-700.0, 0.0, -60.0]))
  assert found == pytest.approx(math.exp(-60), rel=1e-14)


def test_the_logarithm_of_nothing():
  logs = np.array([[-np.inf, -np.inf], [-np.inf, 2.0]])
  np.testing.assert_array_equal(
      log_sums.log_sum_exp(logs, axis=1), [-np.inf, 2.0]
  )
