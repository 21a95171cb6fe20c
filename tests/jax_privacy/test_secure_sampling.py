"""The cipher's generator, against the laws its draws are documented with."""

import itertools

import numpy as np
import pytest
from scipy import stats

from jax_privacy import batch_selection, secure_random
from jax_privacy.secure_sampling import CipherGenerator

_KEY = secure_random.SecureKey(bytes(range(32)))
_FALSE_ALARM = 1e-6


def _generator(stream=0):
  return CipherGenerator(_KEY, stream)


def _fits(counts, probabilities):
  """Chi-square; cells in which fewer than five are expected are put together.

  Five in each cell is what makes the p-value hold.
  """
  counts = np.asarray(counts, float)
  expected = np.asarray(probabilities, float) * counts.sum()
  rare = expected < 5
  if rare.any():
    counts = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    keep = expected > 1e-9
    assert not counts[~keep].any()
    counts, expected = counts[keep], expected[keep]
  expected *= counts.sum() / expected.sum()
  return stats.chisquare(counts, expected).pvalue > _FALSE_ALARM


def _pairs(edges):
  return list(itertools.pairwise(edges))


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "n, p",
    [(1, 0.3), (7, 0.5), (20, 0.05), (40, 0.9), (300, 0.01), (10**12, 5e-12)],
)
def test_binomial(n, p):
  generator = _generator()
  draws = np.array([generator.binomial(n, p) for _ in range(5000)])
  law = stats.binom(n, p)
  cells = np.arange(min(n, 60) + 1)
  probabilities = law.pmf(cells)
  probabilities[-1] = law.sf(cells[-1] - 1)
  counts = np.bincount(np.minimum(draws, cells[-1]), minlength=len(cells))
  assert _fits(counts, probabilities)
  # A wrong law is caught: the gap's success not counted as a trial.
  wrong = stats.binom(n, min(p * 1.15, 0.999)).pmf(cells)
  assert n < 7 or not _fits(counts, wrong / wrong.sum())


def test_binomial_extremes():
  generator = _generator()
  assert generator.binomial(0, 0.5) == 0
  assert generator.binomial(9, 1.0) == 9
  assert generator.binomial(9, 0.0) == 0
  assert generator.binomial(2**53, 1e-300) == 0
  with pytest.raises(ValueError, match="n must be at most 2\\^53"):
    generator.binomial(2**53 + 1, 0.5)


def test_exponentials():
  draws = _generator()._exponentials(200_000)
  assert stats.kstest(draws, "expon").pvalue > _FALSE_ALARM
  # Fine near 0: P(E < 1e-4) is 1e-4, so 20 on average, and all distinct.
  small = draws[draws < 1e-4]
  law = stats.poisson(20)
  assert law.ppf(_FALSE_ALARM) <= len(small) <= law.isf(_FALSE_ALARM)
  assert len(np.unique(draws)) == len(draws)


@pytest.mark.parametrize("high", [1, 2, 3, 10, 1000, 2**62 + 1])
def test_integers_are_uniform(high):
  drawn = _generator().integers(high, size=20_000)
  assert drawn.dtype == np.int64
  assert 0 <= drawn.min() and drawn.max() < high
  edges = [high * i // 10 for i in range(11)]
  counts = [((a <= drawn) & (drawn < b)).sum() for a, b in _pairs(edges)]
  shares = [(b - a) / high for a, b in _pairs(edges)]
  assert high == 1 or _fits(counts, shares)


def test_remainders_would_be_biased_and_that_is_seen():
  # high = 3 x 2^61: of 2^64 words, remainders below 2^62 come from three runs,
  # all others from two.
  high = 3 * 2**61
  cells = lambda x: np.bincount((x // 2**61).astype(int), minlength=3)
  words = _generator().words(20_000)
  assert not _fits(cells(words % np.uint64(high)), [1 / 3] * 3)
  assert _fits(cells(_generator().integers(high, size=20_000)), [1 / 3] * 3)


@pytest.mark.few(2)
@pytest.mark.parametrize("n, size", [(6, 3), (7, 2), (5, 4), (4, 0), (3, 3)])
def test_subsets_are_uniform(n, size):
  generator = _generator()
  subsets = list(itertools.combinations(range(n), size))
  position = {subset: i for i, subset in enumerate(subsets)}
  counts = np.zeros(len(subsets))
  for _ in range(4000):
    chosen = generator.choice(n, size=size)
    counts[position[tuple(sorted(chosen.tolist()))]] += 1
  assert len(subsets) == 1 or _fits(counts, [1 / len(subsets)] * len(subsets))


def test_orders_are_uniform():
  generator = _generator()
  orders = list(itertools.permutations(range(4)))
  position = {order: i for i, order in enumerate(orders)}
  counts = np.zeros(24)
  for _ in range(6000):
    counts[position[tuple(generator.permutation(4).tolist())]] += 1
  assert _fits(counts, [1 / 24] * 24)


def test_equal_words_do_not_decide_an_order(monkeypatch):
  # Ties would be broken by position, and the first element come first too
  # often; words of two bits make ties the rule.
  generator = _generator()
  real = generator.words
  monkeypatch.setattr(generator, "words", lambda n: real(n) % np.uint64(4))
  first = [generator.permutation(3)[0] for _ in range(3000)]
  assert _fits(np.bincount(first, minlength=3), [1 / 3] * 3)


def test_multinomial():
  generator = _generator()
  shares = [0.2, 0.5, 0.3]
  draws = np.array([generator.multinomial(30, shares) for _ in range(4000)])
  assert (draws.sum(axis=1) == 30).all()
  for column, share in zip(draws.T, shares, strict=True):
    counts = np.bincount(column, minlength=31)
    assert _fits(counts, stats.binom(30, share).pmf(range(31)))


def test_gaps_and_words_are_read_once():
  generator = _generator(5)
  read = np.concatenate([generator.words(n) for n in (1, 8, 9, 0, 64)])
  whole = secure_random.keystream(
      _KEY, (secure_random.SAMPLER, 0, 5), 64 * 32
  ).view("<u8")
  # Each call begins a new block: 1, 8, 9 and 64 words take 1, 1, 2, 8 blocks.
  want = [whole[:1], whole[8:16], whole[16:25], whole[32:96]]
  np.testing.assert_array_equal(read, np.concatenate(want))


def test_a_batch_is_a_function_of_key_and_step():
  strategy = batch_selection.CyclicPoissonSampling(0.2, 2**32 + 5)
  one = strategy.bind(400, _KEY)
  two = strategy.bind(400, secure_random.SecureKey(bytes(range(32))))
  other = strategy.bind(400, secure_random.SecureKey(bytes(32)))
  for step in (5, 0, 2**32 - 2, 5):
    np.testing.assert_array_equal(one.batch(step), two.batch(step))
    assert one.batch(step).tolist() != other.batch(step).tolist()
  assert one.batch(0).tolist() != one.batch(1).tolist()
  # Step t draws from stream t + 1; beyond 2^32 streams would repeat.
  with pytest.raises(ValueError, match="nonce must be below 2\\^32"):
    one.batch(2**32 - 1)


def test_bad_arguments_are_named():
  generator = _generator()
  with pytest.raises(ValueError, match="high must be an integer of at least 1"):
    generator.integers(0, size=1)
  with pytest.raises(ValueError, match="size must be at most the 3 elements"):
    generator.choice(3, size=4)
  with pytest.raises(ValueError, match="replace must be False"):
    generator.choice(3, size=1, replace=True)
