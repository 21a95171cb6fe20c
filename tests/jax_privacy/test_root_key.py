"""The run's secret, and what is derived from it."""

import hashlib
import hmac

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_privacy import root_key
from jax_privacy.root_key import RootKey


def test_hkdf_known_answers():
  # RFC 5869, test cases 1 and 3 (empty salt and info).
  okm = root_key.hkdf_sha256(
      b"\x0b" * 22,
      salt=bytes(range(13)),
      info=bytes(range(0xF0, 0xFA)),
      num_bytes=42,
  )
  assert okm.hex() == (
      "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
      "34007208d5b887185865"
  )
  okm = root_key.hkdf_sha256(b"\x0b" * 22, salt=b"", info=b"", num_bytes=42)
  assert okm.hex() == (
      "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
      "9d201395faa4b61a96c8"
  )


def test_derived_keys_differ_in_every_use_and_root():
  roots = [RootKey.from_seed(s) for s in (0, 1, 2**64, 2**128 - 1)]
  labels = ("parameters", "noise", "sampler", "augmentation")
  keys = {root.derive(label, 16) for root in roots for label in labels}
  assert len(keys) == 16
  # Flipping any of the 128 bits of the root changes every derived bit with
  # probability 1/2: of 128 x 128 bits, half +-5 standard deviations (64 each).
  base = np.frombuffer(roots[0].derive("noise", 16), np.uint8)
  flipped = 0
  for bit in range(128):
    other = RootKey.from_seed(1 << bit).derive("noise", 16)
    change = base ^ np.frombuffer(other, np.uint8)
    flipped += int(np.unpackbits(change).sum())
  assert abs(flipped - 8192) < 5 * 64


def test_seeds_and_keys_come_from_the_same_hash():
  root = RootKey.from_seed(5)
  secret = (5).to_bytes(16, "little")
  extracted = hmac.digest(root_key._SALT, secret, hashlib.sha256)
  want = hmac.digest(extracted, b"sampler\x01", hashlib.sha256)
  assert root.derive("sampler", 32) == want
  assert root.seed("sampler") == int.from_bytes(want[:16], "little")
  data = jax.random.key_data(root.prng_key("sampler"))
  assert np.asarray(data).astype("<u4").tobytes() == want[:8]


def test_a_child_has_labels_of_its_own():
  root = RootKey.from_seed(5)
  child = root.child("private")
  assert child.secret == root.derive("private", 16)
  assert child.derive("noise", 16) != root.derive("noise", 16)


def test_fresh_roots_hold_128_bits():
  words = np.stack([RootKey.fresh().words() for _ in range(2000)])
  # Each bit is one half the time: 1000 +-6 standard deviations of 22.4. A root
  # of 63 bits, as once, would have bits that are always zero.
  ones = np.unpackbits(words.view(np.uint8), axis=1).sum(axis=0, dtype=int)
  assert ones.shape == (128,) and np.abs(ones - 1000).max() < 6 * 22.4


def test_the_secret_is_never_shown():
  root = RootKey.from_seed(0x1234567890ABCDEF)
  for text in (repr(root), str(root), f"{root}", str([root])):
    assert "RootKey(secret)" in text
    assert "1234" not in text and "\\x" not in text
  with pytest.raises(ValueError, match="secret must be 16 bytes, got 'bytes'"):
    RootKey(b"hidden")


def test_words_hold_it_whole():
  root = RootKey.from_seed(2**127 + 3)
  words = root.words()
  np.testing.assert_array_equal(words, [3, 0, 0, 2**31])
  assert words.dtype == np.uint32
  assert RootKey.from_words(jnp.asarray(words)) == root
  for bad in (np.zeros(3, np.uint32), np.zeros(4), np.zeros((1, 4), np.uint32)):
    with pytest.raises(ValueError, match="words must be uint32 of shape"):
      RootKey.from_words(bad)


def test_what_may_key_a_run():
  root = RootKey.from_seed(9)
  assert RootKey.of(root) == RootKey.of(9) == root
  typed, raw = jax.random.key(9), jax.random.PRNGKey(9)
  assert RootKey.of(typed) == RootKey.of(raw)
  assert RootKey.of(typed) != RootKey.of(jax.random.key(8))
  for bad in (None, 1.5, True, "9", jnp.zeros(2), jax.random.split(typed)):
    with pytest.raises(ValueError, match="key must be a PRNG key"):
      RootKey.of(bad)


@pytest.mark.parametrize("seed", [-1, 2**128, 1.0, True, None, "3"])
def test_bad_seeds_are_named(seed):
  with pytest.raises(ValueError, match="^seed must be"):
    RootKey.from_seed(seed)


@pytest.mark.parametrize("num_bytes", [0, 8161, 2.0])
def test_bad_lengths_are_named(num_bytes):
  with pytest.raises(ValueError, match="^num_bytes must be"):
    RootKey.from_seed(0).derive("noise", num_bytes)
