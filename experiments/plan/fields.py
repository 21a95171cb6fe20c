"""Checks a config field by field, before anything is built from it.

The invariant: after `check` every field of `configs.common.base` is there, with
a value of its kind and no number that float32 does not hold; whatever rule is
broken further on is then a ValueError, and never a TypeError or a NaN.

>>> from configs import common
>>> config = common.base()
>>> config.train.learning_rate = float("nan")
>>> check_kinds(config)
Traceback (most recent call last):
ValueError: train.learning_rate must be a number that float32 holds, got nan.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import ml_collections

from configs import common
from experiments.plan import averages, not_private, public_files, units
from experiments.tasks import imported, registry, sections
from jax_privacy import _validate

# What config.json holds that is no field; keys in it may have dots.
IMPORTED = "imported"
RECORDED = (IMPORTED, public_files.KEY)
# Of `model.restore`; "auto" tells the others apart.
FORMATS = ("auto", "run", "npz", "haiku")
_MAX_FLOAT32 = 2.0**128 - 2.0**104
_MAX_AHEAD = 1024  # Processes, or batches in memory.

_KINDS = {
    bool: "true or false",
    float: "a number that float32 holds",
    int: "an integer",
    str: "a string",
    tuple: "a sequence of strings or of numbers that float32 holds",
    ml_collections.ConfigDict: "named options",
}


def check(config: ml_collections.ConfigDict) -> None:
  """Checks what can be checked of a config without building anything.

  Args:
    config: Config with the fields of `configs.common.base`.

  Raises:
    ValueError: If a field is missing or breaks its rule; the text names it.
  """
  check_kinds(config)
  _check_numbers(config)
  units.check(config.data)
  registry.build(**task_sections(config))  # It checks its own.
  names = averages.names(config.train)
  sections.check_choice("eval.params", config.eval.params, names)
  sections.check_choice(
      "model.restore.format", config.model.restore.format, FORMATS
  )
  counts = {
      "physical_batch_size": config.physical_batch_size,
      "eval.batch_size": config.eval.batch_size,
      "eval.num_examples": config.eval.num_examples,
      "log_every": config.log_every,
      "save_every": config.save_every,
      "mesh.data": config.mesh.data,
      "mesh.fsdp": config.mesh.fsdp,
  }
  for name, value in counts.items():
    if value is not None and value < 1:
      raise ValueError(f"{name} must be at least 1, got {value}.")
  for name in ("num_workers", "prefetch"):
    if not 0 <= config.data[name] <= _MAX_AHEAD:
      raise ValueError(
          f"data.{name} must be in [0, {_MAX_AHEAD}], got {config.data[name]}."
      )
  if not config.dp.enabled:
    unused = {"train_metrics": False, "dp.grid_scale": None}
    for name, value in unused.items():
      if (given := _get(config, name)) != value:
        raise ValueError(
            f"{name} must be {value} where dp.enabled is False (the run is"
            f" {not_private.LABEL}, and clips nothing), got {given}."
        )
  num_devices = config.mesh.data * config.mesh.fsdp
  if config.train_metrics and num_devices > 1:
    raise ValueError(
        "train_metrics must be False where mesh.data x mesh.fsdp is above 1"
        f" (norms are read on one device), got True with {num_devices}."
    )


def _check_numbers(config: ml_collections.ConfigDict) -> None:
  """Refuses, by the field's name, what no run can have: before data are read.

  Rules that need other fields, or the data's size, follow when it is built.
  """
  for name in ("epsilon", "noise_multiplier", "l2_clip_norm"):
    value = config.dp[name]
    if value is not None and not value > 0:
      raise ValueError(f"dp.{name} must be a number above 0, got {value}.")
  delta = config.dp.delta
  if delta is not None and not 0 < delta < 1:
    raise ValueError(f"dp.delta must be in (0, 1), got {delta}.")
  steps, batch_size = config.train.num_steps, config.train.expected_batch_size
  if steps is not None and steps < 1:
    raise ValueError(f"train.num_steps must be at least 1, got {steps}.")
  if batch_size < 0:
    raise ValueError(
        f"train.expected_batch_size must be above 0, got {batch_size}."
    )
  num_examples = config.data.num_examples
  if num_examples is not None and num_examples < 1:
    raise ValueError(
        f"data.num_examples must be at least 1, got {num_examples}."
    )


def task_sections(
    config: ml_collections.ConfigDict,
) -> dict[str, ml_collections.ConfigDict]:
  """Returns the sections that a task takes, as `registry.build` names them.

  Args:
    config: Config that `check_kinds` accepts.
  """
  names = ("task", "data", "model", "augment", "loss", "eval")
  return {f"{name}_config": config[name] for name in names}


def find_own(config: ml_collections.ConfigDict) -> dict[str, Any] | None:
  """Imports all own code that a config names, and says what it is.

  Args:
    config: Config that `check_kinds` accepts.

  Returns:
    See `imported.facts`.

  Raises:
    ValueError: If a name is not found; the text names the field.
  """
  given = {name: _get(config, name) for name in imported.FIELDS}
  pairs = [
      (field, name)
      for field, names in given.items()
      for name in ([names] if isinstance(names, str) else names)
  ]
  own = [(field, name) for field, name in pairs if imported.is_own(name)]
  for field, name in own:
    imported.find(field, name)
  return imported.facts(name for _, name in own)


def check_kinds(config: ml_collections.ConfigDict) -> None:
  """Checks that every field is there, with a value of its kind.

  Args:
    config: Config with the fields of `configs.common.base`.

  Raises:
    ValueError: If a field is missing or of another kind; the text names it.
  """
  for name, kind, optional in leaves(common.base()):
    try:
      value = _get(config, name)
    except (AttributeError, KeyError, TypeError):
      raise ValueError(f"{name} must be given, got no such field.") from None
    if not (_is(kind, value) or (optional and value is None)):
      rule = _KINDS[kind] + (" or None" if optional else "")
      _validate.fail(name, rule, value)


def leaves(
    config: ml_collections.ConfigDict, prefix: str = ""
) -> Iterator[tuple[str, type, bool]]:
  """Yields (dotted name, kind, whether None will do) of every field.

  Args:
    config: Config, or a section of one.
    prefix: Dotted name of the section, with its last dot.
  """
  for key in config:
    value = config[key]
    if isinstance(value, ml_collections.ConfigDict) and len(value):
      yield from leaves(value, f"{prefix}{key}.")
    else:
      yield f"{prefix}{key}", config.get_type(key), value is None


def from_json(stored: Mapping[str, Any]) -> ml_collections.ConfigDict:
  """Returns the config that config.json holds, checked.

  Args:
    stored: The parsed file, which anyone may have written. A field that it
      does not have, as of an older version, is taken from `base`.

  Raises:
    ValueError: If a field breaks its rule; the text names it.
  """
  _refuse_older(stored)
  try:
    stored = {k: v for k, v in stored.items() if k not in RECORDED}
    whole = _over(common.base().to_dict(), stored)
    if "task" not in stored:
      whole["task"] = task_of_older(stored)
    config = ml_collections.ConfigDict(whole)
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise ValueError(f"config.json must hold a config: {error}.") from error
  check(config)
  return config


def task_of_older(stored: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the section `task` of a config from before there were tasks.

  Its loss said what it learned.

  Args:
    stored: The config, as JSON gives it.
  """
  loss = stored.get("loss")
  is_sigmoid = isinstance(loss, Mapping) and loss.get("name") == "sigmoid"
  name = "multi_label" if is_sigmoid else "classification"
  return {"name": name, "options": {}}


def _refuse_older(stored: Any) -> None:
  """Refuses the config of a version whose checkpoints have another layout."""
  train = stored.get("train") if isinstance(stored, Mapping) else None
  if isinstance(train, Mapping) and "ema_decay" in train:
    raise ValueError(
        "config.json must have train.ema_decays, got train.ema_decay: the run"
        " is of an older version, which saved other averages. Train again."
    )


def _get(config, name: str) -> Any:
  for key in name.split("."):
    config = config[key]
  return config


def _is(kind: type, value: Any) -> bool:
  if kind is float:
    return _is_number(value)
  if kind is int:
    return isinstance(value, int) and not isinstance(value, bool)
  if kind is tuple:
    return isinstance(value, list | tuple) and all(map(_is_plain, value))
  if kind is ml_collections.ConfigDict:
    return isinstance(value, kind) and _is_plain(value)
  return isinstance(value, kind)


def _is_number(value: Any) -> bool:
  is_real = isinstance(value, float | int) and not isinstance(value, bool)
  # Compared as it is: an integer may be too large for a float.
  return is_real and -_MAX_FLOAT32 <= value <= _MAX_FLOAT32


def _is_plain(value: Any) -> bool:
  """Tells whether this can be part of options: no NaN, nothing unknown."""
  if isinstance(value, ml_collections.ConfigDict):
    return all(_is_plain(value[key]) for key in value)
  if isinstance(value, list | tuple):
    return all(map(_is_plain, value))
  return value is None or isinstance(value, bool | str) or _is_number(value)


def _over(base: Any, stored: Any) -> Any:
  """Returns what is stored, with missing fields from the base."""
  if not (isinstance(base, dict) and isinstance(stored, Mapping) and base):
    return stored
  return base | {k: _over(base.get(k), v) for k, v in stored.items()}
