r"""Loads a split of documents from a file or a folder.

Invariant: which split a document is in depends on its own text alone, or on its
cell of the column `split_by`: to add a document moves no other.

>>> import pathlib, tempfile
>>> folder = tempfile.TemporaryDirectory()
>>> path = pathlib.Path(folder.name) / "lines.txt"
>>> _ = path.write_text("".join(f"line {i}\n" for i in range(20)))
>>> train = load_text(path=path, length=8, num_examples=14)
>>> train.describe()["tokeniser"], len(train)
('bytes', 14)
>>> train.tokeniser.decode(train[np.array([0])]["tokens"][0])
'line 1'
>>> folder.cleanup()
"""

import functools
import hashlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jax_privacy import _validate
from jax_privacy.data import source as source_lib
from jax_privacy.data.text import documents as documents_lib
from jax_privacy.data.text import packing as packing_lib
from jax_privacy.data.text import source as text_source
from jax_privacy.data.text import tokenisers

LENGTH, PACKING = 128, "split"


def load_text(
    *,
    split: str = "train",
    path: str | os.PathLike,
    length: int = LENGTH,
    packing: str = PACKING,
    tokeniser: str = "bytes",
    boundary: str = "",
    test_path: str = "",
    test_fraction: float = 0.1,
    split_by: str = "",
    text_column: str = "text",
    context_column: str = "",
    whole_files: bool = False,
    num_examples: int | None = None,
) -> text_source.TextSource:
  """Loads a split of documents.

  Args:
    split: Name of the split, "train" or "test".
    path: A file or a folder; see `documents.read`.
    length: Number of tokens that a sequence predicts, at most.
    packing: Name, "truncate", "split" or "pack"; see `packing.sequences`.
    tokeniser: Name "bytes", or the path of a file of `tokenizers` that was made
      from PUBLIC text.
    boundary: Name of that file's token between documents; "" for one more.
    test_path: A file or folder for "test"; "" to hold out documents of `path`.
    test_fraction: The chance of each document to be held out, by a hash of its
      text; equal texts are in the same split.
    split_by: Name of a column, such as the authors, whose cells are hashed
      instead, so that all of one are in the same split; "" for none.
    text_column: Name of the column, or key, that holds the text.
    context_column: Name of the one whose text is seen and not learnt, such as
      a question; "" for none.
    whole_files: Whether a .txt file is one document, and not one a line.
    num_examples: The stated number of sequences of the split.

  Returns:
    The source.

  Raises:
    ImportError: If a package that is needed is not installed.
    ValueError: If an option breaks its rule, or the file does.
  """
  split = source_lib.check_split(split)
  packing_lib.check(packing, length)
  is_whole = bool(test_path)
  if is_whole and split == "test":
    path = test_path
  if split_by and is_whole:
    raise ValueError(
        "split_by must be '' where no documents are held out of path, got"
        f" {split_by!r}."
    )
  if not isinstance(test_fraction, float) or not 0.0 < test_fraction < 1.0:
    raise ValueError(f"test_fraction must be in (0, 1), got {test_fraction!r}.")
  read = functools.partial(
      _documents,
      functools.partial(
          documents_lib.read,
          path,
          text_column=text_column,
          context_column=context_column,
          whole_files=whole_files,
      ),
      split="" if is_whole else split,
      limit=int(test_fraction * 2**64),
      split_by=split_by,
  )
  used = tokenisers.build(tokeniser, boundary=boundary)
  with source_lib.named(str(path)):
    tokens = [_tokens(used, document) for document in read()]
    arrays = packing_lib.sequences(
        tokens, length, packing=packing, boundary=used.boundary
    )
    return text_source.TextSource(
        arrays,
        tokeniser=used,
        packing=packing,
        num_examples=num_examples,
        # Of two files, two documents of one number are not the same.
        read_column=functools.partial(
            _column, read, arrays["document"], of=split if is_whole else ""
        ),
    )


def read_inputs(
    path: str | os.PathLike,
    *,
    like: text_source.TextSource,
    text_column: str = "text",
    whole_files: bool = False,
) -> text_source.TextSource:
  """Reads documents that are scored: the first tokens of each, one a row.

  Args:
    path: A file or a folder; see `documents.read`.
    like: Source whose length and tokeniser are used.
    text_column: Name of the column, or key, that holds the text.
    whole_files: Whether a .txt file is one document, and not one a line.

  Returns:
    A source with packing "truncate".

  Raises:
    ValueError: If the file cannot be read.
  """
  found = documents_lib.read(
      path, text_column=text_column, whole_files=whole_files
  )
  return _source(
      [_tokens(like.tokeniser, document) for document in found],
      length=like.length,
      tokeniser=like.tokeniser,
  )


def from_description(
    description: Mapping[str, Any], *, tokeniser: str = "", boundary: str = ""
) -> text_source.TextSource:
  """Returns a source without sequences, of a description.

  Args:
    description: Values of `TextSource.describe`, out of JSON.
    tokeniser: Path of the tokeniser's file, where it is one.
    boundary: Name of the file's token between documents.

  Raises:
    ImportError: If the package `tokenizers` is needed, and not installed.
    ValueError: If it is no such description, or the file is another.
  """
  kind, length, size = (
      description.get(name)
      for name in ("tokeniser", "length", "vocabulary_size")
  )
  length = _validate.integer("length", length, at_least=1)
  size = _validate.integer("vocabulary_size", size, at_least=3)
  if kind == "symbols":
    used = tokenisers.Symbols(size - 1)
  elif kind == "words":
    used = tokenisers.Words(_words(description.get("words")))
  elif kind in ("bytes", "file"):
    used = tokenisers.build(
        "bytes" if kind == "bytes" else tokeniser, boundary=boundary
    )
  else:
    raise ValueError(
        f"tokeniser must be bytes, symbols, words or file, got {kind!r:.100}."
    )
  for name, value in used.describe().items():
    if description.get(name) != value:
      rule = f"{description.get(name)!r}, as when the run began"
      _validate.fail(name, rule, value)
  packing_lib.check("truncate", length)
  return _source([], length=length, tokeniser=used)


def _words(words: Any) -> list[str]:
  if not isinstance(words, list) or not all(isinstance(w, str) for w in words):
    raise ValueError(f"words must be a list of texts, got {words!r:.100}.")
  return words


def _source(tokens, *, length, tokeniser) -> text_source.TextSource:
  arrays = packing_lib.sequences(
      tokens, length, packing="truncate", boundary=tokeniser.boundary
  )
  return text_source.TextSource(
      arrays,
      tokeniser=tokeniser,
      packing="truncate",
      num_examples=None,
      is_description=True,
  )


def _documents(
    read, *, split: str, limit: int, split_by: str, columns=()
) -> Iterator[documents_lib.Document]:
  """Yields the documents of a split; all if it is ""."""
  wanted = (*columns, *filter(None, [split_by]))
  for document in read(columns=wanted):
    if split:
      text = document.context + "\0" + document.text
      key = repr(document.cells[split_by]) if split_by else text
      digest = hashlib.blake2b(
          key.encode(errors="surrogatepass"), digest_size=8, person=b"split"
      )
      is_test = int.from_bytes(digest.digest(), "little") < limit
      if is_test != (split == "test"):
        continue
    yield document


def _tokens(
    tokeniser: tokenisers.Tokeniser, document: documents_lib.Document
) -> packing_lib.Tokens:
  context, text = map(tokeniser.encode, (document.context, document.text))
  tokens, num_bytes = (
      np.concatenate(pair) for pair in zip(context, text, strict=True)
  )
  return packing_lib.Tokens(tokens, num_bytes, len(context[0]))


def _column(read, numbers: np.ndarray, name: str, *, of: str) -> np.ndarray:
  cells = [document.cells[name] for document in read(columns=(name,))]
  if len(cells) <= numbers.max():
    raise ValueError("the documents must be those that were read, got fewer.")
  if name == documents_lib.DOCUMENT and of:
    cells = [f"{of} {cell}" for cell in cells]
  found = np.empty(len(numbers), object)
  found[:] = [cells[number] for number in numbers]
  return found
