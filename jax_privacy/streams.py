"""The randomness of batches: one stream a step, all from one seed.

The invariant: a stream is a pure function of (seed, number of the stream), and
no two streams share randomness, so that any step can be drawn by itself.

Example:
  >>> from jax_privacy import streams
  >>> seed = streams.seed_of(7)
  >>> third, again = (streams.generator_of(seed, 3) for _ in range(2))
  >>> bool(third.integers(10**9) == again.integers(10**9))
  True
"""

import random
import secrets

import numpy as np

from jax_privacy import _validate, secure_random, secure_sampling

# What a batch is drawn from: a seed, NumPy's own objects to take one from, None
# for bits of the operating system, or a cipher's key.
RngType = (
    np.random.Generator
    | np.random.BitGenerator
    | np.random.SeedSequence
    | secure_random.SecureKey
    | int
    | None
)
# What a strategy draws with; the second has the methods that are needed.
Generator = np.random.Generator | secure_sampling.CipherGenerator
# Generators of numbers that NumPy itself has. None of them is a cipher.
_OF_NUMPY = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")


def seed_of(rng: RngType) -> int | secure_random.SecureKey:
  """Returns the entropy that all streams are derived from.

  Args:
    rng: Seed; or a generator of NumPy's, from which 128 bits are drawn, so that
      a second call gets others; or a `SeedSequence`, of which 128 bits are
      read; a cipher's key; or None for the operating system's bits.

  Raises:
    ValueError: If a seed is no integer of at least 0. If a generator is not
      NumPy's own: batches would be drawn by NumPy from 128 of its bits, and
      whatever security it has would be lost without a word.
  """
  if isinstance(rng, secure_random.SecureKey):
    return rng
  if isinstance(rng, np.random.SeedSequence):
    return int.from_bytes(
        rng.generate_state(4).astype("<u4").tobytes(), "little"
    )
  if isinstance(rng, np.random.BitGenerator):
    rng = np.random.Generator(rng)
  if isinstance(rng, np.random.Generator):
    _check_numpy_s(rng.bit_generator)
    return int.from_bytes(rng.bytes(16), "little")
  if rng is None:
    return secrets.randbits(128)
  if isinstance(rng, random.Random):  # `secrets.SystemRandom` is one.
    _validate.fail("rng", _INSTEAD, f"a {type(rng).__name__}")
  return _validate.integer("rng", rng, at_least=0)


_INSTEAD = (
    "an integer, a generator of NumPy's own, a SeedSequence, or None (for"
    " batches that nobody can predict, a jax_privacy.secure_random.SecureKey)"
)


def _check_numpy_s(source: object) -> None:
  kinds = [getattr(np.random, name) for name in _OF_NUMPY]
  if type(source) not in kinds:  # A subclass may draw from anywhere.
    _validate.fail("rng", _INSTEAD, f"a generator over {type(source).__name__}")


def generator_of(seed: int | secure_random.SecureKey, stream: int) -> Generator:
  """Returns independent randomness of one stream.

  Args:
    seed: Entropy, as `seed_of` returns it.
    stream: Number: 0 for what is drawn once in a run, t + 1 for step t.
  """
  if isinstance(seed, secure_random.SecureKey):
    return secure_sampling.CipherGenerator(seed, stream)
  return np.random.default_rng(
      np.random.SeedSequence(seed, spawn_key=(stream,))
  )


def index_dtype(num_examples: int) -> np.dtype:
  """Returns the shortest signed type that holds every index and -1.

  Args:
    num_examples: Number of examples that are indexed.
  """
  return np.min_scalar_type(-max(num_examples, 1))
