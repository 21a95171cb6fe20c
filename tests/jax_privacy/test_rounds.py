"""Batches in rounds: who is in which, by what chance, and from where on."""

import numpy as np
import pytest
from scipy import stats

import accounting
from jax_privacy import dp_sgd, samplers, secure_random
from jax_privacy.batch_selection import (
    BallsInBinsSampling,
    RandomAllocationSampling,
    ShuffleSampling,
)

_FALSE_ALARM = 1e-6
_SECURE = secure_random.SecureKey(bytes(range(32)))
_seeds = pytest.mark.parametrize("seed", [0, _SECURE], ids=["numpy", "cipher"])
_STRATEGIES = [
    BallsInBinsSampling(20, 7),
    RandomAllocationSampling(1, 20, 7),
    RandomAllocationSampling(3, 20, 7),
    RandomAllocationSampling(3, 20),
    ShuffleSampling(4, 20),
]


def _membership(strategy, num_examples, seed=0):
  batches = list(strategy.batch_iterator(num_examples, seed))
  member = np.zeros((len(batches), num_examples), int)
  for t, batch in enumerate(batches):
    np.add.at(member[t], batch, 1)
  return member


@_seeds
@pytest.mark.parametrize("strategy", _STRATEGIES, ids=str)
def test_batch_of_a_step_equals_iterating(strategy, seed):
  batches = strategy.bind(30, rng=seed)
  iterated = list(strategy.batch_iterator(30, rng=seed))
  for t in [19, 0, 8, 7, 6, 13, 14]:  # In any order, across rounds.
    np.testing.assert_array_equal(batches.batch(t), iterated[t])
  batches.batch(3)[:] = 0  # What a caller does to a batch stays there.
  np.testing.assert_array_equal(batches.batch(3), iterated[3])
  other = list(strategy.batch_iterator(30, rng=1))
  assert any(
      a.tolist() != b.tolist() for a, b in zip(iterated, other, strict=True)
  )


@_seeds
def test_each_example_is_in_so_many_steps_of_a_round(seed):
  member = _membership(RandomAllocationSampling(3, 21, 7), 40, seed)
  assert (member.reshape(3, 7, 40).sum(axis=1) == 3).all()
  assert member.max() == 1
  once = _membership(RandomAllocationSampling(1, 21, 7), 40, seed)
  assert (once.reshape(3, 7, 40).sum(axis=1) == 1).all()
  # Rounds are drawn afresh; bins are not.
  assert (once[:7] != once[7:14]).any()
  bins = _membership(BallsInBinsSampling(21, 7), 40, seed)
  assert (bins.reshape(3, 7, 40).sum(axis=1) == 1).all()
  np.testing.assert_array_equal(bins[:7], bins[7:14])


@_seeds
@pytest.mark.parametrize("num_selected", [1, 2, 5])
def test_sets_of_steps_are_uniform(seed, num_selected):
  # Of 6 steps and one round: each of the sets is as likely as the others.
  member = _membership(RandomAllocationSampling(num_selected, 6), 20_000, seed)
  codes = 2 ** np.arange(6) @ member
  _, counts = np.unique(codes, return_counts=True)
  assert len(counts) == {1: 6, 2: 15, 5: 6}[num_selected]
  assert stats.chisquare(counts).pvalue > _FALSE_ALARM


@pytest.mark.few(1)
@_seeds
def test_rounds_and_examples_are_independent(seed):
  member = _membership(RandomAllocationSampling(1, 2 * 4000, 2), 2, seed)
  first = member[::2]
  # Of two examples and two steps: the four pairs of choices, and those of a
  # round and the next, are as likely as each other.
  for pairs in (
      2 * first[:, 0] + first[:, 1],
      2 * first[:-1, 0] + first[1:, 0],
  ):
    assert stats.chisquare(np.bincount(pairs)).pvalue > _FALSE_ALARM


@_seeds
def test_a_shuffle_goes_through_the_data(seed):
  member = _membership(ShuffleSampling(4, 14), 30, seed)
  assert (member.sum(axis=1) == 4).all()
  epochs = member.reshape(2, 7, 30).sum(axis=1)  # 28 of 30 in each.
  assert epochs.max() == 1 and (epochs.sum(axis=1) == 28).all()
  first = _membership(ShuffleSampling(2, 4000), 8, seed)[::4]
  assert stats.chisquare(first.sum(axis=0)).pvalue > _FALSE_ALARM


def test_a_drawn_round_that_is_always_the_same_is_caught():
  # The planted bug: every round from one stream.
  strategy = BallsInBinsSampling(2 * 4000, 2)
  member = _membership(strategy, 2)[::2]
  pairs = 2 * member[:-1, 0] + member[1:, 0]
  counts = np.bincount(pairs, minlength=4)
  assert stats.chisquare(counts).pvalue < _FALSE_ALARM


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: BallsInBinsSampling(5, 0), "cycle_length must be"),
        (lambda: BallsInBinsSampling(-1, 2), "iterations must be"),
        (
            lambda: RandomAllocationSampling(4, 5, 3),
            "total_participations must be at most cycle_length = 3, got 4",
        ),
        (
            lambda: RandomAllocationSampling(6, 5),
            "total_participations must be at most iterations = 5, got 6",
        ),
        (
            lambda: RandomAllocationSampling(-1, 5),
            "total_participations must be an integer",
        ),
        (
            lambda: ShuffleSampling(5, 3).bind(4),
            "batch_size must be at most num_examples = 4, got 5",
        ),
        (lambda: ShuffleSampling(0, 3), "batch_size must be"),
    ],
)
def test_refusals(make, text):
  with pytest.raises(ValueError, match=text):
    make()


def _mechanism(sampling, **fields):
  return accounting.Mechanism.for_batch_size(
      expected_batch_size=8,
      num_examples=48,
      noise_multiplier=1.0,
      num_steps=13,
      sampling=sampling,
      **fields,
  )


@pytest.mark.parametrize(
    ("mechanism", "strategy"),
    [
        (_mechanism("random_allocation"), RandomAllocationSampling(1, 13, 6)),
        (
            _mechanism(
                "random_allocation", sampling_options={"num_selected": 2}
            ),
            RandomAllocationSampling(2, 13, 12),
        ),
        (_mechanism("balls_in_bins"), BallsInBinsSampling(13, 6)),
        (
            _mechanism("shuffle", neighboring_relation="replace_one"),
            ShuffleSampling(8, 13),
        ),
    ],
)
def test_the_sampler_of_a_mechanism(mechanism, strategy):
  assert samplers.of(mechanism).strategy(mechanism) == strategy
  sampler = dp_sgd.make_sampler(mechanism, key=3)
  member = np.zeros((13, 48), int)
  for t in range(13):
    indices = sampler.batch(t)
    real = indices.take(np.arange(48))[~np.asarray(indices.is_padding_example)]
    np.add.at(member[t], real, 1)
  assert member.max() == 1
  assert member[:12].sum() == 96
