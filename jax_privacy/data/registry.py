"""Loads a source from its name and options, as a config holds them.

Invariant: sources of labelled images are in this table, and those of tables in
`tables/registry.py`. To add one, write its file and add its line.

>>> len(load("digits", split="test"))
360
>>> load("digits", color="red")
Traceback (most recent call last):
...
ValueError: an option of 'digits' must be one of classes, image_shape, \
multi_label, num_examples, split, got 'color'.
"""

import functools
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any

from jax_privacy.data import (
    arrays,
    chexpert,
    digits,
    folder,
    idx,
    mimic_cxr,
    npz,
    published,
    tfds,
)
from jax_privacy.data import source as source_lib

_SOURCES: types.MappingProxyType[str, Callable[..., source_lib.Source]] = (
    types.MappingProxyType(
        {
            "arrays": arrays.load_arrays,
            "chexpert": chexpert.load_chexpert,
            "digits": digits.load_digits,
            "folder": folder.load_folder,
            "idx": idx.load_idx,
            "mimic_cxr": mimic_cxr.load_mimic_cxr,
            "npz": npz.load_npz,
            **{
                f"tfds:{n}": functools.partial(tfds.load_tfds, n)
                for n in published.SETS
            },
        }
    )
)


def names() -> tuple[str, ...]:
  """Returns the names that `load` takes, sorted."""
  return tuple(sorted(_SOURCES))


# What every source has, besides its examples.
_ATTRIBUTES = (
    *("__len__", "__getitem__", "num_examples", "label_names", "num_classes"),
    *("image_shape", "is_multi_label", "groups", "image_dtype", "in_memory"),
)


def load(
    name: str | Callable[..., source_lib.Source],
    *,
    split: str = "train",
    **options: Any,
) -> source_lib.Source:
  """Loads the source of that name.

  Args:
    name: One of `names()`; or a function or class of the caller's own, which
      takes `split`, `num_examples` and the options by name.
    split: Name: "train" or "test"; "valid" and "train+valid" too for
      "tfds:...", "chexpert" and "mimic_cxr"; any folder's name for "folder".
    **options: The source's own; every source takes `num_examples`, the stated
      number of examples.

  Returns:
    The source.

  Raises:
    ValueError: If the name or an option is unknown (the text lists the valid
      ones), an option is missing or invalid, the data are malformed, or what
      is loaded is no source.
  """
  name, make = resolve(name, _SOURCES, options)
  source = make(split=split, **options)
  if missing := sorted(set(_ATTRIBUTES) - set(dir(source))):
    raise ValueError(
        f"name must give a source, got {name!r}, which gives a"
        f" {type(source).__name__} without {missing[0]}."
    )
  return source


def resolve(
    name: str | Callable[..., Any],
    sources: Mapping[str, Callable[..., Any]],
    options: Mapping[str, Any],
) -> tuple[str, Callable[..., Any]]:
  """Returns the name of a source for error texts, and what makes it.

  Args:
    name: Name in the table, or a function of the caller's own.
    sources: Table of functions by name.
    options: Options by name, which are checked.

  Raises:
    ValueError: If the name or an option is unknown, or an option is missing.
  """
  if callable(name):
    name, make = f"{name.__module__}:{name.__qualname__}", name
  elif name in sources:
    make = sources[name]
  else:
    rule = f"one of {', '.join(sorted(sources))}"
    raise ValueError(f"name must be {rule}, got {name!r}.")
  _check_options(name, make, options)
  return name, make


def _check_options(
    name: str, make: Callable[..., Any], options: Mapping[str, Any]
) -> None:
  """Refuses an unknown option, and a missing one."""
  parameters = inspect.signature(make).parameters
  for option in options:
    if option not in parameters:
      raise ValueError(
          f"an option of {name!r} must be one of"
          f" {', '.join(sorted(parameters))}, got {option!r}."
      )
  for option, parameter in parameters.items():
    given = option in options or option == "split"
    if parameter.default is parameter.empty and not given:
      raise ValueError(f"{option} must be given for {name!r}, got none.")
