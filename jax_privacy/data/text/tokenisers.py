r"""Tokenisers: bytes, symbols, words, and files of the package `tokenizers`.

Invariant: a vocabulary is public. It is the bytes, or a file that was
made from public text; none is read off the private documents. Every tokeniser
has one token of its own, `boundary`, that begins a sequence and ends a
document.

>>> tokeniser = Bytes()
>>> tokens, num_bytes = tokeniser.encode("dé")
>>> tokens.tolist(), num_bytes.tolist()
([100, 195, 169], [1, 1, 1])
>>> tokeniser.decode(np.append(tokens, tokeniser.boundary))
'dé'
"""

import hashlib
import os
import pathlib
import string
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from jax_privacy import _extras, _validate
from jax_privacy.data import bounded

_MAX_FILE = 2**28


class Tokeniser(Protocol):
  """Turns text into tokens, and back.

  Attributes:
    vocabulary_size: Number of tokens, the boundary included.
    boundary: Token that begins a sequence and ends a document.
  """

  vocabulary_size: int
  boundary: int

  def encode(self, text: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns tokens, int32 [n], and how many bytes of UTF-8 each has, [n].

    Args:
      text: Text of a document.
    """

  def decode(self, tokens: np.ndarray) -> str:
    """Returns the text of tokens [n]; boundaries have none.

    Args:
      tokens: Integers [n].
    """

  def describe(self) -> dict[str, Any]:
    """Returns what it is, for JSON; public."""


class Bytes:
  """The 256 bytes of UTF-8, and the boundary, 256."""

  vocabulary_size = 257
  boundary = 256

  def encode(self, text: str) -> tuple[np.ndarray, np.ndarray]:
    """See `Tokeniser`."""
    tokens = np.frombuffer(text.encode(), np.uint8).astype(np.int32)
    return tokens, np.ones(len(tokens), np.int32)

  def decode(self, tokens: np.ndarray) -> str:
    """See `Tokeniser`; bytes that are no UTF-8 become U+FFFD."""
    tokens = np.asarray(tokens)
    return bytes(tokens[tokens < 256].astype(np.uint8)).decode(errors="replace")

  def describe(self) -> dict[str, Any]:
    """See `Tokeniser`."""
    return {"tokeniser": "bytes", "vocabulary_size": self.vocabulary_size}


class Symbols:
  """The first lower-case letters, each a token, and the boundary.

  Args:
    num_symbols: Number of letters, 2 to 26.

  Raises:
    ValueError: If it is another number.
  """

  def __init__(self, num_symbols: int):
    _validate.integer("num_symbols", num_symbols, at_least=2)
    if num_symbols > len(string.ascii_lowercase):
      _validate.fail("num_symbols", "in [2, 26]", num_symbols)
    self.boundary = num_symbols
    self.vocabulary_size = num_symbols + 1

  def encode(self, text: str) -> tuple[np.ndarray, np.ndarray]:
    """See `Tokeniser`."""
    tokens = np.array([ord(c) - ord("a") for c in text], np.int32)
    if ((tokens < 0) | (tokens >= self.boundary)).any():
      letters = string.ascii_lowercase[: self.boundary]
      rule = f"letters of {letters!r}"
      _validate.fail("text", rule, bounded.short(text))
    return tokens, np.ones(len(tokens), np.int32)

  def decode(self, tokens: np.ndarray) -> str:
    """See `Tokeniser`."""
    kept = (int(token) for token in tokens if token < self.boundary)
    return "".join(string.ascii_lowercase[token] for token in kept)

  def describe(self) -> dict[str, Any]:
    """See `Tokeniser`."""
    return {"tokeniser": "symbols", "vocabulary_size": self.vocabulary_size}


class Words:
  """Words of a fixed list, with spaces between, and the boundary.

  Args:
    words: Words, each another, without spaces.
  """

  def __init__(self, words: Sequence[str]):
    self._words = tuple(words)
    self._places = {word: i for i, word in enumerate(self._words)}
    self.boundary = len(self._words)
    self.vocabulary_size = self.boundary + 1

  def encode(self, text: str) -> tuple[np.ndarray, np.ndarray]:
    """See `Tokeniser`."""
    words = text.split()
    if wrong := [word for word in words if word not in self._places]:
      rule = f"words of {', '.join(self._words)}"
      _validate.fail("text", bounded.short(rule), bounded.short(wrong[0]))
    tokens = np.array([self._places[word] for word in words], np.int32)
    return tokens, np.array([len(word.encode()) for word in words], np.int32)

  def decode(self, tokens: np.ndarray) -> str:
    """See `Tokeniser`."""
    kept = (int(token) for token in tokens if token < self.boundary)
    return " ".join(self._words[token] for token in kept)

  def describe(self) -> dict[str, Any]:
    """See `Tokeniser`."""
    return {
        "tokeniser": "words",
        "words": list(self._words),
        "vocabulary_size": self.vocabulary_size,
    }


class File:
  """A tokeniser of the package `tokenizers`, from its JSON file.

  The file is read from disk; it must have been made from public text.

  Args:
    path: The file, tokenizer.json.
    boundary: Name of the file's own token that is the boundary, such as
      "<|endoftext|>"; "" for a further token, the last.

  Raises:
    ImportError: If the package is not installed.
    ValueError: If the file is none, or has no such token.
  """

  def __init__(self, path: str | os.PathLike, *, boundary: str = ""):
    if not bounded.is_regular(path):
      raise ValueError(
          f"tokeniser must be 'bytes' or a file of `tokenizers`, got {path}."
      )
    if os.stat(path).st_size > _MAX_FILE:
      raise ValueError(f"{path} must have at most {_MAX_FILE} bytes, got more.")
    with _extras.needed("language"):
      import tokenizers  # pyrefly: ignore[missing-import]
    content = pathlib.Path(path).read_bytes()
    self.sha256 = hashlib.sha256(content).hexdigest()
    try:
      self._tokeniser = tokenizers.Tokenizer.from_buffer(content)
    except Exception as error:  # Of a class that the package does not export.
      reason = bounded.short(error)
      raise ValueError(
          f"{path} must be a file of `tokenizers`, got one that it does not"
          f" read: {reason}."
      ) from None
    self._tokeniser.no_truncation()
    self._tokeniser.no_padding()
    size = self._tokeniser.get_vocab_size()
    if not boundary:
      self.boundary, self.vocabulary_size = size, size + 1
      return
    found = self._tokeniser.token_to_id(boundary)
    if found is None:
      raise ValueError(
          f"boundary must be a token of {path}, got {bounded.short(boundary)}."
      )
    self.boundary, self.vocabulary_size = found, size

  def encode(self, text: str) -> tuple[np.ndarray, np.ndarray]:
    """See `Tokeniser`; bytes that no token has are the next token's."""
    found = self._tokeniser.encode(text, add_special_tokens=False)
    tokens = np.array(found.ids, np.int32)
    if not len(tokens):
      return tokens, tokens
    ends = np.array([end for _, end in found.offsets], np.int64)
    ends = np.maximum.accumulate(ends)
    ends[-1] = len(text)  # What is behind the last token is the last token's.
    sizes = [len(character.encode()) for character in text]
    num_bytes = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])[ends]
    return tokens, np.diff(num_bytes, prepend=0).astype(np.int32)

  def decode(self, tokens: np.ndarray) -> str:
    """See `Tokeniser`."""
    ids = [int(token) for token in tokens if token != self.boundary]
    return self._tokeniser.decode(ids)

  def describe(self) -> dict[str, Any]:
    """See `Tokeniser`."""
    return {
        "tokeniser": "file",
        "tokeniser_sha256": self.sha256,
        "vocabulary_size": self.vocabulary_size,
    }


def build(tokeniser: str, *, boundary: str = "") -> Tokeniser:
  """Returns the tokeniser of that name.

  Args:
    tokeniser: Name "bytes", or the path of a file of `tokenizers`.
    boundary: Name of the file's token, see `File`; "" for bytes.

  Raises:
    ImportError: If the package `tokenizers` is needed, and not installed.
    ValueError: If there is no such tokeniser.
  """
  if tokeniser != "bytes":
    return File(tokeniser, boundary=boundary)
  if boundary:
    _validate.fail("boundary", "'' for bytes, which have their own", boundary)
  return Bytes()
