"""Samplers: inclusion rates, independence, random access, padding."""

import numpy as np
import pytest
from scipy import stats

from jax_privacy import batch_selection, secure_random
from jax_privacy.batch_selection import (
    CyclicPoissonSampling,
    FixedBatchSampling,
    PartitionType,
)

_FALSE_ALARM = 1e-6
# NumPy's generator and the cipher's: the same laws.
_SECURE = secure_random.SecureKey(bytes(range(32)))
_seeds = pytest.mark.parametrize("seed", [0, _SECURE], ids=["numpy", "cipher"])


def _num_steps(seed):
  """Fewer of the cipher's: it takes longer, for laws that have own tests."""
  return 1200 if seed is _SECURE else 4000


_STRATEGIES = [
    CyclicPoissonSampling(0.3, 20),
    CyclicPoissonSampling(0.3, 20, truncated_batch_size=8),
    CyclicPoissonSampling(0.5, 20, cycle_length=3),
    CyclicPoissonSampling(
        0.5, 20, cycle_length=3, partition_type=PartitionType.INDEPENDENT
    ),
    FixedBatchSampling(7, 20),
    FixedBatchSampling(7, 20, replace=True),
]


def _membership(strategy, num_examples, seed=0):
  """bool [num_steps, num_examples]: who is in which batch."""
  batches = list(strategy.batch_iterator(num_examples, seed))
  member = np.zeros((len(batches), num_examples), bool)
  for t, batch in enumerate(batches):
    member[t, batch] = True
  return member


def _fits_binomial(count, num_trials, prob):
  return stats.binomtest(int(count), num_trials, prob).pvalue > _FALSE_ALARM


@_seeds
@pytest.mark.parametrize("strategy", _STRATEGIES, ids=str)
def test_batch_of_a_step_equals_iterating(strategy, seed):
  batches = strategy.bind(30, rng=seed)
  iterated = list(strategy.batch_iterator(30, rng=seed))
  assert len(iterated) == len(batches) == 20
  for t in reversed(range(20)):  # In any order: nothing is replayed.
    np.testing.assert_array_equal(batches.batch(t), iterated[t])
    assert np.issubdtype(batches.batch(t).dtype, np.signedinteger)
    assert batches.batch(t).min(initial=0) >= 0
    assert batches.batch(t).max(initial=0) < 30


@pytest.mark.parametrize("strategy", _STRATEGIES, ids=str)
def test_seeds(strategy):
  def draw(rng):
    return np.concatenate(list(strategy.batch_iterator(1000, rng))).tolist()

  assert draw(1) == draw(1)
  assert draw(1) != draw(2)
  assert draw(None) != draw(None)
  assert draw(np.random.default_rng(3)) == draw(np.random.default_rng(3))
  generator = np.random.default_rng(3)
  assert draw(generator) != draw(generator)


@pytest.mark.parametrize("step", [-1, 20, 10**6])
def test_there_is_no_step_beyond_the_last(step):
  for strategy in _STRATEGIES:
    with pytest.raises(IndexError, match=f"in \\[0, 20\\), got {step}"):
      strategy.bind(30, 0).batch(step)


@pytest.mark.few(1)
@_seeds
def test_poisson_inclusion_rate_and_independence(seed):
  num_steps = _num_steps(seed)
  member = _membership(CyclicPoissonSampling(0.3, num_steps), 12, seed)
  assert _fits_binomial(member.sum(), member.size, 0.3)
  for i in range(12):  # Every example alike,
    assert _fits_binomial(member[:, i].sum(), num_steps, 0.3)
  for i in range(12):  # every pair independent,
    for j in range(i):
      both = (member[:, i] & member[:, j]).sum()
      assert _fits_binomial(both, num_steps, 0.09)
  # and every step of the one before.
  again = (member[1:] & member[:-1]).sum()
  assert _fits_binomial(again, member[1:].size, 0.09)
  # Sizes have the binomial's variance, which shuffled or fixed batches lack.
  sizes = member.sum(axis=1)
  chi2 = stats.chi2(num_steps - 1)
  statistic = (num_steps - 1) * sizes.var(ddof=1) / (12 * 0.3 * 0.7)
  assert chi2.ppf(1e-6) < statistic < chi2.isf(1e-6)


def test_the_rate_check_rejects_shuffled_epochs():
  # Planted: an epoch's shuffle gives each example once in every 4 batches.
  rng = np.random.default_rng(0)
  member = np.zeros((4000, 12), bool)
  for epoch in range(1000):
    for t, part in enumerate(np.split(rng.permutation(12), 4)):
      member[4 * epoch + t, part] = True
  assert _fits_binomial(member.sum(), member.size, 0.25)  # The rate is right,
  again = (member[1:] & member[:-1]).sum()
  assert not _fits_binomial(again, member[1:].size, 0.0625)  # no more.


@pytest.mark.few(1)
@_seeds
def test_truncation_keeps_a_uniform_subset(seed):
  num_steps = _num_steps(seed)
  strategy = CyclicPoissonSampling(0.5, num_steps, truncated_batch_size=4)
  member = _membership(strategy, 12, seed)
  sizes = member.sum(axis=1)
  assert sizes.max() == 4
  # A batch is short with the probability that a binomial is.
  short = stats.binom(12, 0.5).cdf(3)
  assert _fits_binomial((sizes < 4).sum(), num_steps, short)
  mean = np.minimum(np.arange(13), 4) @ stats.binom(12, 0.5).pmf(range(13))
  for i in range(12):
    assert _fits_binomial(member[:, i].sum(), num_steps, mean / 12)


@pytest.mark.few(2)
@_seeds
@pytest.mark.parametrize("partition_type", list(PartitionType))
def test_cycles(partition_type, seed):
  num_cycles = _num_steps(seed) // 3
  strategy = CyclicPoissonSampling(
      0.5, 3 * num_cycles, cycle_length=3, partition_type=partition_type
  )
  member = _membership(strategy, 20, seed)
  by_group = np.stack([member[g::3].any(axis=0) for g in range(3)])
  if partition_type is PartitionType.EQUAL_SPLIT:
    # 20 = 3 x 6 + 2: two examples are never sampled.
    assert by_group.sum(axis=1).tolist() == [6, 6, 6]
    assert by_group.sum(axis=0).max() == 1
  else:
    assert by_group.sum(axis=0).tolist() == [1] * 20
  assert _fits_binomial(member.sum(), num_cycles * int(by_group.sum()), 0.5)


@pytest.mark.parametrize("secure", [False, True])
def test_independent_groups_have_independent_sizes(secure):
  # One example more must not change where the others go; a fixed split's sizes
  # are constant, independent ones are binomial: variance n/3 x 2/3.
  sizes = []
  for seed in range(400):
    strategy = CyclicPoissonSampling(
        1.0, 3, cycle_length=3, partition_type=PartitionType.INDEPENDENT
    )
    if secure:
      seed = secure_random.SecureKey(seed.to_bytes(32))
    sizes.append(len(strategy.bind(90, seed).batch(0)))
  statistic = 399 * np.var(sizes, ddof=1) / (90 * 2 / 9)
  assert stats.chi2(399).ppf(1e-6) < statistic < stats.chi2(399).isf(1e-6)


@pytest.mark.few(1)
@_seeds
def test_fixed_batches(seed):
  num_steps = _num_steps(seed)
  member = _membership(FixedBatchSampling(3, num_steps), 12, seed)
  assert (member.sum(axis=1) == 3).all()
  for i in range(12):
    assert _fits_binomial(member[:, i].sum(), num_steps, 0.25)
  with_replacement = list(
      FixedBatchSampling(3, num_steps, replace=True).batch_iterator(12, seed)
  )
  repeats = sum(len(set(b.tolist())) < 3 for b in with_replacement)
  assert _fits_binomial(repeats, num_steps, 1 - (11 / 12) * (10 / 12))


@_seeds
def test_work_is_of_the_order_of_the_batch(seed):
  # A pass over 10^15 examples would neither fit in memory nor end.
  n = 10**15
  poisson = CyclicPoissonSampling(50 / n, 10**9).bind(n, seed)
  sizes = [len(poisson.batch(t)) for t in (0, 10**6, 10**9 - 1)]
  assert all(10 < size < 100 for size in sizes)
  assert len(FixedBatchSampling(9, 5).bind(n, seed).batch(4)) == 9


@_seeds
def test_extremes(seed):
  everyone = CyclicPoissonSampling(1.0, 2).bind(5, seed).batch(1)
  assert sorted(everyone.tolist()) == [0, 1, 2, 3, 4]
  assert len(CyclicPoissonSampling(1e-9, 2).bind(5, seed).batch(0)) == 0
  assert len(CyclicPoissonSampling(0.5, 2).bind(0, seed).batch(0)) == 0
  assert len(list(CyclicPoissonSampling(0.5, 0).batch_iterator(5, seed))) == 0


@pytest.mark.parametrize(
    "name, options",
    [("sampling_prob", {"sampling_prob": p}) for p in (0, -1, 1.5, np.nan)]
    + [("iterations", {"iterations": n}) for n in (-1, 2.5, True)]
    + [("truncated_batch_size", {"truncated_batch_size": n}) for n in (0, -2)]
    + [("cycle_length", {"cycle_length": 0})]
    + [("partition_type", {"partition_type": "equal"})],
)
def test_bad_poisson_arguments_are_named(name, options):
  arguments = {"sampling_prob": 0.5, "iterations": 3} | options
  with pytest.raises(ValueError, match=f"^{name} must be .*got"):
    CyclicPoissonSampling(**arguments)


def test_bad_fixed_arguments_are_named():
  with pytest.raises(ValueError, match="batch_size must be .* got -1"):
    FixedBatchSampling(-1, 3)
  with pytest.raises(
      ValueError, match="batch_size must be at most.*12.*got 13"
  ):
    FixedBatchSampling(13, 3).bind(12, 0)
  with pytest.raises(ValueError, match="rng must be an integer"):
    FixedBatchSampling(3, 3).bind(12, -1)


@pytest.mark.parametrize("size", range(9))
def test_pad_to_multiple_of(size):
  indices = np.arange(size, dtype=np.int16)
  padded = batch_selection.pad_to_multiple_of(indices, 4)
  assert len(padded) == -(-size // 4) * 4
  assert padded.dtype == np.int16
  np.testing.assert_array_equal(padded[:size], indices)
  assert (padded[size:] == -1).all()


def test_bad_padding_is_named():
  with pytest.raises(ValueError, match="multiple must be an integer"):
    batch_selection.pad_to_multiple_of(np.arange(3), 0)
  for indices in (
      np.zeros((2, 2), int),
      np.arange(3, dtype=np.uint8),
      np.ones(2),
  ):
    with pytest.raises(ValueError, match="indices must be one-dimensional"):
      batch_selection.pad_to_multiple_of(indices, 4)
  with pytest.raises(ValueError, match="size must be at least"):
    batch_selection.pad_to_size(np.arange(3), 2)


@pytest.mark.slow
def test_padded_batches_have_few_sizes():
  sizes = batch_selection.poisson_sizes(
      num_examples=2000, sampling_prob=0.1, multiple=8
  )
  # 200 + k sqrt(180), k = 1, 3, 6, rounded up to eights.
  assert sizes == (216, 248, 288)
  batches = CyclicPoissonSampling(0.1, 3000).bind(2000, 0)
  padded = batch_selection.PaddedBatches(batches, sizes)
  seen = {}
  for t, batch in enumerate(padded):
    real, indices = batches.batch(t), batch.indices
    np.testing.assert_array_equal(indices[: len(real)], real)
    assert (indices[len(real) :] == -1).all()
    seen[len(indices)] = seen.get(len(indices), 0) + 1
  assert set(seen) <= set(sizes) and seen[216] > 2400
  assert len(padded) == 3000


def test_a_batch_beyond_all_sizes_is_not_cut():
  batches = CyclicPoissonSampling(1.0, 1).bind(23, 0)
  padded = batch_selection.PaddedBatches(batches, (4, 8)).batch(0)
  padded = padded.indices
  assert len(padded) == 24 and (padded >= 0).sum() == 23


def test_sizes_never_exceed_the_data_set():
  assert batch_selection.poisson_sizes(num_examples=9, sampling_prob=1.0) == (
      9,
  )
  assert (
      max(batch_selection.poisson_sizes(num_examples=10, sampling_prob=0.5))
      == 10
  )
  with pytest.raises(ValueError, match="sizes must be ascending"):
    batch_selection.PaddedBatches(CyclicPoissonSampling(0.5, 1).bind(9), (4, 2))


def test_a_split_batch_is_the_batch_and_padding_last():
  split = batch_selection.split_and_pad_global_batch
  first, second = split(np.arange(6), 4, microbatch_size=2)
  assert first.tolist() == [0, 1, 2, 3] and second.tolist() == [4, 5, -1, -1]
  (users,) = split(np.array([[3, 3], [1, 2]]), 3)
  assert users.tolist() == [[3, 3], [1, 2], [-1, -1]]
  (nothing,) = split(np.zeros(0, np.int16), 2)  # An empty batch is a step.
  assert nothing.tolist() == [-1, -1] and nothing.dtype == np.int16
  with pytest.raises(ValueError, match="microbatch_size must be a divisor"):
    split(np.arange(6), 4, 3)
  with pytest.raises(ValueError, match="indices must be signed integers"):
    split(np.arange(6, dtype=np.uint8), 4)
