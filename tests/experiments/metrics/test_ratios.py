"""Ratios of sums, and their errors by document."""

import math

import numpy as np
import pytest

from experiments.metrics import ratios

_RNG = np.random.default_rng(0)
_NLL = _RNG.uniform(1.0, 9.0, 40)
_SIZES = _RNG.integers(1, 9, 40)
_DOCUMENTS = np.sort(_RNG.integers(0, 12, 40))


def test_influences_are_difference_quotients_of_weights():
  found = ratios.exponential(ratios.ratio(_NLL, _SIZES))
  value = math.exp(_NLL.sum() / _SIZES.sum())
  assert found.value == pytest.approx(value, rel=1e-12)
  step = 1e-6  # The quotient is off by some step x value.
  for i in range(0, 40, 7):
    weights = np.ones(40)
    weights[i] += step
    moved = math.exp((weights * _NLL).sum() / (weights * _SIZES).sum())
    assert found.influence[i] == pytest.approx((moved - value) / step, abs=1e-4)


def test_pieces_of_a_document_are_one():
  """As if each document were one long sequence."""
  found = ratios.ratio(_NLL, _SIZES, clusters=_DOCUMENTS)
  sums = [
      np.bincount(_DOCUMENTS, weights=of, minlength=12) for of in (_NLL, _SIZES)
  ]
  whole = ratios.ratio(*sums)
  assert found.value == pytest.approx(whole.value, rel=1e-12)
  assert found.standard_error == pytest.approx(whole.standard_error, rel=1e-9)
  apart = ratios.ratio(_NLL, _SIZES).standard_error
  # Planted: pieces that are taken as independent say another number.
  assert found.standard_error != pytest.approx(apart, rel=1e-2)


def test_nothing_to_divide_by_is_undefined():
  found = ratios.exponential(ratios.ratio(np.ones(2), np.zeros(2)))
  assert math.isnan(found.value) and found.influence.tolist() == [0, 0]
  assert found.why_undefined == "nothing to divide by"
