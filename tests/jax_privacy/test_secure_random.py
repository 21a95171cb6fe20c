"""The cipher's streams: known answers, no block twice, no secret shown."""

import subprocess
import sys
import textwrap
from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest

from jax_privacy import secure_random
from jax_privacy.secure_random import SecureKey

_KEY = SecureKey(bytes(range(32)))


def test_known_answers():
  # RFC 8439, section 2.3.2: counter 1, nonce 00:00:00:09:00:00:00:4a:0:0:0:0.
  block = secure_random.keystream(
      _KEY, (0x09000000, 0x4A000000, 0), 64, first_block=1
  )
  assert block.tobytes().hex() == (
      "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
      "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e"
  )
  # RFC 8439, appendix A.1, test vectors 1 and 2: all zeros, blocks 0 and 1.
  blocks = secure_random.keystream(SecureKey(bytes(32)), (0, 0, 0), 128)
  assert blocks.tobytes().hex() == (
      "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
      "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586"
      "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
      "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f"
  )


def test_pieces_of_a_stream_fit_together():
  whole = secure_random.keystream(_KEY, (1, 2, 3), 64 * 50)
  for first, size in ((0, 64), (7, 100), (49, 64)):
    piece = secure_random.keystream(_KEY, (1, 2, 3), size, first_block=first)
    np.testing.assert_array_equal(piece, whole[64 * first :][:size])
  # Across 2^16 blocks, and up to the last block that there is.
  secure_random.keystream(_KEY, (1, 2, 3), 64, first_block=2**32 - 1)


def test_streams_differ_in_every_number_of_the_nonce():
  nonces = [(a, b, c) for a in (1, 2) for b in (0, 1, 2**31) for c in (0, 5)]
  pieces = {secure_random.keystream(_KEY, n, 64).tobytes() for n in nonces}
  pieces |= {
      secure_random.keystream(SecureKey(bytes(32)), n, 64).tobytes()
      for n in nonces
  }
  assert len(pieces) == 2 * len(nonces)


@pytest.mark.parametrize(
    "nonce, num_bytes, first_block, message",
    [
        ((2**32, 0, 0), 1, 0, "nonce must be below 2\\^32"),
        ((0, 0, 2**32), 1, 0, "nonce must be below 2\\^32"),
        ((0, -1, 0), 1, 0, "nonce must be an integer"),
        ((0, 0, 0), -1, 0, "num_bytes must be an integer"),
        # The counter would start again at block 0.
        ((0, 0, 0), 65, 2**32 - 1, "num_bytes must be within a stream's"),
        ((0, 0, 0), 2**38 + 1, 0, "num_bytes must be within a stream's"),
        ((0, 0, 0), 0, 2**32, "num_bytes must be within a stream's"),
    ],
)
def test_nothing_beyond_the_counter(nonce, num_bytes, first_block, message):
  with pytest.raises(ValueError, match=message):
    secure_random.keystream(_KEY, nonce, num_bytes, first_block=first_block)


def _exact(high, low):
  """The number of (0, 1/2] that 127 bits stand for, without rounding."""
  bits = (high << 63) + (low >> 1)
  return (Fraction(bits) + Fraction(1, 2)) / 2**128


def test_uniforms_are_127_bits_rounded():
  rng = np.random.default_rng(0)
  words = rng.integers(2**64, size=(2000, 2), dtype=np.uint64)
  # Small ones too, down to the smallest.
  words[:1000, 0] >>= rng.integers(64, size=1000, dtype=np.uint64)
  words[:20, 0] = 0
  words[0] = 0
  words[1] = 2**64 - 1
  got, coins = secure_random.half_uniforms(words)
  for (high, low), u, coin in zip(words.tolist(), got, coins, strict=True):
    want = _exact(high, low)
    # Two roundings at most, of half a unit in the last place each.
    assert abs(Fraction(float(u)) - want) <= want * Fraction(1, 2**52)
    assert coin == bool(low & 1)
  assert got[0] == 2.0**-129 and got[1] == 0.5


def test_small_uniforms_have_full_mantissas():
  # With the first word 1, u lies in [2^-65, 2^-64): a uniform that is a
  # multiple of 2^-53 is 0 there, one of 64 bits takes a single value; this has
  # 53 random bits. 4000 draws of 2^52 values are distinct but for 2e-9.
  words = np.ones((4000, 2), np.uint64)
  rng = np.random.default_rng(1)
  words[:, 1] = rng.integers(2**64, size=4000, dtype=np.uint64)
  got, _ = secure_random.half_uniforms(words)
  assert 2.0**-65 <= got.min() < got.max() <= 2.0**-64
  assert len(np.unique(got)) == 4000


def test_keys():
  assert SecureKey.of(_KEY) is _KEY
  assert SecureKey.of(bytes(range(32))) == _KEY
  assert SecureKey.of(_KEY.words()) == _KEY
  assert SecureKey.of(jnp.asarray(_KEY.words())) == _KEY
  assert SecureKey.fresh() != SecureKey.fresh()
  assert len(SecureKey.fresh().secret) == 32
  assert repr(_KEY) == str(_KEY) == "SecureKey(secret)"


@pytest.mark.parametrize(
    "key",
    [None, 7, "x" * 32, bytes(16), np.zeros(2, np.uint32), np.zeros(8, int)],
)
def test_bad_keys_are_named_and_not_shown(key):
  with pytest.raises(ValueError, match="^(key|secret) must be") as caught:
    SecureKey.of(key)
  assert "x" * 32 not in str(caught.value) and "x00" not in str(caught.value)


@pytest.mark.slow
def test_without_the_package_the_error_says_what_to_install():
  program = textwrap.dedent("""
      import sys
      sys.modules["cryptography"] = None  # As if it were not installed.
      import jax_privacy
      from jax_privacy import batch_selection, secure_noise, secure_random
      print(len(batch_selection.FixedBatchSampling(3, 1).bind(9, 0).batch(0)))
      secure_random.SecureKey(bytes(32))
      """)
  result = subprocess.run(
      [sys.executable, "-c", program], capture_output=True, text=True
  )
  assert result.stdout.strip() == "3"  # All else works without it.
  assert result.stderr.strip().endswith(
      ': pip install "jax-privacy-toolkit[secure]", or ".[secure]" in a'
      " checkout."
  )
