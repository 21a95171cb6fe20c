"""What batches may be drawn from."""

import random
import secrets

import numpy as np
import pytest

from jax_privacy import batch_selection, secure_random, streams


def test_objects_of_numpy_give_their_own_bits():
  sequence = np.random.SeedSequence(7)
  child, other = sequence.spawn(2)
  seeds = [streams.seed_of(s) for s in (sequence, child, other)]
  assert len(set(seeds)) == 3 and all(0 <= s < 2**128 for s in seeds)
  assert streams.seed_of(np.random.SeedSequence(7)) == seeds[0]  # Not consumed.
  generator = np.random.default_rng(7)
  first = streams.seed_of(np.random.default_rng(7))
  assert streams.seed_of(generator) == first
  assert streams.seed_of(generator) != first  # Another seed each time.
  assert streams.seed_of(np.random.PCG64(7)) == first
  assert streams.seed_of(np.random.Generator(np.random.Philox(7))) != first


class _FromTheSystem(np.random.PCG64):
  """As if its bits were the operating system's: NumPy would not know."""


@pytest.mark.parametrize(
    "rng",
    [
        np.random.Generator(_FromTheSystem(0)),
        _FromTheSystem(0),
        secrets.SystemRandom(),
        random.Random(0),
    ],
    ids=lambda rng: type(rng).__name__,
)
def test_other_generators_are_refused_not_used_as_a_seed(rng):
  strategy = batch_selection.CyclicPoissonSampling(0.5, iterations=2)
  with pytest.raises(ValueError, match="rng must be .*SecureKey"):
    strategy.bind(10, rng)


def test_a_key_is_drawn_from():
  key = secure_random.SecureKey(bytes(range(32)))
  assert streams.seed_of(key) is key
