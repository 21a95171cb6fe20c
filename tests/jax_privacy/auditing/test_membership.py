import json
import math

import numpy as np
import pytest
from scipy import stats

from jax_privacy import auditing, batch_selection


def test_coins_are_fair_and_a_function_of_the_seed():
  first, again, other = (
      auditing.throw_coins(10_000, num_examples=5, seed=s).included
      for s in (1, 1, 2)
  )
  assert (first == again).all()
  for coins in (first, other):
    assert stats.binomtest(int(coins.sum()), 10_000).pvalue > 1e-6
  # Agreement of independent coins is Binomial(10,000, 1/2) too.
  agreement = int((first == other).sum())
  assert stats.binomtest(agreement, 10_000).pvalue > 1e-6


def test_coins_are_not_those_of_a_generator_with_that_seed():
  ours = auditing.throw_coins(1000, num_examples=5, seed=3).included
  plain = np.random.default_rng(3).integers(2, size=1000).astype(bool)
  assert stats.binomtest(int((ours == plain).sum()), 1000).pvalue > 1e-6


def _membership():
  return auditing.Membership(np.array([True, False, True, False]), 10)


def test_gradient_canaries_leave_the_batch():
  membership = _membership()
  assert (membership.num_canaries, membership.total_examples) == (4, 14)
  indices = np.array([3, 13, 10, 11, 9, -1], np.int8)
  examples, selected = membership.split_batch(indices)
  np.testing.assert_array_equal(examples, [3, -1, -1, -1, 9, -1])
  assert examples.dtype == np.int8
  # 10 is in; 11 and 13 are out; 12 is in and was not drawn.
  np.testing.assert_array_equal(selected, [True, False, False, False])


def test_excluded_input_canaries_become_padding():
  indices = np.array([3, 13, 10, 11, 12, -1])
  kept = _membership().drop_excluded(indices)
  np.testing.assert_array_equal(kept, [3, -1, 10, -1, 12, -1])


def test_an_empty_batch():
  examples, selected = _membership().split_batch(np.zeros(0, np.int32))
  assert examples.shape == (0,) and not selected.any()
  assert _membership().drop_excluded(np.zeros(0, np.int32)).shape == (0,)


def test_canaries_are_drawn_as_often_as_examples():
  # Through the real sampler. Each canary that is in takes part in Binomial(400,
  # q) of 400 steps, together Binomial(400 num_in, q); one that is out, never.
  membership = auditing.throw_coins(50, num_examples=100, seed=0)
  sampler = batch_selection.CyclicPoissonSampling(0.2, 400)
  counts = np.zeros(50, int)
  num_real = 0
  for indices in sampler.bind(membership.total_examples, 1):
    examples, selected = membership.split_batch(indices)
    counts += selected
    num_real += int((examples >= 0).sum())
  num_in = int(membership.included.sum())
  assert not counts[~membership.included].any()
  found = int(counts.sum())
  assert stats.binomtest(found, 400 * num_in, 0.2).pvalue > 1e-6
  assert stats.binomtest(num_real, 400 * 100, 0.2).pvalue > 1e-6


def test_scores_are_split_by_coin():
  ins, outs = _membership().split_scores([1.0, 2.0, 3.0, 4.0])
  assert ins.tolist() == [1.0, 3.0] and outs.tolist() == [2.0, 4.0]
  with pytest.raises(ValueError, match=r"scores must be of shape \(4,\)"):
    _membership().split_scores([1.0, 2.0])


def test_the_record_survives_json():
  record = json.loads(json.dumps(_membership().to_dict()))
  again = auditing.Membership.from_dict(record)
  np.testing.assert_array_equal(again.included, _membership().included)
  assert again.num_examples == 10


@pytest.mark.parametrize(
    "record, error",
    [
        ({"included": [1, 0]}, "record must be one with"),
        ({"num_examples": 1, "included": [1, 2]}, "included must be a list"),
        ({"num_examples": 1, "included": [True]}, "included must be a list"),
        ({"num_examples": 1, "included": "10"}, "included must be a list"),
        ({"num_examples": 1, "included": []}, "included must be a one-dim"),
        ({"num_examples": 1.5, "included": [1]}, "num_examples must be an int"),
    ],
)
def test_a_bad_record_is_refused(record, error):
  with pytest.raises(ValueError, match=error):
    auditing.Membership.from_dict(record)


def test_the_record_cannot_be_changed():
  mine = np.array([True, False])
  membership = auditing.Membership(mine, 0)
  mine[1] = True
  assert not membership.included[1]
  with pytest.raises(ValueError, match="read-only"):
    membership.included[1] = True


@pytest.mark.parametrize(
    "indices, error",
    [
        (np.array([14]), r"indices must be in \[-1, 14\), got 14"),
        (np.array([-2]), r"indices must be in \[-1, 14\), got -2"),
        (np.array([1.0]), "one-dimensional signed integers, got 'float64"),
        (np.array([[1]]), "one-dimensional signed integers"),
        (np.array([1], np.uint8), "signed integers"),
    ],
)
def test_indices_are_checked(indices, error):
  for method in (_membership().split_batch, _membership().drop_excluded):
    with pytest.raises(ValueError, match=error):
      method(indices)


def test_a_canary_counts_once():
  with pytest.raises(ValueError, match="without a canary drawn twice"):
    _membership().split_batch(np.array([10, 3, 10]))


@pytest.mark.parametrize(
    "change, error",
    [
        (dict(num_canaries=0), "num_canaries must be an integer of at least 1"),
        (dict(num_examples=-1), "num_examples must be an integer"),
        (dict(seed=None), "seed must be an integer of at least 0"),
        (dict(seed=math.nan), "seed must be an integer of at least 0"),
    ],
)
def test_arguments_are_checked(change, error):
  kwargs = dict(num_canaries=3, num_examples=5, seed=0) | change
  with pytest.raises(ValueError, match=error):
    auditing.throw_coins(kwargs.pop("num_canaries"), **kwargs)


def test_all_copies_of_a_canary_are_in_or_out():
  membership = auditing.Membership(np.array([True, False, True]), 10)
  copies = membership.of_copies(2)
  assert copies.total_examples == 16
  kept = copies.drop_excluded(np.arange(9, 16))
  assert kept.tolist() == [9, 10, 11, -1, -1, 14, 15]
  np.testing.assert_array_equal(
      membership.of_copies(1).included, membership.included
  )
  with pytest.raises(ValueError, match="num_copies must be an integer"):
    membership.of_copies(0)
