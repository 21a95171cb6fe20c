"""Text: documents of files and folders, as sequences of tokens.

Invariant: the vocabulary is public, and no sequence mixes documents unless the
sequence itself is the unit of privacy; see docs/language.md.

>>> from jax_privacy.data import text
>>> source = text.load("copy", split="train")
>>> len(source), source.length, source.tokeniser.vocabulary_size
(1024, 16, 9)
"""

from jax_privacy.data.text.documents import Document as Document
from jax_privacy.data.text.documents import read as read_documents
from jax_privacy.data.text.packing import PACKINGS as PACKINGS
from jax_privacy.data.text.registry import load as load
from jax_privacy.data.text.registry import names as names
from jax_privacy.data.text.source import TextSource as TextSource
from jax_privacy.data.text.source import example_is as example_is
from jax_privacy.data.text.splits import LENGTH as LENGTH
from jax_privacy.data.text.splits import PACKING as PACKING
from jax_privacy.data.text.splits import from_description as from_description
from jax_privacy.data.text.splits import load_text as load_text
from jax_privacy.data.text.splits import read_inputs as read_inputs
from jax_privacy.data.text.tokenisers import Tokeniser as Tokeniser
from jax_privacy.data.text.tokenisers import build as build_tokeniser

__all__ = (
    "Document",
    "LENGTH",
    "PACKING",
    "PACKINGS",
    "TextSource",
    "Tokeniser",
    "build_tokeniser",
    "example_is",
    "from_description",
    "load",
    "load_text",
    "names",
    "read_documents",
    "read_inputs",
)


def __dir__() -> list[str]:
  return list(__all__)
