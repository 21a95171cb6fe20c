"""b-min-sep sampling: who rests, and who takes part by what chance."""

import numpy as np
import pytest
from scipy import stats

from jax_privacy import batch_selection, min_sep_sampling, secure_random

_FALSE_ALARM = 1e-6
_SECURE = secure_random.SecureKey(bytes(range(32)))
_seeds = pytest.mark.parametrize("seed", [0, _SECURE], ids=["numpy", "cipher"])
_Sampling = batch_selection.BMinSepSampling


def _membership(strategy, num_examples, seed=0):
  member = np.zeros((strategy.iterations, num_examples), int)
  for t, batch in enumerate(strategy.batch_iterator(num_examples, seed)):
    np.add.at(member[t], batch, 1)
  return member


@_seeds
def test_batch_of_a_step_equals_iterating(seed):
  strategy = _Sampling(0.3, iterations=20, min_sep=3, truncated_batch_size=9)
  batches = strategy.bind(30, rng=seed)
  iterated = list(strategy.batch_iterator(30, rng=seed))
  for t in [19, 0, 7, 8, 3]:
    np.testing.assert_array_equal(batches.batch(t), iterated[t])
  batches.batch(3)[:] = 0  # What a caller does to a batch stays there.
  np.testing.assert_array_equal(batches.batch(4), iterated[4])
  assert max(map(len, iterated)) <= 9


@_seeds
@pytest.mark.parametrize("warm_start", [True, False])
def test_gaps_are_geometric_after_a_rest(seed, warm_start):
  p, rest = 0.4, 3
  strategy = _Sampling(p, 200, min_sep=rest, warm_start=warm_start)
  member = _membership(strategy, 60, seed)
  assert member.max() == 1
  gaps = np.concatenate([np.diff(np.flatnonzero(m)) for m in member.T]) - rest
  assert gaps.min() == 0
  # Those of 6 and more together; gaps cut by the end are a hundredth of all.
  counts = np.bincount(np.minimum(gaps, 6), minlength=7)
  probs = stats.geom.pmf(np.arange(1, 7), p)
  expected = len(gaps) * np.append(probs, 1 - probs.sum())
  assert stats.chisquare(counts, expected).pvalue > _FALSE_ALARM


@_seeds
def test_a_warm_start_is_as_the_middle_of_a_run(seed):
  # The chance of each step is p / (1 + (b - 1) p), from the first on: 0.25.
  member = _membership(_Sampling(0.5, 6, min_sep=3), 20_000, seed)
  for size in member.sum(axis=1):
    pvalue = stats.binomtest(int(size), 20_000, 0.25).pvalue
    assert pvalue > _FALSE_ALARM
  cold = _membership(_Sampling(0.5, 6, 3, warm_start=False), 20_000, seed)
  assert stats.binomtest(int(cold[0].sum()), 20_000, 0.5).pvalue > _FALSE_ALARM


def test_everyone_once_a_cycle_at_probability_1():
  member = _membership(_Sampling(1.0, 8, min_sep=4), 50)
  np.testing.assert_array_equal(member[:4], member[4:])
  assert (member[:4].sum(axis=0) == 1).all()


def test_those_cut_off_rest_too():
  # All 10 are drawn at step 0 and 4 are kept: nobody is free at step 1.
  strategy = _Sampling(1.0, 3, 2, warm_start=False, truncated_batch_size=4)
  assert [len(b) for b in strategy.batch_iterator(10, 0)] == [4, 0, 4]


def test_a_sampler_without_rest_is_caught(monkeypatch):
  # The planted bug: who takes part is free at the next step.
  monkeypatch.setattr(np, "isin", lambda drawn, _: np.zeros(len(drawn), bool))
  member = _membership(_Sampling(0.4, 50, min_sep=3), 20)
  gaps = np.concatenate([np.diff(np.flatnonzero(m)) for m in member.T])
  assert gaps.min() < 3


def test_a_replay_draws_each_item_once_in_order():
  drawn = []

  def next_fn(state, i):
    drawn.append(i)
    return state + i, state

  replay = min_sep_sampling.Replay(lambda: 0, next_fn)
  assert [replay.item(i) for i in (0, 1, 3, 3)] == [0, 0, 3, 3]
  assert drawn == [0, 1, 2, 3]
  assert replay.item(2) == 1 and drawn[4:] == [0, 1, 2]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"min_sep": 0}, "min_sep must be an integer of at least 1"),
        ({"sampling_prob": 0.0}, "sampling_prob must be"),
        ({"truncated_batch_size": 0}, "truncated_batch_size must be"),
        ({"iterations": -1}, "iterations must be"),
    ],
)
def test_refusals(fields, text):
  good = {"sampling_prob": 0.5, "iterations": 3, "min_sep": 2}
  with pytest.raises(ValueError, match=text):
    _Sampling(**(good | fields))
