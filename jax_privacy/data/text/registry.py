"""Loads a source of text from its name and options, as a config holds them.

Invariant: this table is the only list of sources of text. To add one, write its
file and add its line here.

>>> names()
('copy', 'listops', 'text')
>>> len(load("copy", split="test"))
256
"""

import types
from collections.abc import Callable
from typing import Any

from jax_privacy.data import registry
from jax_privacy.data.text import listops, made, splits
from jax_privacy.data.text import source as source_lib

_SOURCES: types.MappingProxyType[str, Callable[..., source_lib.TextSource]] = (
    types.MappingProxyType(
        {
            "copy": made.load_copy,
            "listops": listops.load_listops,
            "text": splits.load_text,
        }
    )
)


def names() -> tuple[str, ...]:
  """Returns the names that `load` takes, sorted."""
  return tuple(sorted(_SOURCES))


def load(
    name: str | Callable[..., source_lib.TextSource],
    *,
    split: str = "train",
    **options: Any,
) -> source_lib.TextSource:
  """Loads the source of that name.

  Args:
    name: One of `names()`; or a function of the caller's own, which takes
      `split`, `num_examples` and the options by name.
    split: Name of the split, "train" or "test".
    **options: The source's own; every source takes `num_examples`, the stated
      number of sequences.

  Returns:
    The source.

  Raises:
    ImportError: If a package that it needs is not installed.
    ValueError: If the name or an option is unknown (the text lists the valid
      ones), an option is missing or invalid, the data are malformed, or what
      is loaded is no `TextSource`.
  """
  name, make = registry.resolve(name, _SOURCES, options)
  source = make(split=split, **options)
  if not isinstance(source, source_lib.TextSource):
    raise ValueError(
        f"name must give a TextSource, got {name!r}, which gives a"
        f" {type(source).__name__}."
    )
  return source
