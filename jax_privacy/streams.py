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

import secrets

import numpy as np

from jax_privacy import _validate, secure_random, secure_sampling

# What a batch is drawn from: a seed, a generator to draw one from, None for
# bits of the operating system, or a cipher's key.
RngType = np.random.Generator | secure_random.SecureKey | int | None
# What a strategy draws with; the second has the methods that are needed.
Generator = np.random.Generator | secure_sampling.CipherGenerator


def seed_of(rng: RngType) -> int | secure_random.SecureKey:
  """Returns the entropy that all streams are derived from.

  Args:
    rng: Seed, generator, cipher's key, or None for the operating system's bits.

  Raises:
    ValueError: If a seed is no integer of at least 0.
  """
  if isinstance(rng, secure_random.SecureKey):
    return rng
  if isinstance(rng, np.random.Generator):
    return int.from_bytes(rng.bytes(16), "little")
  if rng is None:
    return secrets.randbits(128)
  return _validate.integer("rng", rng, at_least=0)


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
