"""What every recipe shares: its fields, and arguments after the colon.

Invariant: a recipe is numbers and names only, so this folder never imports JAX.
Every field that a run reads is in `base()`; the config is locked, so that a
misspelt override is an error and not a silent default.

Example:
  >>> from configs import common
  >>> common.parse_arg("epsilon=1", epsilon=3.0, smoke=False)
  {'epsilon': 1.0, 'smoke': False}
  >>> common.parse_arg("epslon=1", epsilon=3.0)
  Traceback (most recent call last):
  ...
  ValueError: config argument must be one of epsilon, got 'epslon'.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
from ml_collections import config_dict

from configs import fields

_MAX_SHOWN = 100
_BOOLS = {"true": True, "1": True, "false": False, "0": False}


def parse_arg(arg: str | None, **defaults: Any) -> dict[str, Any]:
  """Reads `key=value,key=value`, each value of the type of its default.

  Args:
    arg: Text after the colon in `--config=file.py:...`; None or "" for nothing.
    **defaults: Defaults by key, each a bool, int, float or str.

  Returns:
    The defaults, replaced by the values in `arg`.

  Raises:
    ValueError: For an unknown key, one given twice, or a value of another type.
  """
  values = dict(defaults)
  seen = set()
  for item in filter(None, (arg or "").split(",")):
    key, _, text = item.partition("=")
    if key not in defaults:
      valid = ", ".join(sorted(defaults))
      raise ValueError(
          f"config argument must be one of {valid}, got {_shown(key)}."
      )
    if key in seen:
      raise ValueError(
          f"config argument {key} must be given once, got {_shown(arg)}."
      )
    seen.add(key)
    values[key] = _convert(key, text, type(defaults[key]))
  return values


def _convert(key: str, text: str, kind: type) -> Any:
  try:
    return _BOOLS[text.lower()] if kind is bool else kind(text)
  except (KeyError, ValueError):
    rule = f"config argument {key} must be of type {kind.__name__}"
    raise ValueError(f"{rule}, got {_shown(text)}.") from None


def _shown(text: str) -> str:
  return repr(text) if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]!r}..."


def base() -> ml_collections.ConfigDict:
  """Returns a config of every field, each with its default, locked.

  `configs.fields` has the meaning and the rule of each, and docs/config.md the
  table of all.

  Raises:
    TypeError: If a field is declared without its meaning or its rule.
  """
  fields.check(fields.FIELDS)
  # Locked, so that a recipe's own misspelt field is an error too.
  return ml_collections.ConfigDict(_defaults(fields.FIELDS)).lock()


def _defaults(tree: Mapping[str, Any]) -> dict[str, Any]:
  return {
      key: _default(value)
      if isinstance(value, fields.Field)
      else _defaults(value)
      for key, value in tree.items()
  }


def _default(field: fields.Field) -> Any:
  if field.default is None:
    return config_dict.placeholder(field.kind)
  return copy.deepcopy(field.default)


def make_smoke(
    config: ml_collections.ConfigDict,
    *,
    image_shape: tuple[int, int, int] | None = None,
) -> None:
  """Cuts a recipe down to seconds: few steps on the bundled digits.

  Args:
    config: Recipe, which is changed in place.
    image_shape: Height, width and channels to which the digits are enlarged, to
      replace other images; None for 8x8x1.
  """
  config.data.source = "digits"
  config.data.options = (
      {} if image_shape is None else {"image_shape": image_shape}
  )
  config.data.test_options = {}
  config.data.train_split, config.data.test_split = "train", "test"
  config.data.num_examples = None
  config.model.restore.path = None
  config.dp.delta = 1e-4
  config.train.expected_batch_size = 16
  config.train.num_epochs = None
  config.train.num_steps = 3
  config.physical_batch_size = None
  config.eval.num_examples = 40
  config.eval.batch_size = 20


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
  """Refuses a value of a config argument that the recipe has no row for.

  Args:
    name: Name of the argument.
    value: Value of the argument.
    choices: Values that the recipe has a row for.

  Raises:
    ValueError: If the value is none of the choices.
  """
  if value not in choices:
    raise ValueError(
        f"config argument {name} must be one of {list(choices)}, got {value!r}."
    )


def set_options(options: ml_collections.ConfigDict, **values: Any) -> None:
  """Adds options to a section that the config locks, such as a source's.

  Args:
    options: Section, which is changed in place.
    **values: Options to add or replace.
  """
  with options.unlocked():
    options.update(values)
