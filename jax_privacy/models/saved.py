"""Fills a model with parameters that were saved elsewhere, by name.

Invariant: a parameter keeps its fresh value only where that was asked for.
Whatever is missing, unknown, of another shape or no finite number is an error
that names it; nothing is matched by its place in a list.

A parameter's name is its dotted path: "blocks.0.conv_0.kernel".

>>> from flax import nnx
>>> from jax_privacy import models
>>> _, params = models.functional(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
>>> names = match(params, ["bias", "kernel"], reset=("bi.*",))
>>> names
{'kernel': 'kernel'}
>>> filled = fill(params, {"kernel": np.ones((2, 3))})
>>> filled["kernel"].sum().item(), filled["bias"].tolist()
(6.0, [0.0, 0.0, 0.0])
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

Params: TypeAlias = dict[str, Any]

_MOST_NAMES = 5
_MOST_LETTERS = 80


def flatten(params: Params) -> dict[str, jax.Array]:
  """Returns the leaves of nested dicts by their dotted paths, sorted.

  Args:
    params: Nested dicts of arrays.
  """
  leaves, _ = jax.tree_util.tree_flatten_with_path(params)
  flat = {".".join(str(key.key) for key in path): leaf for path, leaf in leaves}
  return dict(sorted(flat.items()))


def matching(params: Params, reset: Sequence[str]) -> frozenset[str]:
  """Returns the paths that at least one of the regular expressions matches.

  Args:
    params: Nested dicts of arrays.
    reset: Regular expressions, to match whole dotted paths.

  Raises:
    ValueError: If one is no regular expression, or matches nothing.
  """
  paths, found = tuple(flatten(params)), set()
  for text in reset:
    try:
      pattern = re.compile(text)
    except (re.error, TypeError, OverflowError, RecursionError) as error:
      raise ValueError(
          "reset must hold regular expressions, got"
          f" {_short(repr(text))}: {_short(str(error))}."
      ) from error
    matched = set(filter(pattern.fullmatch, paths))
    if not matched:
      raise ValueError(
          "reset must hold regular expressions of parameters' whole dotted"
          f" paths, such as {paths[0]}, got {_short(repr(text))}, which matches"
          " none."
      )
    found |= matched
  return frozenset(found)


def match(
    params: Params,
    given: Iterable[str],
    *,
    reset: Sequence[str] = (),
    names: Mapping[str, str] | None = None,
) -> dict[str, str]:
  """Finds under which of the given names each parameter was saved.

  Args:
    params: Parameters of the model, nested dicts.
    given: Names that the file has.
    reset: Regular expressions of dotted paths that are not to be filled: the
      classifier, where the classes differ. The file may have them or not.
    names: Saved name of each path; None for the path itself.

  Returns:
    Saved name of each path that is to be filled.

  Raises:
    ValueError: If a name is missing, or the model lacks one of those given; the
      text lists the names.
  """
  kept = matching(params, reset)
  names = {path: path for path in flatten(params)} if names is None else names
  wanted = {path: name for path, name in names.items() if path not in kept}
  given = set(given)
  missing = sorted(set(wanted.values()) - given)
  unknown = sorted(given - set(names.values()))
  if missing or unknown:
    raise ValueError(
        "saved parameters must be the model's, got"
        f" {_listed(missing)} missing and {_listed(unknown)} unknown."
    )
  return wanted


def fill(params: Params, arrays: Mapping[str, Any]) -> Params:
  """Returns the parameters with some of them replaced.

  Args:
    params: Parameters of the model, nested dicts.
    arrays: Arrays by dotted path, of the model's shapes and any float dtype. An
      array of shape [1] may give a scalar.

  Returns:
    Parameters of the same structure, shapes and dtypes.

  Raises:
    ValueError: If a path is not the model's, or an array is of another shape,
      not of floats, or not finite.
  """
  flat = flatten(params)
  if unknown := sorted(set(arrays) - set(flat)):
    raise ValueError(
        f"arrays must be of the model's parameters, got {_listed(unknown)}."
    )
  new = {path: _fitted(path, arrays[path], flat[path]) for path in arrays}
  return _mapped(params, new)


def _mapped(node: Params, new: Mapping[str, Any], prefix: str = "") -> Params:
  return {
      key: _mapped(value, new, f"{prefix}{key}.")
      if isinstance(value, dict)
      else new.get(f"{prefix}{key}", value)
      for key, value in node.items()
  }


def _fitted(path: str, value: Any, like: jax.Array) -> jax.Array:
  array = np.asarray(value)
  if array.shape != like.shape and (array.shape, like.shape) != ((1,), ()):
    raise ValueError(
        f"{path} must be of the model's shape, {list(like.shape)}, got"
        f" {list(array.shape)}: if it need not be kept, reset it."
    )
  if not jnp.issubdtype(array.dtype, jnp.floating):
    raise ValueError(f"{path} must be floats, got {array.dtype}.")
  with np.errstate(over="ignore"):  # Becomes an infinity, refused below.
    array = array.astype(like.dtype).reshape(like.shape)
  if not np.isfinite(array.astype(np.float32)).all():
    raise ValueError(f"{path} must be finite in {like.dtype}, got inf or NaN.")
  return jnp.asarray(array)


def _listed(names: Sequence[str]) -> str:
  """Returns the names on one line, cut where there are many."""
  if not names:
    return "none"
  shown = ", ".join(map(_short, names[:_MOST_NAMES]))
  rest = len(names) - _MOST_NAMES
  return f"{shown} and {rest} more" if rest > 0 else shown


def _short(text: str) -> str:
  line = " ".join(text.split())
  line = line if line.isprintable() else ascii(line)
  return line if len(line) <= _MOST_LETTERS else f"{line[:_MOST_LETTERS]}..."
