"""Metrics of probabilities, against scikit-learn and slow oracles.

Influences are compared with what they are by definition: the derivative of the
weighted number by each example's weight.
"""

import numpy as np
import pytest
from sklearn import metrics

from experiments.metrics import probabilities as lib

_RNG = np.random.default_rng(0)


def _case(num_classes, num_examples=60):
  logits = _RNG.normal(size=(num_examples, num_classes)) * 2
  labels = _RNG.integers(0, num_classes, num_examples)
  return labels, lib.softmax(logits)


def _ece(labels, probabilities, weights, num_bins):
  """The definition, bin by bin, of weighted examples."""
  total, low = 0.0, 0.0
  for i in range(num_bins):
    high = (i + 1) / num_bins
    gap = 0.0
    for label, of_example, weight in zip(
        labels, probabilities, weights, strict=True
    ):
      if low < max(of_example) <= high:
        right = np.argmax(of_example) == label
        gap += weight * (float(right) - max(of_example))
    total += abs(gap)
    low = high
  return total / sum(weights)


def _weighted(name, labels, probabilities, weights):
  if name == "log_loss":
    classes = range(probabilities.shape[1])
    return metrics.log_loss(
        labels, probabilities, sample_weight=weights, labels=classes
    )
  if name == "calibration_error":
    return _ece(labels, probabilities, weights, lib.NUM_BINS)
  wanted = np.eye(probabilities.shape[1])[labels]
  errors = ((probabilities - wanted) ** 2).sum(1)
  errors /= 2 if probabilities.shape[1] == 2 else 1
  return np.average(errors, weights=weights)


_NAMES = ("log_loss", "brier", "calibration_error")


@pytest.mark.parametrize("name", _NAMES)
@pytest.mark.parametrize("num_classes", [2, 4])
def test_values_and_influences_are_those_of_a_slow_oracle(name, num_classes):
  labels, probabilities = _case(num_classes)
  found = getattr(lib, name)(labels, probabilities)
  weights = np.ones(60)
  value = _weighted(name, labels, probabilities, weights)
  np.testing.assert_allclose(found.value, value, rtol=1e-12)
  assert found.num_examples == 60
  step = 1e-5  # The difference quotient is off by some step x value.
  for i in range(0, 60, 7):
    weights[i] += step
    moved = _weighted(name, labels, probabilities, weights)
    weights[i] -= step
    np.testing.assert_allclose(
        found.influence[i], (moved - value) / step, atol=1e-6
    )


def test_brier_of_two_classes_is_scikit_learns():
  labels, probabilities = _case(2)
  np.testing.assert_allclose(
      lib.brier(labels, probabilities).value,
      metrics.brier_score_loss(labels, probabilities[:, 1]),
      rtol=1e-12,
  )


def test_standard_errors_are_the_spread_over_samples():
  """Of 2000 samples a deviation is off by 1 / sqrt(2 x 2000), 1.6%: five."""
  rng = np.random.default_rng(1)
  truth = np.array([[0.8, 0.2], [0.3, 0.7]])
  values, errors = [], []
  for _ in range(2000):
    kinds = rng.integers(0, 2, 100)
    labels = (rng.random(100) < truth[kinds, 1]).astype(int)
    found = lib.log_loss(labels, truth[kinds])
    values.append(found.value)
    errors.append(found.standard_error)
  np.testing.assert_allclose(np.mean(errors), np.std(values), rtol=0.08)


def test_a_perfectly_calibrated_bin_has_no_error_and_a_bad_one_its_gap():
  probabilities = np.array([[0.3, 0.7]] * 10)
  labels = np.array([1] * 7 + [0] * 3)
  found = lib.calibration_error(labels, probabilities)
  np.testing.assert_allclose(found.value, 0.0, atol=1e-15)
  found = lib.calibration_error(1 - labels, probabilities)
  np.testing.assert_allclose(found.value, 0.4, rtol=1e-12)


def test_bins_are_closed_above_as_stated():
  probabilities = np.array([[0.5, 0.5], [0.49, 0.51]])
  labels = np.array([0, 0])
  # One bin a half: 0.5 is right, in the lower; 0.51 is wrong, in the upper.
  found = lib.calibration_error(labels, probabilities, num_bins=2)
  np.testing.assert_allclose(found.value, (0.5 + 0.51) / 2, rtol=1e-12)


@pytest.mark.parametrize("name", _NAMES)
def test_what_is_not_defined_says_why(name):
  nothing = getattr(lib, name)(np.zeros(0, int), np.zeros((0, 2)))
  assert nothing.why_undefined == "no example" and np.isnan(nothing.value)
  unknown = getattr(lib, name)(np.array([0]), np.array([[np.nan, 0.5]]))
  assert "NaN" in unknown.why_undefined and unknown.influence.tolist() == [0]


def test_certain_and_wrong_is_finite():
  found = lib.log_loss(np.array([0]), np.array([[0.0, 1.0]]))
  assert 36 < found.value < 37


@pytest.mark.parametrize("largest", [0.0, 1e3, 3e38, np.inf])
def test_softmax_of_any_logits(largest):
  logits = np.array([[largest, -1.0], [0.0, -largest]], np.float32)
  found = lib.softmax(logits)
  np.testing.assert_allclose(found.sum(axis=1), 1.0)
  np.testing.assert_allclose(
      lib.softmax(np.array([[0.7]])), lib.softmax(np.array([[0.0, 0.7]]))
  )
