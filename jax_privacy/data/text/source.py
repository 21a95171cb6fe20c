"""A source of sequences of tokens, in memory.

Invariant: `source[indices]` is a pure function of the indices; index -1 is
padding: boundaries alone, none of which is predicted.

>>> from jax_privacy.data import text
>>> source = text.load("copy", num_symbols=3, length=6, num_examples=4)
>>> batch = source[np.array([0, -1])]
>>> batch["tokens"].tolist(), batch["num_context"].tolist()
([[3, 1, 2, 2, 1, 2, 2], [3, 3, 3, 3, 3, 3, 3]], [3, 0])
>>> batch["num_tokens"].tolist()
[6, 0]
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from jax_privacy import _validate
from jax_privacy.data import bounded, columns, digest
from jax_privacy.data import source as source_lib
from jax_privacy.data.text import packing as packing_lib
from jax_privacy.data.text import tokenisers

# What an example is, for people.
_EXAMPLES = {
    "truncate": "a document, of which the first {length} tokens are used",
    "split": (
        "a sequence of at most {length} tokens of one document; a longer"
        " document is several examples"
    ),
    "pack": (
        "a packed sequence of {length} tokens, with parts of one document or"
        " several: no document is protected as a whole"
    ),
}


def example_is(*, packing: str, length: int) -> str:
  """Returns what one example is, in words: what a guarantee is for.

  Args:
    packing: Name of how documents are cut, see `packing.sequences`.
    length: Number of tokens of a sequence.

  Raises:
    ValueError: If there is no such way, or the length is out of range.
  """
  packing_lib.check(packing, length)
  return _EXAMPLES[packing].format(length=length)


class TextSource:
  """Sequences of tokens.

  Args:
    arrays: Arrays of `packing.sequences`.
    tokeniser: Tokeniser of the tokens.
    packing: Name of how documents were cut.
    num_examples: Stated number of sequences; must be the number in the arrays.
    read_column: Function that returns a column of the sequences, by name.
    is_description: Whether there may be no sequence.

  Attributes:
    tokeniser: Tokeniser of the tokens.
    packing: Name of how documents were cut.
    length: Number of tokens that a sequence predicts, at most.

  Raises:
    ValueError: If there is no sequence, or the stated number is not what was
      found.
  """

  in_memory = True

  def __init__(
      self,
      arrays: Mapping[str, np.ndarray],
      *,
      tokeniser: tokenisers.Tokeniser,
      packing: str,
      num_examples: int | None,
      read_column: Callable[[str], np.ndarray] | None = None,
      is_description: bool = False,
  ):
    self._arrays, self.tokeniser, self.packing = (
        dict(arrays),
        tokeniser,
        packing,
    )
    self.length = self._arrays["tokens"].shape[1] - 1
    self._read_column = read_column or columns.held({})
    self._stated = num_examples
    if not len(self) and not is_description:
      raise ValueError("a split must hold a sequence, got none.")
    if num_examples is not None:
      _validate.integer("num_examples", num_examples, at_least=1)
      if num_examples != len(self):
        raise ValueError(
            "num_examples must be the number of sequences of the split,"
            f" {len(self)} ({bounded.PRIVATE}, unless you state it in a config"
            f" as data.num_examples), got {num_examples}."
        )

  @property
  def num_examples(self) -> int:
    """The stated number of sequences.

    Raises:
      ValueError: If none was stated; the text has the number that was found,
        and says that it is private.
    """
    if self._stated is None:
      raise ValueError(
          "num_examples must be stated (in a config: data.num_examples) for the"
          " accounting, which makes it public, got None: this split has"
          f" {len(self)} sequences ({bounded.PRIVATE}, unless you state it)."
      )
    return self._stated

  def __len__(self) -> int:
    return len(self._arrays["tokens"])

  def __getitem__(self, indices: np.ndarray) -> source_lib.Batch:
    """Returns the sequences at a 1-D array of integers; -1 is padding.

    Returns:
      What `packing.sequences` returns, of these.
    """
    rows, padding = source_lib.check_indices(indices, length=len(self))
    batch = {}
    for name, array in self._arrays.items():
      nothing = self.tokeniser.boundary if name == "tokens" else 0
      batch[name] = np.full((len(rows), *array.shape[1:]), nothing, array.dtype)
      batch[name][~padding] = array[rows[~padding]]
    return batch

  def describe(self) -> dict[str, Any]:
    """Returns what sequences are, for JSON: public, and not of the text."""
    return {
        "length": self.length,
        "packing": self.packing,
        **self.tokeniser.describe(),
    }

  def digest_parts(self) -> Iterator[digest.Part]:
    """Yields what tells these sequences from others."""
    for name in sorted(self._arrays):
      yield name
      yield self._arrays[name]

  def column(self, name: str) -> np.ndarray:
    """Returns a column of the documents: private, as the text is.

    Args:
      name: Name of a column, such as the author's; "document" is a document's
        own number.

    Returns:
      Values [len(self)], in order of index.

    Raises:
      ValueError: If there is none of that name, or sequences are packed, so
        that one may be of several documents.
    """
    if self.packing == "pack":
      rule = "truncate or split where sequences have a unit"
      _validate.fail("packing", rule, self.packing)
    return self._read_column(name)
