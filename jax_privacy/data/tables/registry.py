"""Loads a source of tables from its name and options, as a config holds them.

Invariant: this table is the only list of sources of tables. To add one, write
its file and add its line here.

>>> names()
('breast_cancer', 'table', 'wine')
>>> len(load("wine", split="test"))
36
"""

import types
from collections.abc import Callable
from typing import Any

from jax_privacy.data import registry
from jax_privacy.data.tables import bundled, splits
from jax_privacy.data.tables import source as source_lib

_SOURCES: types.MappingProxyType[str, Callable[..., source_lib.TableSource]] = (
    types.MappingProxyType(
        {
            "breast_cancer": bundled.load_breast_cancer,
            "table": splits.load_table,
            "wine": bundled.load_wine,
        }
    )
)


# What the task of tables asks of a source; one of the caller's own may have no
# `encoder`, without which no rows of a file are predicted.
_MEMBERS = (
    *("__len__", "__getitem__", "num_examples", "target", "label_names"),
    *("num_classes", "number_names", "category_names", "category_sizes"),
    "describe",
)


def names() -> tuple[str, ...]:
  """Returns the names that `load` takes, sorted."""
  return tuple(sorted(_SOURCES))


def load(
    name: str | Callable[..., source_lib.TableSource],
    *,
    split: str = "train",
    **options: Any,
) -> source_lib.TableSource:
  """Loads the source of that name.

  Args:
    name: One of `names()`; or a function of the caller's own, which takes
      `split`, `num_examples` and the options by name.
    split: Name of the split, "train" or "test".
    **options: The source's own; every source takes `num_examples`, the stated
      number of rows.

  Returns:
    The source.

  Raises:
    ImportError: If a package that it needs is not installed.
    ValueError: If the name or an option is unknown (the text lists the valid
      ones), an option is missing or invalid, the data are malformed, or what
      is loaded is neither a `TableSource` nor has its members.
  """
  name, make = registry.resolve(name, _SOURCES, options)
  source = make(split=split, **options)
  if missing := [m for m in _MEMBERS if not hasattr(type(source), m)]:
    missing = [m for m in missing if m not in getattr(source, "__dict__", {})]
  if missing:
    raise ValueError(
        f"name must give a TableSource, or what has its members, got {name!r},"
        f" which gives a {type(source).__name__} without {missing[0]!r}."
    )
  return source
