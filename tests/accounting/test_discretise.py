"""The step's discretisation: the same bins as dp-accounting's own."""

import dp_accounting
import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution as pld

from accounting import _discretise


def _same(ours, theirs, tolerance):
  pairs = (
      (ours._pmf_remove, theirs._pmf_remove),
      (ours._pmf_add, theirs._pmf_add),
  )
  for mine, other in pairs:
    mine, other = mine.to_dense_pmf(), other.to_dense_pmf()
    assert mine._lower_loss == other._lower_loss
    assert len(mine._probs) == len(other._probs)
    # The probabilities are second differences of deltas over the width, so
    # that a rounding error of 1e-16 in delta is one of 1e-16 / width here.
    np.testing.assert_allclose(mine._probs, other._probs, atol=tolerance)
    assert mine._infinity_mass == pytest.approx(other._infinity_mass, abs=1e-20)


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize(
    ("noise", "prob", "interval"),
    [
        (4.0, 0.01, 1e-3),
        (0.5, 0.02, 1e-3),
        (1.0, 1.0, 1e-3),
        (0.05, 0.3, 1e-1),  # Losses beyond 700, where exp overflows.
        (20.0, 1e-4, 1e-5),
        (3.0, 0.999, 1e-3),
    ],
)
def test_gaussian_bins_are_dp_accountings(noise, prob, interval, replace):
  relation = "REPLACE_ONE" if replace else "ADD_OR_REMOVE_ONE"
  theirs = pld.from_gaussian_mechanism(
      noise,
      sampling_prob=prob,
      value_discretization_interval=interval,
      neighboring_relation=dp_accounting.NeighboringRelation[relation],
  )
  ours = _discretise.gaussian(
      noise=noise, sampling_prob=prob, interval=interval, replace=replace
  )
  _same(ours, theirs, tolerance=1e-14 / interval)


def test_mixture_bins_are_dp_accountings():
  arguments = ([0.0, 1.0, 3.0], [0.8, 0.15, 0.05])
  theirs = pld.from_mixture_gaussian_mechanism(
      2.0, *arguments, value_discretization_interval=1e-2
  )
  ours = _discretise.mixture(
      noise=2.0,
      sensitivities=arguments[0],
      weights=arguments[1],
      interval=1e-2,
  )
  # dp-accounting inverts the loss to 1e-6 only; delta moves by its square.
  _same(ours, theirs, tolerance=1e-8)


def test_mixture_of_one_is_the_sampled_gaussian():
  one = _discretise.mixture(
      noise=1.5, sensitivities=[0.0, 1.0], weights=[0.9, 0.1], interval=1e-3
  )
  plain = _discretise.gaussian(noise=1.5, sampling_prob=0.1, interval=1e-3)
  for epsilon in (0.0, 0.1, 1.0):
    assert one.get_delta_for_epsilon(epsilon) == pytest.approx(
        plain.get_delta_for_epsilon(epsilon), rel=1e-6
    )
