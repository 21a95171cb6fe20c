"""The step's discretisation: the same bins as dp-accounting's own."""

import dp_accounting
import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution as pld

from accounting.numerics import discretise

_TAIL = 1e-22


def _delta(step, interval, epsilon):
  losses = step.losses(interval)
  gained = np.maximum(-np.expm1(np.minimum(epsilon - losses, 0.0)), 0.0)
  return step.infinite + float(step.probs @ gained)


def _same(step, theirs, interval):
  back = step.mirrored(interval)
  for epsilon in (-0.5, -interval / 3, 0.0, 0.7 * interval, 0.1, 1.0, 5.0):
    both = [_delta(one, interval, epsilon) for one in (step, back)]
    # Theirs has rounding errors of 1e-16 over the width in each bin.
    expected = [
        pmf.get_delta_for_epsilon(epsilon)
        for pmf in (theirs._pmf_remove, theirs._pmf_add)
    ]
    assert both == pytest.approx(expected, rel=1e-6, abs=1e-12)


@pytest.mark.few(6)
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
  pair = discretise.sampled_gaussian(
      noise=noise, sampling_prob=prob, replace=replace
  )
  step = discretise.on_grid(pair, interval=interval, tail=_TAIL)
  _same(step, theirs, interval)


def test_mixture_bins_are_dp_accountings():
  arguments = ([0.0, 1.0, 3.0], [0.8, 0.15, 0.05])
  theirs = pld.from_mixture_gaussian_mechanism(
      2.0, *arguments, value_discretization_interval=1e-2
  )
  pair = discretise.mixture(
      noise=2.0, sensitivities=arguments[0], weights=arguments[1]
  )
  step = discretise.on_grid(pair, interval=1e-2, tail=_TAIL)
  _same(step, theirs, 1e-2)


@pytest.mark.parametrize(
    ("noise", "prob", "interval"), [(0.5, 1e-6, 1e-4), (100.0, 1e-8, 1e-11)]
)
def test_both_masses_are_kept_to_the_last_digits(noise, prob, interval):
  # The moments at 0 and -1 are P's and Q's mass, whatever the width. A loss
  # 1e8 times smaller than 1 must keep its digits: the chi-square divergence of
  # the grid exceeds q^2 (exp(1/s^2) - 1) by its blur alone, h^2 / 4 at most.
  pair = discretise.sampled_gaussian(noise=noise, sampling_prob=prob)
  step = discretise.on_grid(pair, interval=interval, tail=_TAIL)
  assert step.probs.sum() == pytest.approx(1.0, abs=1e-14)
  assert step.mirrored(interval).probs.sum() == pytest.approx(1.0, abs=1e-14)
  moved = step.probs @ np.expm1(step.losses(interval))
  exact = prob**2 * np.expm1(noise**-2)
  # Half a bin for each point away from 0, at most.
  away = float(step.probs @ np.minimum(np.abs(step.losses(interval)), interval))
  assert exact * (1 - 1e-9) <= moved <= exact + 2 * interval * away


def test_fewer_points_are_no_more_private():
  pair = discretise.sampled_gaussian(noise=0.6, sampling_prob=1e-3)
  step = discretise.on_grid(pair, interval=1e-4, tail=_TAIL)
  tilts = np.array([0.1, 1.0, 10.0])
  found = step.log_moments(1e-4, tilts)[1]
  for tilt, moment in zip(tilts, found, strict=True):
    exact = np.log(np.sum(np.exp(step.exponents(1e-4, tilt))))
    assert exact <= moment <= exact + 0.05 * abs(exact)
