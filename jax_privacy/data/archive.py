"""Reads the arrays of an untrusted .npz file, one by one.

Invariant: no pickle is ever loaded, and an array's bytes are read piece by
piece before it is made, so a header cannot claim memory that the file does not
fill, nor a small file expand to a large one. `numpy.load` allocates first.

>>> import pathlib, tempfile
>>> folder = tempfile.TemporaryDirectory()
>>> path = pathlib.Path(folder.name) / "a.npz"
>>> np.savez(path, a=np.arange(3))
>>> with Archive(path) as file:
...   sorted(file.keys()), file.read("a", kinds="iu", ndims=(1,)).tolist()
(['a'], [0, 1, 2])
>>> folder.cleanup()
"""

import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from typing import IO

import numpy as np

from jax_privacy.data import bounded

_SUFFIX = ".npy"
# What NumPy writes. An LZMA member's header can claim gigabytes.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_READ_HEADER = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
# What zipfile and NumPy raise on malformed, encrypted or unsupported input.
_ERRORS = (
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,  # From parsing a header's brackets, not from its size.
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


class Archive:
  """An open .npz file, to be used in a `with` statement.

  Args:
    path: Path of the file.

  Raises:
    ValueError: If it cannot be read, or is no zip file.
  """

  def __init__(self, path: str | os.PathLike):
    self.name = str(path)
    self._path = path
    try:
      if not bounded.is_regular(path):
        raise ValueError("it is no regular file")
      self._zip = zipfile.ZipFile(path)
    except _ERRORS as error:
      reason = bounded.short(error)
      raise ValueError(
          f"path must be a readable .npz file, got {self.name}: {reason}."
      ) from error
    self._members = {}
    for member in self._zip.infolist():
      key = member.filename.removesuffix(_SUFFIX)
      if key in self._members:
        raise ValueError(f"{self.name} must hold {key!r} once, got it twice.")
      if key != member.filename:
        self._members[key] = member

  def __enter__(self) -> "Archive":
    return self

  def __exit__(self, *error) -> None:
    self._zip.close()

  def keys(self) -> set[str]:
    """Returns the names of the arrays."""
    return set(self._members)

  def read(self, key: str, *, kinds: str, ndims: tuple[int, ...]) -> np.ndarray:
    """Reads one array.

    Args:
      key: Name of the array, one of `keys()`.
      kinds: Kinds of dtype that it may have, as in `numpy.dtype.kind`; "O"
        is never read.
      ndims: Numbers of dimensions that it may have.

    Returns:
      The array, read-only.

    Raises:
      ValueError: If the array is malformed, truncated, or of another kind.
    """
    what = f"array {key!r} of {self.name}"
    with self._open(key, what) as stream:
      shape, fortran_order, dtype = _read_header(stream)
    if dtype.kind not in kinds.replace("O", "") or len(shape) not in ndims:
      raise ValueError(
          f"{what} must be of kind {' or '.join(kinds)} and have"
          f" {' or '.join(map(str, ndims))} dimensions, got"
          f" {bounded.short(f'{dtype} {list(shape)}')}."
      )
    with self._open(key, what) as stream:
      _read_header(stream)
      num_bytes = math.prod(shape) * dtype.itemsize
      values = bounded.read_exactly(stream, num_bytes, what="it")
      bounded.expect_end(stream, what="it")
      order = "F" if fortran_order else "C"
      return np.frombuffer(values, dtype).reshape(shape, order=order)

  @contextmanager
  def _open(self, key: str, what: str) -> Generator[IO[bytes], None, None]:
    """Opens one array's bytes, and names it in whatever goes wrong."""
    member = self._members[key]
    if member.compress_type not in _METHODS:
      raise ValueError(
          f"{what} must be stored or deflated, got compression method"
          f" {member.compress_type}."
      )
    # A member's stream ends at this size, whatever was compressed.
    bounded.check_expansion(member.file_size, self._path, what=what)
    try:
      with self._zip.open(member) as stream:
        yield stream
    except _ERRORS as error:
      reason = bounded.short(error)
      raise ValueError(f"{what} must be readable: {reason}.") from error


def _read_header(
    stream: IO[bytes],
) -> tuple[tuple[int, ...], bool, np.dtype]:
  """Returns (shape, whether in Fortran order, dtype)."""
  version = np.lib.format.read_magic(stream)
  if version not in _READ_HEADER:
    raise ValueError(f"version of the .npy format is {version}")
  shape, fortran_order, dtype = _READ_HEADER[version](stream)
  if any(size < 0 for size in shape):
    raise ValueError(f"shape is {shape}")
  return shape, fortran_order, dtype
