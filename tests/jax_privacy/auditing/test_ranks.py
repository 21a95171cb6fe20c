"""Exposure: a canary's rank among strings like it."""

import doctest

import numpy as np
import pytest

from jax_privacy import auditing
from jax_privacy.auditing import ranks


def test_doctest():
  failed, attempted = doctest.testmod(ranks)
  assert attempted and not failed


def test_it_is_the_log_of_the_rank():
  others = np.array([5.0, 3.0, 4.0])  # In any order.
  losses = np.array([2.0, 3.5, 4.5, 6.0])
  got = auditing.exposure(losses, others)
  # Ranks 1 to 4 among the three and itself.
  np.testing.assert_allclose(got, 2 - np.log2([1, 2, 3, 4]))


def test_a_tie_counts_against_the_canary():
  # A model that says the same of every string has no secret.
  assert auditing.exposure(np.zeros(2), np.zeros(7)).tolist() == [0, 0]


def test_a_string_that_was_not_seen_is_exposed_by_chance():
  # The rank is uniform on 1..8, whatever the distribution: the mean of
  # 3 - log2(rank) is 3 - log2(8!) / 8 = 1.088, and its standard deviation,
  # below 3 / 2, leaves 0.017 for the mean of 8,000. Bounds of 5 of these.
  rng = np.random.default_rng(0)
  found = [
      auditing.exposure(draws[:1], draws[1:])[0]
      for draws in rng.standard_cauchy((8000, 8))
  ]
  assert abs(np.mean(found) - (3 - np.log2(40320) / 8)) < 0.085
  # And 2^-b is the chance of b bits: 8,000 times 1/8, with deviation 30.
  assert abs(np.sum(np.array(found) >= 3) - 1000) < 150


@pytest.mark.parametrize(
    "losses, others, match",
    [
        ([[1.0]], [1.0], "losses must be one-dimensional"),
        ([np.nan], [1.0], "losses must be finite"),
        ([1.0], [np.inf], "reference_losses must be finite"),
        ([1.0], [], "reference_losses must be at least one, got 0"),
    ],
)
def test_what_has_no_rank_is_refused(losses, others, match):
  with pytest.raises(ValueError, match=match):
    auditing.exposure(np.array(losses), np.array(others))
