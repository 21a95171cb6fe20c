"""Metrics of numbers, against scikit-learn, weighted ones too."""

import numpy as np
import pytest
from sklearn import metrics

from experiments.metrics import regression as lib

_RNG = np.random.default_rng(0)
_TARGETS = _RNG.normal(3.0, 2.0, 50)
_PREDICTIONS = _TARGETS + _RNG.normal(0.5, 1.0, 50)
_ORACLES = {
    "r2": metrics.r2_score,
    "rmse": metrics.root_mean_squared_error,
    "mae": metrics.mean_absolute_error,
}


@pytest.mark.parametrize("name", _ORACLES)
def test_values_and_influences_are_those_of_scikit_learn(name):
  found = getattr(lib, name)(_TARGETS, _PREDICTIONS)
  weights = np.ones(50)
  value = _ORACLES[name](_TARGETS, _PREDICTIONS, sample_weight=weights)
  np.testing.assert_allclose(found.value, value, rtol=1e-12)
  step = 1e-5  # The difference quotient is off by some step x value.
  for i in range(0, 50, 7):
    weights[i] += step
    moved = _ORACLES[name](_TARGETS, _PREDICTIONS, sample_weight=weights)
    weights[i] -= step
    np.testing.assert_allclose(
        found.influence[i], (moved - value) / step, atol=1e-5
    )
  assert not found.is_share


@pytest.mark.parametrize("name", _ORACLES)
def test_what_is_not_defined_says_why(name):
  metric = getattr(lib, name)
  assert metric(np.zeros(0), np.zeros(0)).why_undefined == "no example"
  found = metric(np.ones(2), np.array([1.0, np.inf]))
  assert found.why_undefined == "predictions that are not finite"
  assert np.isnan(found.value) and found.influence.tolist() == [0, 0]


def test_r2_of_equal_targets_is_undefined():
  found = lib.r2(np.ones(3), np.arange(3.0))
  assert found.why_undefined == "all targets are equal"


def test_a_perfect_prediction_has_no_error():
  for name, value in (("r2", 1.0), ("rmse", 0.0), ("mae", 0.0)):
    found = getattr(lib, name)(_TARGETS, _TARGETS)
    assert (found.value, found.standard_error) == (value, 0.0)
