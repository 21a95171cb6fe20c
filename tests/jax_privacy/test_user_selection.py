"""Persons by a strategy, and the next rows of each."""

import collections

import numpy as np
import pytest
from scipy import stats

from jax_privacy import batch_selection, secure_random

_SECURE = secure_random.SecureKey(bytes(range(32)))


def _everyone(num_batches):
  return batch_selection.CyclicPoissonSampling(1.0, iterations=num_batches)


@pytest.mark.parametrize("ids", [[5, 9, 5, 5, 9], list("aabab")], ids=str)
def test_rows_are_taken_in_turn(ids):
  strategy = batch_selection.UserSelectionStrategy(_everyone(4), 2)
  owned = {name: np.flatnonzero(np.array(ids) == name) for name in set(ids)}
  taken = collections.defaultdict(list)
  for batch in strategy.batch_iterator(ids, rng=0):
    assert batch.shape == (2, 2) and batch.dtype == np.int8
    for row in batch:
      (name,) = {ids[i] for i in row}
      taken[name] += row.tolist()
  for name, rows in taken.items():
    assert rows == np.resize(owned[name], 8).tolist()


@pytest.mark.parametrize("seed", [0, _SECURE], ids=["numpy", "cipher"])
def test_shuffled_orders_are_uniform_and_persons_keep_their_rows(seed):
  ids = np.repeat(np.arange(3000), 3)
  strategy = batch_selection.UserSelectionStrategy(_everyone(1), 3, True)
  (batch,) = strategy.batch_iterator(ids, seed)
  assert (
      np.sort(batch) == 3 * np.sort(batch // 3, axis=1) + np.arange(3)
  ).all()
  _, counts = np.unique(batch % 3, axis=0, return_counts=True)
  assert len(counts) == 6 and stats.chisquare(counts).pvalue > 1e-6
  (again,) = strategy.batch_iterator(ids, seed)
  np.testing.assert_array_equal(batch, again)


def test_other_persons_do_not_change_what_one_gives():
  # With everyone in each batch, a person's rows are the next of their own.
  strategy = batch_selection.UserSelectionStrategy(_everyone(3), 2)
  alone = [b.tolist() for b in strategy.batch_iterator([0, 0, 0], 0)]
  more = [
      b[(b < 3).all(axis=1)].tolist()
      for b in strategy.batch_iterator([0, 0, 0, 1, 2, 2], 0)
  ]
  assert alone == more


def test_a_strategy_of_jax_privacy_s_form():
  class Given(batch_selection.BatchSelectionStrategy):

    def batch_iterator(self, num_examples, rng=None):
      yield np.arange(num_examples)[::-1]

  strategy = batch_selection.UserSelectionStrategy(Given(), 2)
  (batch,) = strategy.batch_iterator([4, 4, 7], 0)
  assert batch.tolist() == [[2, 2], [0, 1]]
  with pytest.raises(NotImplementedError, match="Given must define bind"):
    Given().bind(3)
  with pytest.raises(TypeError, match="Neither must define bind, or"):
    type("Neither", (batch_selection.BatchSelectionStrategy,), {})


def test_an_empty_batch():
  none = batch_selection.FixedBatchSampling(0, iterations=1)
  strategy = batch_selection.UserSelectionStrategy(none, 2)
  (batch,) = strategy.batch_iterator([1, 2], 0)
  assert batch.shape == (0, 2)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: batch_selection.UserSelectionStrategy(_everyone(1), 0),
            "examples_per_user_per_batch must be",
        ),
        (
            lambda: batch_selection.UserSelectionStrategy(5),
            "base_strategy must be a BatchSelectionStrategy, got 5",
        ),
        (
            lambda: list(
                batch_selection.UserSelectionStrategy(
                    _everyone(1)
                ).batch_iterator([1.0, float("nan")], 0)
            ),
            "ids must be given for every row",
        ),
    ],
)
def test_refusals(make, text):
  with pytest.raises(ValueError, match=text):
    make()
