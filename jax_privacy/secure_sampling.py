"""Sampling of batches from a cipher's bits.

`CipherGenerator` has the few methods of `numpy.random.Generator` that the
strategies of `batch_selection` use. `bind` uses it when it receives a
`SecureKey`. Amplification by sampling assumes that nobody knows who is in a
batch. Whoever knows the seed of an ordinary generator does know.

The invariant: a generator's draws are a pure function of (key, stream). They
follow their documented law, up to the rounding of a logarithm. Integers are
drawn by rejection, not by a remainder. Subsets and orders come from distinct
draws, not from draws assumed to be distinct.

Example:
  >>> from jax_privacy import batch_selection, secure_random
  >>> poisson = batch_selection.CyclicPoissonSampling(0.25, iterations=3)
  >>> key = secure_random.SecureKey.fresh()
  >>> batches = poisson.bind(num_examples=12, rng=key)
  >>> all((batches.batch(t) == b).all() for t, b in enumerate(batches))
  True
"""

import math
from collections.abc import Sequence

import numpy as np

from jax_privacy import _validate, secure_random

# Beyond it, floats no longer tell neighbouring integers apart.
_MAX_INTEGER = 2**53
# Words taken from the cipher at a time, at least.
_MIN_WORDS = 64


class CipherGenerator:
  """Draws from one stream of a key, in order.

  Args:
    key: Key of the cipher.
    stream: Number of the stream, an integer in [0, 2^32).
  """

  def __init__(self, key: secure_random.SecureKey, stream: int):
    self._key = key
    self._nonce = (secure_random.SAMPLER, 0, stream)
    self._next_block = 0

  def words(self, size: int) -> np.ndarray:
    """Returns uint64 [size], each word of the stream used once at most.

    Args:
      size: Number of words.
    """
    num_blocks = -(-8 * size // secure_random.BLOCK_BYTES)
    piece = secure_random.keystream(
        self._key,
        self._nonce,
        num_blocks * secure_random.BLOCK_BYTES,
        first_block=self._next_block,
    )
    self._next_block += num_blocks
    return piece.view("<u8")[:size]

  def integers(self, high: int, *, size: int) -> np.ndarray:
    """Returns int64 [size], independent and uniform in [0, high).

    Words in the last, incomplete, run of `high` values are thrown away: their
    remainders would make small integers likelier than large ones.

    Args:
      high: Upper end, which is not drawn; at least 1.
      size: Number of integers.

    Raises:
      ValueError: If `high` is out of range.
    """
    _validate.integer("high", high, at_least=1)
    end = 2**64 - 2**64 % high  # The first word to throw away.
    drawn = np.empty(0, np.uint64)
    while len(drawn) < size:
      words = self.words(max(2 * (size - len(drawn)), _MIN_WORDS))
      drawn = np.concatenate([drawn, words[words <= np.uint64(end - 1)]])
    return (drawn[:size] % np.uint64(high)).astype(np.int64)

  def binomial(self, n: int, p: float) -> int:
    """Returns how many of n trials of probability p succeed, in O(n p) work.

    The gaps between successes are geometric, and a geometric number is an
    exponential one rounded down; their sum says how many fall within n.

    Args:
      n: Number of trials.
      p: Probability of success, in [0, 1].

    Raises:
      ValueError: If `n` is not an integer in [0, 2^53].

    Source: Devroye 1986, Non-uniform random variate generation, section X.4.3.
    """
    n = _validate.integer("n", n, at_least=0)
    if n > _MAX_INTEGER:
      _validate.fail("n", "at most 2^53", n)
    if p > 0.5:
      return n - self.binomial(n, 1 - p)
    if p == 0:
      return 0
    rate = -math.log1p(-p)
    count, position = 0, 0.0
    while position <= n:
      ahead = (n - position) * p
      size = math.ceil(ahead + 4 * math.sqrt(ahead)) + _MIN_WORDS
      gaps = np.floor(self._exponentials(size) / rate)
      successes = position + np.cumsum(gaps + 1)
      count += int(np.searchsorted(successes, n, side="right"))
      position = successes[-1]
    return count

  def multinomial(self, n: int, pvals: Sequence[float]) -> np.ndarray:
    """Returns how many of n trials have each outcome, int64 [len(pvals)].

    Args:
      n: Number of trials.
      pvals: Probabilities of the outcomes, which add up to 1.
    """
    counts, rest = [], 1.0
    for share in pvals[:-1]:
      counts.append(self.binomial(n - sum(counts), min(share / rest, 1.0)))
      rest -= share
    return np.asarray([*counts, n - sum(counts)], np.int64)

  def permutation(self, n: int) -> np.ndarray:
    """Returns 0 ... n - 1, int64 [n], in an order that is uniformly random.

    The order of n random words; where two are equal, all are drawn again.

    Args:
      n: Number of integers.
    """
    while True:
      words = self.words(n)
      order = np.argsort(words)
      if (np.diff(words[order]) != 0).all():
        return order

  def choice(
      self,
      a: int | np.ndarray,
      *,
      size: int,
      replace: bool = False,
      shuffle: bool = False,
  ) -> np.ndarray:
    """Returns `size` distinct elements, all subsets being equally likely.

    Args:
      a: Array, or a number for the integers below it.
      size: Number of elements to draw; O(size) work.
      replace: Flag of NumPy's method that must be False.
      shuffle: Flag of NumPy's method, ignored: the order is random.

    Raises:
      ValueError: If `replace`, or `size` exceeds the number of elements.
    """
    del shuffle
    if replace:
      _validate.fail("replace", "False (see `integers`)", replace)
    n = a if isinstance(a, int) else len(a)
    if size > n:
      _validate.fail("size", f"at most the {n} elements", size)
    if 2 * size >= n:
      chosen = self.permutation(n)[:size]
    else:
      chosen = self._distinct(n, size)
    return chosen if isinstance(a, int) else a[chosen]

  def _distinct(self, n, size):
    """The first `size` distinct ones of endless uniform integers below n."""
    drawn = np.empty(0, np.int64)
    while True:
      drawn = np.concatenate([drawn, self.integers(n, size=size + _MIN_WORDS)])
      first = np.sort(np.unique(drawn, return_index=True)[1])
      if len(first) >= size:
        return drawn[first[:size]]

  def _exponentials(self, size):
    """float64 [size] of mean 1, fine near 0 and far out.

    One half have a survival function of at most 1/2, which is the uniform
    number; of the others, the distribution function is.
    """
    words = self.words(2 * size).reshape(-1, 2)
    uniforms, is_far = secure_random.half_uniforms(words)
    return np.where(is_far, -np.log(uniforms), -np.log1p(-uniforms))
