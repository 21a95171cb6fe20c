"""What a sweep varies: fields of the config, with their values or ranges.

Invariant: a field that decides whose data are protected, by which guarantee, or
how a run is judged is the same in all runs; so is the seed, but that each run
adds its own number to it: two runs of one seed have the same noise, and what
they release together would have none.

>>> space = parse(["train.learning_rate=0.5,1", "dp.l2_clip_norm=0.1..1:log"])
>>> space["train.learning_rate"].values
(0.5, 1)
>>> space["dp.l2_clip_norm"].low, space["dp.l2_clip_norm"].is_log
(0.1, True)
>>> [setting["train.learning_rate"] for setting in grid(
...     parse(["train.learning_rate=0.5,1"]))]
[0.5, 1]
"""

import ast
import dataclasses
import difflib
import itertools
import math
import pathlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from accounting import _validate
from experiments.plan import fields

_SAME = ("seed", "name", "log_every", "save_every", "dp.enabled", "dp.delta")
_SAME += ("dp.neighboring_relation", "dp.accountant", "model.restore", "mesh")
_SAME += ("data", "eval", "task")
# What the mechanism is made of; the others change no guarantee.
_MECHANISM = ("dp.epsilon", "dp.noise_multiplier", "dp.auto_tune", "dp.noise")
_MECHANISM += ("dp.noise_options", "dp.sampling", "dp.sampling_options")
_MECHANISM += ("dp.max_batch_size", "train.expected_batch_size")
_MECHANISM += ("train.num_steps", "train.num_epochs")
_MECHANISM += ("train.batch_size_schedule",)
_RANGE = re.compile(r"(?P<low>[^.,:]+(?:\.\d[^.,:]*)?)\.\.(?P<high>[^,:]+)")
_MAX_GRID = 10_000


@dataclasses.dataclass(frozen=True)
class Choice:
  """A field with a list of values.

  Attributes:
    values: Values, each of which JSON can hold.
  """

  values: tuple[Any, ...]

  def draw(self, rng: np.random.Generator) -> Any:
    """Returns one of the values.

    Args:
      rng: Source of the draw.
    """
    return self.values[int(rng.integers(len(self.values)))]

  def share(self, value: Any) -> float:
    """Returns where a value is between the first, 0, and the last, 1.

    Args:
      value: One of the values.
    """
    return self.values.index(value) / max(1, len(self.values) - 1)


@dataclasses.dataclass(frozen=True)
class Range:
  """A field with numbers between two ends.

  Attributes:
    low: Least value.
    high: Largest value.
    is_log: Whether numbers are drawn by their logarithm.
    is_int: Whether they are whole.
  """

  low: float
  high: float
  is_log: bool = False
  is_int: bool = False

  def draw(self, rng: np.random.Generator) -> float:
    """Returns a number in the range.

    Args:
      rng: Source of the draw.
    """
    if self.is_int and not self.is_log:
      return int(rng.integers(int(self.low), int(self.high) + 1))
    low, high = self._ends()
    found = float(rng.uniform(low, high))
    found = math.exp(found) if self.is_log else found
    found = min(max(found, self.low), self.high)
    return round(found) if self.is_int else found

  def share(self, value: float) -> float:
    """Returns where a value is between both ends.

    Args:
      value: Number in the range.
    """
    low, high = self._ends()
    at = math.log(value) if self.is_log else value
    return (at - low) / (high - low)

  def _ends(self) -> tuple[float, float]:
    if self.is_log:
      return math.log(self.low), math.log(self.high)
    return self.low, self.high


Space = dict[str, Choice | Range]
Setting = dict[str, Any]


def parse(texts: Sequence[str]) -> Space:
  """Reads a space.

  Args:
    texts: Texts "field=value,value,...", "field=low..high",
      "field=low..high:log", or names of TOML files. A line of these is
      `"field" = [values]` or `"field" = {low = 0.1, high = 1.0, log = true}`.

  Returns:
    The space, in the order of the texts.

  Raises:
    ValueError: If one is neither, or a field is there twice.
    OSError: If a file cannot be read.
  """
  found: Space = {}
  for text in texts:
    name, equals, values = text.partition("=")
    is_field = equals and not pathlib.Path(text).is_file()
    each = {name.strip(): _line(text, values)} if is_field else _file(text)
    for key, dimension in each.items():
      if key in found:
        _validate.fail("space", "of fields that are named once", key)
      found[key] = dimension
  if not found:
    _validate.fail("space", "of a field at least", list(texts))
  return found


def check(space: Mapping[str, Any], config: ml_collections.ConfigDict) -> None:
  """Refuses what is no field of the config, or must be the same in all runs.

  Args:
    space: The space.
    config: Config of the runs.

  Raises:
    ValueError: If a field is refused; the text names it.
  """
  known = _names(config)
  for name in space:
    if name not in known:
      close = difflib.get_close_matches(name, known, n=1)
      hint = f" Did you mean {close[0]}?" if close else ""
      raise ValueError(
          f"space must name fields of the config, got {name!r}.{hint}"
      )
    if any(name == each or name.startswith(f"{each}.") for each in _SAME):
      raise ValueError(
          f"space must leave {name} the same in all runs, got values of it. It"
          " says whose data are protected, or how runs are judged; each run"
          " has a seed of its own."
      )


def changes_mechanism(space: Mapping[str, Any]) -> list[str]:
  """Returns fields of a space that change what a run costs.

  Args:
    space: The space.
  """
  return [
      name
      for name in space
      if any(name == each or name.startswith(f"{each}.") for each in _MECHANISM)
  ]


def grid(space: Space) -> list[Setting]:
  """Returns all settings of a space, the last field changing first.

  Args:
    space: The space.

  Raises:
    ValueError: If a field has a range, or there are too many.
  """
  values = []
  for name, dimension in space.items():
    if not isinstance(dimension, Choice):
      rule = f"of values alone for a grid: draw {name} at random"
      _validate.fail("space", rule, f"{dimension.low}..{dimension.high}")
    values.append(dimension.values)
  if math.prod(map(len, values)) > _MAX_GRID:
    rule = f"of at most {_MAX_GRID} settings"
    _validate.fail("space", rule, math.prod(map(len, values)))
  return [
      dict(zip(space, each, strict=True)) for each in itertools.product(*values)
  ]


def random(space: Space, *, seed: int, count: int) -> list[Setting]:
  """Returns settings, each drawn by itself, whatever their number is.

  Args:
    space: The space.
    seed: Seed of the draws.
    count: Number of settings.
  """
  made = []
  for number in range(count):
    rng = np.random.default_rng([seed, number])
    made.append({name: each.draw(rng) for name, each in space.items()})
  return made


def with_setting(
    config: ml_collections.ConfigDict, setting: Mapping[str, Any]
) -> ml_collections.ConfigDict:
  """Returns a config with some of its fields set, checked.

  Args:
    config: Config, which stays as it is.
    setting: Values by dotted name.

  Raises:
    ValueError: If a value breaks its rule; the text names the field.
  """
  made = config.copy_and_resolve_references()
  for name, value in setting.items():
    *folders, key = name.split(".")
    place = made
    for folder in folders:
      place = place[folder]
    try:
      place[key] = tuple(value) if isinstance(value, list) else value
    except (TypeError, ValueError) as error:
      raise ValueError(
          f"{name} must be of its kind, got {value!r:.100}: {error}."
      ) from error
  fields.check(made)
  return made


def flag(name: str, value: Any) -> str:
  """Returns the flag of `experiments.train` that sets a field.

  Args:
    name: Dotted name of the field.
    value: Value of the field.
  """
  if isinstance(value, list):
    value = tuple(value)
  return f"--config.{name}={value}"


def _names(config, prefix: str = "") -> set[str]:
  found = set()
  for key in config:
    found.add(f"{prefix}{key}")
    if isinstance(config[key], ml_collections.ConfigDict):
      found |= _names(config[key], f"{prefix}{key}.")
  return found


def _line(text: str, values: str) -> Choice | Range:
  body, colon, kind = values.partition(":")
  if match := _RANGE.fullmatch(body.strip()):
    low, high = (_value(match[end]) for end in ("low", "high"))
    if not colon or kind == "log":
      return _range(text, {"low": low, "high": high, "log": kind == "log"})
  found = tuple(_value(each) for each in _split(values))
  return _choice(text, found)


def _split(values: str) -> list[str]:
  """Splits at commas, but for those in brackets."""
  return re.split(r",(?![^(\[]*[)\]])", values)


def _value(text: str) -> Any:
  text = text.strip()
  named = {"true": True, "false": False, "none": None}
  if text.lower() in named:
    return named[text.lower()]
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return text


def _file(text: str) -> Space:
  path = pathlib.Path(text)
  if not path.is_file():
    rule = "field=value,value,... or a TOML file"
    _validate.fail("space", rule, text)
  try:
    found = tomllib.loads(path.read_text("utf-8"))
  except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
    raise ValueError(f"space must be valid TOML: {error}.") from error
  made: Space = {}
  for name, value in found.items():
    if isinstance(value, dict):
      made[name] = _range(name, value)
    elif isinstance(value, list):
      made[name] = _choice(name, tuple(value))
    else:
      _validate.fail(
          f"space {name}", "a list, or a table of low and high", value
      )
  return made


def _choice(text: str, values: tuple[Any, ...]) -> Choice:
  shown = [repr(value) for value in values]
  is_bad = any(isinstance(v, float) and not math.isfinite(v) for v in values)
  if not values or "''" in shown or is_bad or len(set(shown)) < len(shown):
    _validate.fail("space", "of different values, each given", text)
  return Choice(values)


def _range(text: str, found: Mapping[str, Any]) -> Range:
  if unknown := set(found) - {"low", "high", "log"}:
    _validate.fail("space", "a table of low, high and log", sorted(unknown)[0])
  is_log, ends = found.get("log", False), []
  for key in ("low", "high"):
    value = found.get(key)
    ok = isinstance(value, int | float) and not isinstance(value, bool)
    if not ok or not math.isfinite(value):
      _validate.fail("space", "of ranges between two numbers", text)
    ends.append(value)
  low, high = ends
  if not low < high or (is_log and low <= 0) or not isinstance(is_log, bool):
    rule = "of ranges that rise, and from above 0 with log"
    _validate.fail("space", rule, text)
  is_int = all(isinstance(end, int) for end in ends)
  return Range(low, high, is_log, is_int)
