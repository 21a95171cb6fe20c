"""Sequences that are made on the fly, to compare kinds of models.

Invariant: a split is a pure function of its name and of the options.

>>> source = load_copy(num_symbols=2, length=4, num_examples=3)
>>> source.tokeniser.decode(source[np.array([2])]["tokens"][0])
'abab'
"""

import numpy as np

from jax_privacy import _validate
from jax_privacy.data import source as source_lib
from jax_privacy.data.text import source as text_source
from jax_privacy.data.text import tokenisers

_NUM_TEST = 256


def load_copy(
    *,
    split: str = "train",
    length: int = 16,
    num_symbols: int = 8,
    num_examples: int | None = None,
) -> text_source.TextSource:
  """Makes sequences whose second half is the first again.

  The first half is the context: what is learnt is to copy it.

  Args:
    split: Name of the split, "train" or "test", of other sequences.
    length: Number of tokens of a sequence, even.
    num_symbols: Number of symbols, 2 to 26.
    num_examples: Number of sequences of "train", 1024 by default; of "test"
      there are 256.

  Returns:
    The source.

  Raises:
    ValueError: If an option breaks its rule.
  """
  split = source_lib.check_split(split)
  _validate.integer("length", length, at_least=2)
  if length % 2:
    _validate.fail("length", "even", length)
  tokeniser = tokenisers.Symbols(num_symbols)
  num_examples = 1024 if num_examples is None else num_examples
  _validate.integer("num_examples", num_examples, at_least=1)
  if split == "test":
    num_examples = _NUM_TEST
  rng = np.random.default_rng([split == "test", length, num_symbols])
  half = rng.integers(0, num_symbols, (num_examples, length // 2), np.int32)
  first = np.full((num_examples, 1), tokeniser.boundary, np.int32)
  sizes = {"num_tokens": length, "num_context": length // 2}
  sizes["num_bytes"] = length // 2
  return text_source.TextSource(
      {
          "tokens": np.concatenate([first, half, half], axis=1),
          **{k: np.full(num_examples, v, np.int32) for k, v in sizes.items()},
          "document": np.arange(num_examples, dtype=np.int32),
      },
      tokeniser=tokeniser,
      packing="truncate",
      num_examples=num_examples,
  )
