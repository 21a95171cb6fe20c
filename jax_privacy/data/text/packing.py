"""Cuts documents into sequences of one length.

Invariant: with "truncate" and "split" a sequence holds tokens of one document
alone. With "pack" it may hold parts of several: the sequence itself is then the
unit of privacy, and a guarantee says nothing of a whole document.

A sequence has length + 1 tokens: the boundary, and up to `length` tokens, each
of which is predicted from those before. No token is in two sequences.

>>> document = Tokens(np.arange(5), np.ones(5, np.int32), 0)
>>> cut = sequences([document, document], 3, packing="split", boundary=9)
>>> cut["tokens"].tolist()
[[9, 0, 1, 2], [9, 3, 4, 9], [9, 0, 1, 2], [9, 3, 4, 9]]
>>> cut["num_bytes"].tolist(), cut["document"].tolist()
([3, 2, 3, 2], [0, 0, 1, 1])
>>> packed = sequences([document] * 2, 8, packing="pack", boundary=9)
>>> packed["tokens"].tolist()
[[9, 0, 1, 2, 3, 4, 9, 0, 1], [9, 2, 3, 4, 9, 9, 9, 9, 9]]
>>> packed["num_tokens"].tolist()
[8, 4]
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from jax_privacy import _validate

PACKINGS = ("truncate", "split", "pack")
_MAX_LENGTH = 2**20


class Tokens(NamedTuple):
  """A document's tokens.

  Attributes:
    tokens: Tokens of its context and its text, int [n].
    num_bytes: Bytes that each has, int [n].
    num_context: Number of tokens of the context.
  """

  tokens: np.ndarray
  num_bytes: np.ndarray
  num_context: int


def check(packing: str, length: int) -> None:
  """Checks how documents are to be cut.

  Args:
    packing: Name, see `sequences`.
    length: Number of tokens of a sequence.

  Raises:
    ValueError: If there is no such way, or the length is out of range.
  """
  if packing not in PACKINGS:
    _validate.fail("packing", f"one of {', '.join(PACKINGS)}", packing)
  _validate.integer("length", length, at_least=1)
  if length > _MAX_LENGTH:
    _validate.fail("length", f"at most {_MAX_LENGTH}", length)


def sequences(
    documents: Sequence[Tokens], length: int, *, packing: str, boundary: int
) -> dict[str, np.ndarray]:
  """Returns sequences as arrays.

  Args:
    documents: Documents, in order.
    length: Number of tokens to predict in a sequence, at most.
    packing: Name: "truncate" (the first `length` tokens of a document), "split"
      (all of a document, in several sequences if it is longer) or "pack" (all
      documents in a row, cut every `length` tokens).
    boundary: Token that begins a sequence, ends a document, and pads.

  Returns:
    "tokens", int32 [n, length + 1]; "num_tokens", int32 [n], of which position
    i is predicted for num_context <= i < num_tokens; "num_context", int32 [n];
    "num_bytes", int32 [n], of what is predicted; and "document", int32 [n], the
    document that the sequence begins in.

  Raises:
    ValueError: If an option breaks its rule, or a document has a context where
      packing is "pack".
  """
  check(packing, length)
  ended = [_ended(document, boundary) for document in documents]
  if packing == "pack":
    if any(document.num_context for document in documents):
      _validate.fail("packing", "truncate or split with a context", packing)
    pieces = _packed(ended, length)
  else:
    pieces = _of_one(ended, length, only_first=packing == "truncate")
  return _arrays(list(pieces), length, boundary)


def _ended(document: Tokens, boundary: int) -> Tokens:
  return Tokens(
      np.append(document.tokens, boundary),
      np.append(document.num_bytes, 0),
      document.num_context,
  )


def _of_one(
    documents: Sequence[Tokens], length: int, *, only_first: bool
) -> Iterator[tuple[int, Tokens]]:
  for number, (tokens, num_bytes, num_context) in enumerate(documents):
    # Of a long context the end is kept, and of the text the beginning.
    dropped = min(num_context, max(0, len(tokens) - length))
    tokens, num_bytes = tokens[dropped:], num_bytes[dropped:]
    context = num_context - dropped
    for start in range(0, len(tokens), length):
      part = slice(start, start + length)
      yield number, Tokens(tokens[part], num_bytes[part], context)
      context = 0
      if only_first:
        break


def _packed(
    documents: Sequence[Tokens], length: int
) -> Iterator[tuple[int, Tokens]]:
  if not documents:
    return
  tokens = np.concatenate([document.tokens for document in documents])
  num_bytes = np.concatenate([document.num_bytes for document in documents])
  sizes = [len(document.tokens) for document in documents]
  numbers = np.repeat(np.arange(len(documents)), sizes)
  for start in range(0, len(tokens), length):
    part = slice(start, start + length)
    yield int(numbers[start]), Tokens(tokens[part], num_bytes[part], 0)


def _arrays(pieces, length, boundary) -> dict[str, np.ndarray]:
  size = len(pieces)
  tokens = np.full((size, length + 1), boundary, np.int32)
  facts = np.zeros((4, size), np.int32)
  for i, (number, piece) in enumerate(pieces):
    count = len(piece.tokens)
    tokens[i, 1 : count + 1] = piece.tokens
    of_text = piece.num_bytes[piece.num_context :].sum()
    facts[:, i] = count, piece.num_context, of_text, number
  names = ("num_tokens", "num_context", "num_bytes", "document")
  return {"tokens": tokens, **dict(zip(names, facts, strict=True))}
