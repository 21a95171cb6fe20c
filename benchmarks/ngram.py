"""How many bits a byte an n-gram needs: what a model of text must be below.

  python -m benchmarks.ngram --path=data/shakespeare --length=128 --max_order=6

counts the training split of a text, without privacy, and scores the test split
of the same sequences that a run with `data.source=text` trains on and is
evaluated on. A probability mixes all orders, as Witten and Bell 1991 do: after
a context that was seen n times, with k tokens behind it, the count of a token
has the weight n / (n + k), and the shorter context the rest.

Invariant: the probabilities of all tokens after a context sum to 1, and a
context never reaches beyond its own sequence.

>>> tokens = np.array([[2, 0, 1, 0, 1, 0]])
>>> model = NGram(tokens, np.array([5]), order=2, vocabulary_size=3)
>>> np.exp(-model.nll(tokens, np.array([5]))).round(3).tolist()  # P(01010)
[0.34]
"""

import argparse
import sys
from collections.abc import Iterator

import numpy as np

from jax_privacy.data import text

_MAX_KEY = 2**63 - 1


class NGram:
  """Counts of the tokens after each context of up to order - 1 tokens.

  Args:
    tokens: Sequences, integers [n, length + 1], each behind a boundary.
    num_tokens: Number of tokens behind the boundary, integers [n].
    order: Number of tokens of the longest pieces that are counted; 1 counts
      tokens alone.
    vocabulary_size: Number of tokens.

  Raises:
    ValueError: If the order is not positive, or a context fits no int64.
  """

  def __init__(
      self,
      tokens: np.ndarray,
      num_tokens: np.ndarray,
      *,
      order: int,
      vocabulary_size: int,
  ):
    if order < 1 or vocabulary_size ** (order + 1) > _MAX_KEY:
      raise ValueError(
          "order must be positive, and (order + 1) tokens fit into an int64,"
          f" got {order}."
      )
    self.order, self.vocabulary_size = order, vocabulary_size
    self._counts = [
        _Counts(context, target, vocabulary_size)
        for context, target, _ in self._pieces(tokens, num_tokens)
    ]

  def nll(
      self,
      tokens: np.ndarray,
      num_tokens: np.ndarray,
      *,
      order: int | None = None,
  ) -> np.ndarray:
    """Returns -log p of sequences, in nats, float64 [n].

    Args:
      tokens: Sequences, as those that were counted.
      num_tokens: Number of tokens behind the boundary, integers [n].
      order: Number of tokens of the longest pieces to use; None for all.
    """
    is_token = _is_token(tokens, num_tokens)
    probs = np.full(is_token.shape, 1.0 / self.vocabulary_size)
    used = self._counts[: order or self.order]
    pieces = self._pieces(tokens, num_tokens)
    # Of the pieces, one for each order that is used.
    for counts, (context, target, place) in zip(used, pieces, strict=False):
      probs[place] = counts.mix(context, target, probs[place])
    return -np.where(is_token, np.log(probs), 0.0).sum(axis=1)

  def _pieces(
      self, tokens, num_tokens
  ) -> Iterator[tuple[np.ndarray, np.ndarray, tuple[np.ndarray, ...]]]:
    """Yields contexts as integers, the tokens behind, and their places."""
    tokens = tokens.astype(np.int64)
    is_token = _is_token(tokens, num_tokens)
    for size in range(self.order):
      # Position i of `targets` has i + 1 tokens before it.
      start = max(size - 1, 0)
      keys = np.zeros((len(tokens), tokens.shape[1] - 1 - start), np.int64)
      for back in range(size, 0, -1):
        first = start + 1 - back
        last = first + keys.shape[1]
        keys = keys * self.vocabulary_size + tokens[:, first:last]
      row, column = np.nonzero(is_token[:, start:])
      place = row, column + start
      yield keys[row, column], tokens[:, 1:][place], place


class _Counts:
  """How often each context was seen, and each token behind it."""

  def __init__(self, context, target, vocabulary_size):
    self._vocabulary_size = vocabulary_size
    self._pairs, self._times = np.unique(
        context * vocabulary_size + target, return_counts=True
    )
    self._contexts, first, self._kinds = np.unique(
        self._pairs // vocabulary_size, return_index=True, return_counts=True
    )
    # Without contexts, as of an empty split, there is nothing to add.
    sums = np.add.reduceat(self._times, first) if len(first) else first
    self._seen = sums

  def mix(self, context, target, shorter):
    """Returns P(target | context), given P(target | the shorter context)."""
    seen = _found(self._contexts, self._seen, context)
    kinds = _found(self._contexts, self._kinds, context)
    pairs = context * self._vocabulary_size + target
    times = _found(self._pairs, self._times, pairs)
    total = seen + kinds
    mixed = (times + kinds * shorter) / np.maximum(total, 1)
    return np.where(total > 0, mixed, shorter)


def _found(keys, values, wanted) -> np.ndarray:
  """Returns the values of the keys that are wanted; 0 where there is none."""
  if not len(keys):
    return np.zeros(len(wanted), np.int64)
  at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
  return np.where(keys[at] == wanted, values[at], 0)


def _is_token(tokens, num_tokens) -> np.ndarray:
  places = np.arange(tokens.shape[1] - 1)
  return places[None] < np.asarray(num_tokens)[:, None]


def bits_per_byte(
    path: str, *, length: int, max_order: int
) -> Iterator[tuple[int, float]]:
  """Yields orders, and bits a byte of the test split.

  Args:
    path: A file or folder of text; see `jax_privacy.data.text`.
    length: Number of bytes of a sequence, at most.
    max_order: Number of tokens of the longest pieces.
  """
  train, test = (
      text.load("text", path=path, split=split, length=length, packing=packing)
      for split, packing in (("train", "pack"), ("test", "split"))
  )
  ours, theirs = (source[np.arange(len(source))] for source in (train, test))
  model = NGram(
      ours["tokens"],
      ours["num_tokens"],
      order=max_order,
      vocabulary_size=train.tokeniser.vocabulary_size,
  )
  num_bits = theirs["num_bytes"].sum() * np.log(2.0)
  for order in range(1, max_order + 1):
    nll = model.nll(theirs["tokens"], theirs["num_tokens"], order=order)
    yield order, float(nll.sum() / num_bits)


def main(argv: list[str]) -> None:
  """Prints a line for each order.

  Args:
    argv: Arguments of the command line.
  """
  parser = argparse.ArgumentParser(description="Bits a byte of n-grams.")
  parser.add_argument("--path", required=True, help="a file or folder of text")
  parser.add_argument("--length", type=int, default=128, help="of a sequence")
  parser.add_argument("--max_order", type=int, default=6, help="of n-grams")
  args = parser.parse_args(argv)
  try:
    for order, bits in bits_per_byte(
        args.path, length=args.length, max_order=args.max_order
    ):
      print(f"order {order}: {bits:.3f} bits a byte", flush=True)
  except (OSError, ValueError) as error:
    sys.exit(str(error))


if __name__ == "__main__":
  main(sys.argv[1:])
