"""Compares a run's summary with the other files that the run wrote.

A summary can agree with itself and be of another run. Invariant: each fact that
two files state is the same in both, or the outcome is a ValueError that names
it and shows both values; each that could not be compared is listed with why.

>>> found = with_files(pathlib.Path("nowhere"), {"seed": 0, "num_steps": 5})
>>> found.same, found.unchecked["steps_begun"]
({}, 'there is no steps_begun.json')
"""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from accounting.budget import records
from accounting.mechanism import Mechanism, steps_for_epochs

_CONFIG = "config.json"
_BEGUN = "steps_begun.json"
_NOT_THERE = object()
# A fact of the summary, and the field of the config that says the same.
_FIELDS = {
    "name": "name",
    "seed": "seed",
    "delta": "dp.delta",
    "accountant": "dp.accountant",
    "epsilon_target": "dp.epsilon",
    "neighboring_relation": "dp.neighboring_relation",
    "noise_multiplier": "dp.noise_multiplier",
    "l2_clip_norm": "dp.l2_clip_norm",
    "clipping": "dp.clipping",
    "clipping_options": "dp.clipping_options",
    "sampling": "dp.sampling",
    "max_batch_size": "dp.max_batch_size",
    "sampling_options": "dp.sampling_options",
    "noise": "dp.noise",
    "noise_options": "dp.noise_options",
    "grid_scale": "dp.grid_scale",
    "generator": "dp.secure_random",
    "num_examples": "data.num_examples",
    "unit": "data.unit",
    "max_rows_per_unit": "data.max_rows_per_unit",
    "expected_batch_size": "train.expected_batch_size",
    "num_views": "augment.num_views",
    "eval_params": "eval.params",
}
# Of some runs: those of samplers with fields of their own, of correlated noise,
# of clipping that is not standard, and those whose examples are persons or
# other units. Others may have no such fact.
_OWN = ("sampling_options", "noise", "noise_options")
_OWN += ("clipping", "clipping_options", "unit", "max_rows_per_unit")
_NONE = (_NOT_THERE, {}, "", None, "independent", "standard")
# What None, or 0, in the config leaves to something else, and to what.
_LEFT_OPEN = {
    "noise_multiplier": "found from dp.epsilon",
    "num_examples": "the data source's",
    "expected_batch_size": "found from dp.epsilon",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
  """What was compared, none of it differing, and what was not.

  Attributes:
    same: Facts by the name of the file that states the same.
    unchecked: Why each other fact was not compared.
  """

  same: Mapping[str, tuple[str, ...]]
  unchecked: Mapping[str, str]


def with_files(folder: pathlib.Path, summary: Mapping[str, Any]) -> Comparison:
  """Compares a summary with config.json and steps_begun.json in its folder.

  Args:
    folder: The run's folder.
    summary: Its summary, each value checked by its own rule.

  Returns:
    What was compared.

  Raises:
    ValueError: If a file is malformed, or states another value.
  """
  same, unchecked = {}, {}
  for name, compare_fn, facts in (
      (_CONFIG, _with_config, (*_FIELDS, "num_steps")),
      (_BEGUN, _with_begun, ("steps_begun",)),
  ):
    path = folder / name
    if not (path.exists() or path.is_symlink()):
      unchecked |= {
          fact: f"there is no {name}"
          for fact in facts
          if fact not in _OWN or fact in summary
      }
      continue
    found = compare_fn(records.read("workdir", folder, name), summary)
    agreeing = tuple(fact for fact, why in found.items() if why is None)
    if agreeing:
      same[name] = agreeing
    unchecked |= {fact: why for fact, why in found.items() if why is not None}
  return Comparison(same=same, unchecked=unchecked)


def _with_config(config, summary) -> dict[str, str | None]:
  """Returns why each fact was not compared, None if it was."""
  enabled = _lookup(config, "dp.enabled")
  if enabled is not True and enabled is not _NOT_THERE:
    raise ValueError(
        f"dp.enabled must be True in {_CONFIG} of a run with an epsilon, got "
        f"{records.short(enabled)}: without clipping and noise it is NOT "
        "PRIVATE."
    )
  origin = summary.get("restored_from")
  is_continued = isinstance(origin, Mapping) and "released" in origin
  if _lookup(config, "model.restore.same_data") is True and not is_continued:
    raise ValueError(
        "restored_from must say what was released before, since "
        f"model.restore.same_data is True in {_CONFIG}, got nothing of it. "
        "Guarantees compose."
    )
  found: dict[str, str | None] = {}
  for fact, field in _FIELDS.items():
    theirs = _lookup(config, field)
    if fact in _OWN and fact not in summary and theirs in _NONE:
      continue  # Neither has any.
    if theirs is _NOT_THERE:
      found[fact] = f"{field} is not in {_CONFIG}"
    elif fact not in summary:
      found[fact] = "it is not in summary.json"
    elif fact in _LEFT_OPEN and (theirs is None or _same(theirs, 0)):
      found[fact] = f"{field} is {theirs} in {_CONFIG}: {_LEFT_OPEN[fact]}"
    else:
      theirs = _TRANSLATE.get(fact, lambda value: value)(theirs)
      _check(fact, summary[fact], field, theirs, _same)
      found[fact] = None
  found["num_steps"] = _with_steps(config, summary)
  return found


def _with_steps(config, summary) -> str | None:
  steps, epochs, schedule, tuned, noise, target = (
      _lookup(config, field)
      for field in (
          *("train.num_steps", "train.num_epochs"),
          *("train.batch_size_schedule", "dp.auto_tune"),
          *("dp.noise_multiplier", "dp.epsilon"),
      )
  )
  field = "train.num_steps"
  if steps is None or steps is _NOT_THERE:
    if epochs is None or epochs is _NOT_THERE:
      return f"{field} is not given in {_CONFIG}"
    if schedule not in ([], _NOT_THERE, None):
      return "epochs of a batch-size schedule are not converted"
    field = "train.num_epochs, in steps,"
    steps = steps_for_epochs(
        num_epochs=epochs, sampling_prob=summary["sampling_prob"]
    )
  given = {None, _NOT_THERE}.isdisjoint(map(_hashable, (noise, target)))
  # With both, or by name, a run ends where its budget does.
  cut = given or tuned in ("stopping_step", "num_steps")
  rule = _at_most if cut else _same
  _check("num_steps", summary["num_steps"], field, steps, rule)
  return None


def _with_begun(begun, summary) -> dict[str, str | None]:
  steps = begun.get("steps_begun", _NOT_THERE)
  if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
    shown = "none" if steps is _NOT_THERE else records.short(steps)
    raise ValueError(
        f"{_BEGUN} must hold a number of steps, at least 0, got {shown}."
    )
  if steps > summary["num_steps"]:
    raise ValueError(
        "num_steps must count every step that was begun: summary.json states "
        f"{summary['num_steps']}, {_BEGUN} {records.short(steps)}. A step "
        "that was begun has cost its privacy, so epsilon must be for all "
        "of them."
    )
  _check("num_steps", summary["num_steps"], f"{_BEGUN}'s", steps, _same)
  return {"steps_begun": None}


def _check(
    fact: str,
    ours: Any,
    field: str,
    theirs: Any,
    agree: Callable[[Any, Any], bool],
) -> None:
  if not agree(ours, theirs):
    where = field if _BEGUN in field else f"{_CONFIG}'s {field}"
    raise ValueError(
        f"{fact} must be as in the run's other files: summary.json states "
        f"{records.short(ours)}, {where} is {records.short(theirs)}."
    )


def _lookup(config: Mapping[str, Any], field: str) -> Any:
  value = config
  for key in field.split("."):
    if not isinstance(value, Mapping) or key not in value:
      return _NOT_THERE
    value = value[key]
  return value


def _same(a: Any, b: Any) -> bool:
  """Equality in which True is not 1, and a product may round."""
  if isinstance(a, bool) or isinstance(b, bool):
    return a is b
  if isinstance(a, float) or isinstance(b, float):
    try:
      return math.isclose(a, b, rel_tol=1e-9)
    except (TypeError, OverflowError):
      return False
  return a == b


def _at_most(a: Any, b: Any) -> bool:
  return _same(a, b) or (
      isinstance(b, int | float) and not isinstance(b, bool) and a <= b
  )


def _hashable(value: Any) -> Any:
  return value if value is None or value is _NOT_THERE else "given"


def _generator(value: Any) -> Any:
  named = {True: "chacha20", False: "threefry"}
  return named[value] if isinstance(value, bool) else value


def _relation(value: Any) -> str:
  """Resolves an alias, as the run's own mechanism did."""
  return Mechanism(
      noise_multiplier=1.0,
      sampling_prob=1.0,
      num_steps=1,
      neighboring_relation=value,
  ).neighboring_relation


def _unit(value: Any) -> Any:
  return "example" if value == "" else value


_TRANSLATE = {
    "generator": _generator,
    "neighboring_relation": _relation,
    "unit": _unit,
}
