"""The one secret of a run, and the keys that are derived from it.

The invariant: a run holds 128 bits of entropy, its root. The key of every
generator is a hash of the root and a label of its own. One derived key reveals
nothing about the root or another key, and no two uses of randomness share a
key. A root is never shown: its `repr` hides it.

JAX's own generator, Threefry, takes keys of 64 bits. Whoever can try 2^64 keys
finds the one whose noise fits, and subtracts it. A determined adversary with
much computing power can try 2^64 keys, but not 2^128. If that matters, use
secure noise (`secure_noise.py`), whose keys hold all 128 bits.

Source: HKDF with SHA-256, Krawczyk and Eronen 2010 (RFC 5869).

Example:
  >>> from jax_privacy import root_key
  >>> root = root_key.RootKey.from_seed(7)
  >>> root
  RootKey(secret)
  >>> root.derive("noise", 16) == root.derive("sampler", 16)
  False
  >>> root_key.RootKey.from_words(root.words()) == root
  True
"""

import dataclasses
import hashlib
import hmac
import secrets
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_privacy import _validate

NUM_BYTES = 16
# Separates these keys from any other use of the same secret.
_SALT = b"jax-privacy-toolkit root key, version 1"


@dataclasses.dataclass(frozen=True, repr=False)
class RootKey:
  """128 secret bits that all randomness of a run is derived from.

  Make one by `fresh` for a release, by `from_seed` for research.

  Attributes:
    secret: The 16 bytes; whoever knows them can subtract the noise.
  """

  secret: bytes

  def __post_init__(self):
    if not isinstance(self.secret, bytes) or len(self.secret) != NUM_BYTES:
      # Not the value: a secret of the wrong length is still a secret.
      kind = type(self.secret).__name__
      _validate.fail("secret", f"{NUM_BYTES} bytes", kind)

  @classmethod
  def fresh(cls) -> "RootKey":
    """Returns a root of 128 bits from the operating system."""
    return cls(secrets.token_bytes(NUM_BYTES))

  @classmethod
  def from_seed(cls, seed: int) -> "RootKey":
    """Returns the root of a fixed seed: for research, not for a release.

    Args:
      seed: An integer in [0, 2^128). It is as secret as the noise, and a seed
        that a person chose has far fewer than 128 bits.

    Raises:
      ValueError: If it is not.
    """
    seed = _validate.integer("seed", seed, at_least=0)
    if seed >= 2 ** (8 * NUM_BYTES):
      _validate.fail("seed", "in [0, 2^128)", seed)
    return cls(seed.to_bytes(NUM_BYTES, "little"))

  @classmethod
  def from_words(cls, words: Any) -> "RootKey":
    """Returns the root whose `words` these are.

    Args:
      words: Integers, uint32 [4].

    Raises:
      ValueError: If they are not uint32 [4].
    """
    words = np.asarray(words)
    if words.shape != (4,) or words.dtype != np.uint32:
      got = f"{words.dtype} {words.shape}"
      _validate.fail("words", "uint32 of shape (4,)", got)
    return cls(words.astype("<u4").tobytes())

  @classmethod
  def of(cls, key: Any, *, name: str = "key") -> "RootKey":
    """Returns the root of anything that may key a run.

    Args:
      key: A root, an int seed (see `from_seed`), or a JAX key, typed or raw,
        whose bits are hashed: it lends its own 64 bits of entropy, no more.
      name: The argument's name, for the message.

    Raises:
      ValueError: If it is none of these.
    """
    if isinstance(key, RootKey):
      return key
    if isinstance(key, int) and not isinstance(key, bool):
      return cls.from_seed(key)
    key = _validate.prng_key(name, key)
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
      key = jax.random.key_data(key)
    data = np.asarray(key).astype("<u4").tobytes()
    return cls(hkdf_sha256(data, info=b"JAX key", num_bytes=NUM_BYTES))

  def child(self, label: str) -> "RootKey":
    """Returns a root for a part of the run, whose labels are its own.

    Args:
      label: Name of the part.
    """
    return RootKey(self.derive(label, NUM_BYTES))

  def words(self) -> np.ndarray:
    """Returns the secret as uint32 [4], as checkpoints hold it."""
    return np.frombuffer(self.secret, "<u4").astype(np.uint32)

  def derive(self, label: str, num_bytes: int) -> bytes:
    """Returns a key for one use.

    Args:
      label: Names the use; one label, one use.
      num_bytes: Its length, at most 8160. However long, it holds no more than
        the root's 128 bits of entropy.

    Guarantee: Keys of different labels are independent, and tell nothing of the
      root, as far as HMAC-SHA-256 is a pseudorandom function.

    Source: HKDF, Krawczyk and Eronen 2010 (RFC 5869).
    """
    return hkdf_sha256(self.secret, info=label.encode(), num_bytes=num_bytes)

  def prng_key(self, label: str) -> jax.Array:
    """Returns a JAX key (Threefry, 64 bits) for one use; see `derive`.

    Args:
      label: Name of the use.
    """
    data = np.frombuffer(self.derive(label, 8), "<u4").astype(np.uint32)
    return jax.random.wrap_key_data(jnp.asarray(data), impl="threefry2x32")

  def seed(self, label: str) -> int:
    """Returns a seed of all 128 bits for one use; see `derive`.

    Args:
      label: Name of the use.
    """
    return int.from_bytes(self.derive(label, NUM_BYTES), "little")

  def __repr__(self):
    return "RootKey(secret)"


def hkdf_sha256(
    secret: bytes, *, info: bytes, num_bytes: int, salt: bytes = _SALT
) -> bytes:
  """Returns a key that is extracted and expanded from a secret: HKDF, SHA-256.

  Args:
    secret: Input keying material.
    info: Purpose of the key.
    num_bytes: Length of the key in bytes, at most 255 x 32.
    salt: Salt, which need not be secret.

  Raises:
    ValueError: If `num_bytes` is out of range.

  Source: Krawczyk and Eronen 2010 (RFC 5869), section 2.
  """
  _validate.integer("num_bytes", num_bytes, at_least=1)
  if num_bytes > 255 * 32:
    _validate.fail("num_bytes", "at most 8160", num_bytes)
  extracted = hmac.digest(salt, secret, hashlib.sha256)
  block, key = b"", b""
  for number in range(1, -(-num_bytes // 32) + 1):
    block = hmac.digest(
        extracted, block + info + bytes([number]), hashlib.sha256
    )
    key += block
  return key[:num_bytes]
