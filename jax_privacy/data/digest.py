"""A keyed digest of a source's examples: whether they are the same as before.

Invariant: other examples, or the same in another order, give another digest,
and whoever lacks the key learns nothing from it. A source says by
`digest_parts()` what is compared: arrays as they are in memory, and of files
their names, sizes and bytes; of very large ones, blocks all along them. What a
source without it yields can be compared in its place: `yielded`.

>>> import numpy as np
>>> key = bytes(32)  # Of a secret, as `root_key.RootKey.derive` gives it.
>>> pixels, labels = np.zeros((2, 2), np.uint8), np.array([0, 1])
>>> before = keyed([pixels, labels], key=key)
>>> keyed([pixels.copy(), labels.copy()], key=key) == before
True
>>> keyed([pixels, labels[::-1]], key=key) == before
False
"""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

from jax_privacy import _validate
from jax_privacy.data import bounded

Part: TypeAlias = np.ndarray | bytes | str
"""What is compared, in order; an array has no objects."""

NUM_KEY_BYTES = 32
_CHUNK = 1 << 22
# Read whole up to here: BLAKE2b takes 1.6 s of CPU a GiB, measured once on one
# core. Beyond, blocks at even distances, a quarter of that in all.
_MAX_FILE_BYTES = 1 << 32
_BLOCK, _NUM_BLOCKS = 1 << 16, 1 << 14
# Examples that are read at a time.
_ROWS = 256


def parts_of(source: Any) -> Iterable[Part] | None:
  """Returns what a source compares.

  Args:
    source: Any source.

  Returns:
    Its `digest_parts()`; None of a source without, which cannot be compared.
  """
  digest_parts = getattr(source, "digest_parts", None)
  return None if digest_parts is None else digest_parts()


def keyed(parts: Iterable[Part], *, key: bytes) -> str:
  """Returns the digest of parts, in hexadecimal: private.

  Args:
    parts: Parts to compare, in order; see `parts_of`.
    key: Secret of 32 bytes, used for nothing else.

  Returns:
    A digest of 256 bits, which no other parts have.

  Raises:
    ValueError: If a part is an array of objects, whose bytes are addresses.

  Guarantee: Without the key the digest is as good as random, as far as keyed
    BLAKE2b is a pseudorandom function; with it, guesses at the data can be
    checked.

  Source: Saarinen and Aumasson 2015 (RFC 7693).
  """
  hasher = hashlib.blake2b(key=key, digest_size=32)
  for part in parts:
    if isinstance(part, str):
      part = part.encode("utf-8", "surrogatepass")
    is_bytes = isinstance(part, bytes)
    array = np.frombuffer(part, np.uint8) if is_bytes else np.asarray(part)
    if array.dtype.hasobject:
      rule = "arrays of numbers or text, bytes or str"
      _validate.fail("digest_parts", rule, f"an array of {array.dtype}")
    # Lengths keep ("1", "23") from being ("12", "3").
    head = f"{is_bytes} {array.dtype.str} {array.shape}".encode()
    hasher.update(len(head).to_bytes(8, "big") + head)
    for chunk in _chunks(array):
      hasher.update(chunk.tobytes())
  return hasher.hexdigest()


def _chunks(array: np.ndarray) -> Iterator[np.ndarray]:
  """Yields rows of a few MiB: of a whole array a copy would be made."""
  array = np.atleast_1d(array)
  step = max(1, _CHUNK // max(1, array[:1].nbytes))
  for start in range(0, len(array), step):
    yield array[start : start + step]


def names(texts: Iterable[str]) -> str:
  """Returns one part for many names.

  Args:
    texts: Names, in order.
  """
  return json.dumps(list(texts))


def files(paths: Sequence[str | os.PathLike]) -> Iterator[Part]:
  """Yields what is compared of files, none of which is decoded.

  Args:
    paths: Paths in order; one that is no file has no size.

  Yields:
    Names and sizes; and the bytes, if these are 4 GiB at most, of all files
    together. Else 16,384 blocks of 64 KiB, at even distances along all files: a
    change between them is not seen.
  """
  sizes = [os.stat(p).st_size if bounded.is_regular(p) else -1 for p in paths]
  yield names(map(str, paths))
  yield np.array(sizes, np.int64)
  total = sum(max(size, 0) for size in sizes)
  start, step = 0, total / _NUM_BLOCKS
  for path, size in zip(paths, sizes, strict=True):
    if size <= 0:
      continue
    with open(path, "rb") as file:
      if total <= _MAX_FILE_BYTES:
        while content := file.read(_CHUNK):
          yield content
        continue
      # The blocks that begin in this file, by their place along all of them.
      first, last = math.ceil(start / step), math.ceil((start + size) / step)
      for block in range(first, last):
        file.seek(max(0, min(int(block * step) - start, size - _BLOCK)))
        yield file.read(_BLOCK)
    start += size


def yielded(source: Any) -> Iterator[Part]:
  """Yields all that a source gives, read once: for one without `digest_parts`.

  Args:
    source: Source with a length, whose `source[indices]` is a pytree of arrays.
  """
  for start in range(0, len(source), _ROWS):
    batch = source[np.arange(start, min(start + _ROWS, len(source)))]
    leaves, _ = jax.tree_util.tree_flatten_with_path(batch)
    for path, leaf in leaves:
      yield jax.tree_util.keystr(path)
      yield np.asarray(leaf)
