"""Reads what a run's folder holds, for pages that show it.

A folder is what anyone can have written. Invariant: whatever it holds, the
outcome is a `Run`, with a line in `notes` for each file that cannot be read, or
a ValueError of one line where there is no run at all; and a run that is read
for the public holds nothing that comes from the training data without noise.

>>> read(pathlib.Path("nowhere"), public=True)
Traceback (most recent call last):
ValueError: workdir must be a run's folder, with config.json or summary.json \
in it, got 'nowhere'.
"""

import base64
import dataclasses
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from accounting import _validate, json_object
from experiments.run import metrics as metrics_lib
from experiments.run import workdir as workdir_lib

UNRELEASED = workdir_lib.UNRELEASED_METRICS
_EVALUATIONS = "evaluation*.json"
SAMPLES = "samples"
_PNG = b"\x89PNG\r\n\x1a\n"
_MAX_PNG = 5_000_000
# Beyond these a page is not read, nor opened on a phone.
_MAX_LINES = 20_000
_MAX_TEXTS = 20
_MAX_TEXT = 4000


class Samples(NamedTuple):
  """What `experiments.generate` wrote.

  Attributes:
    png: Picture of images, in base64; "" without.
    texts: Texts, of a language model.
    facts: Settings that made them, by name.
  """

  png: str
  texts: Sequence[str]
  facts: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Run:
  """What is known of a run.

  Attributes:
    path: Folder of the run.
    name: Name on the page, of this run alone.
    config: Config of the run; empty if it is not known.
    summary: Summary of a finished run; empty of another.
    audit: Record of an audit, of a folder that is one; else empty.
    metrics: Lines of the log, in order.
    evaluations: Numbers that `experiments.evaluate` wrote, by file.
    samples: Texts or images of a generative model; None without.
    notes: Lines that say what could not be read.
  """

  path: pathlib.Path
  name: str
  config: Mapping[str, Any]
  summary: Mapping[str, Any]
  audit: Mapping[str, Any]
  metrics: Sequence[Mapping[str, Any]]
  evaluations: Mapping[str, Mapping[str, Any]]
  samples: Samples | None
  notes: Sequence[str]

  @property
  def facts(self) -> Mapping[str, Any]:
    """The record that says most: summary, else audit, else nothing."""
    return self.summary or self.audit

  @property
  def task(self) -> str:
    """Name of what is learnt."""
    found = self.facts.get("task", get(self.config, "task", "name"))
    return found if isinstance(found, str) else ""

  @property
  def is_private(self) -> bool:
    """Whether it was trained with differential privacy."""
    if self.facts:
      return self.facts.get("private", True) is True
    return get(self.config, "dp", "enabled") is not False


def is_run(path: pathlib.Path) -> bool:
  """Returns whether a folder holds a run, of any state.

  Args:
    path: Folder.
  """
  return any((path / f).is_file() for f in ("config.json", "summary.json"))


def seed_is_secret(path: pathlib.Path) -> bool:
  """Returns whether no file says that a run's seed was fixed.

  Args:
    path: Folder of the run.
  """
  notes = _Notes(public=True)
  found = [
      _object(path / name, notes).get("seed")
      for name in ("config.json", "summary.json", "audit.json")
  ]
  return all(type(seed) is not int for seed in found)


def read(path: pathlib.Path, *, public: bool, name: str = "") -> Run:
  """Returns what a folder holds.

  Args:
    path: Folder of the run.
    public: Whether to leave out what is private.
    name: Name of the run on the page; by default the folder's.

  Raises:
    ValueError: If it is no run's folder.
  """
  if not is_run(path):
    rule = "a run's folder, with config.json or summary.json in it"
    _validate.fail("workdir", rule, str(path))
  notes = _Notes(public=public)
  summary = _object(path / "summary.json", notes)
  if summary and summary.get("status", "finished") != "finished":
    notes.lines.append(
        "summary.json is left out: its status is not 'finished'."
    )
    summary = {}
  metrics = _metrics(path / "metrics.jsonl", notes)
  evaluations = _evaluations(path, notes)
  if public:
    metrics = [_released(line) for line in metrics]
    for file in [k for k, v in evaluations.items() if UNRELEASED in v]:
      del evaluations[file]
      notes.lines.append(
          f"{file} is left out: it is of training examples, private."
      )
  return Run(
      path=path,
      name=name or path.absolute().name,
      config=_object(path / "config.json", notes),
      summary=summary,
      audit=_object(path / "audit.json", notes),
      metrics=metrics,
      evaluations=evaluations,
      samples=_samples(path / SAMPLES, summary, notes),
      notes=tuple(notes.lines),
  )


def get(record: Any, *keys: str) -> Any:
  """Returns a value deep in a record; None where something else is there.

  Args:
    record: Record, as JSON.
    *keys: Names, from the outside in.
  """
  for key in keys:
    if not isinstance(record, Mapping):
      return None
    record = record.get(key)
  return record


def number(value: Any) -> float | None:
  """Returns a finite number, or None for anything else.

  Args:
    value: Value, as read.
  """
  if isinstance(value, bool) or not isinstance(value, int | float):
    return None
  try:
    found = float(value)
  except OverflowError:
    return None
  return found if math.isfinite(found) else None


def _released(line: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what of a line of the log is public, by name: no more."""
  names = ("step", "epsilon", "examples_per_second", "train_seconds")
  return {name: line[name] for name in names if name in line}


def _object(path: pathlib.Path, notes: "_Notes") -> dict[str, Any]:
  """Returns a file's JSON object; empty if there is none."""
  if not path.exists():
    return {}
  found = _tried(
      lambda: json_object.read(path, what=path.name), path.name, notes
  )
  return found or {}


def _metrics(path: pathlib.Path, notes: "_Notes") -> list[dict[str, Any]]:
  if not path.exists():
    return []
  lines = _tried(lambda: metrics_lib.read(path), path.name, notes) or []
  lines = [line for line in lines if 0 <= line["step"] < 2**53]
  if len(lines) > _MAX_LINES:
    text = f"metrics.jsonl is cut: it has more than {_MAX_LINES} lines."
    notes.lines.append(text)
  return lines[-_MAX_LINES:]


def _evaluations(path: pathlib.Path, notes) -> dict[str, dict[str, Any]]:
  found = {each.name: _object(each, notes) for each in _sorted(path)}
  return {name: record for name, record in found.items() if record}


def _sorted(path: pathlib.Path) -> list[pathlib.Path]:
  return sorted(path.glob(_EVALUATIONS))


def _samples(path: pathlib.Path, summary, notes) -> Samples | None:
  """Reads what was drawn, if it was drawn with this run's parameters."""
  facts = _object(path / "manifest.json", notes)
  if not facts:
    return None
  picture, png = path / "grid.png", ""
  if picture.is_file():
    png = _tried(lambda: _png(picture), f"{SAMPLES}/grid.png", notes) or ""
  texts = facts.get("texts")
  texts = [
      each[:_MAX_TEXT]
      for each in (texts if isinstance(texts, list) else [])[:_MAX_TEXTS]
      if isinstance(each, str)
  ]
  step, last = facts.get("step"), summary.get("num_steps")
  if summary and step != last:
    notes.lines.append(f"{SAMPLES} are of step {step!r:.20}, not of the last.")
  return Samples(png, texts, facts)


def _png(path: pathlib.Path) -> str:
  with path.open("rb") as file:
    data = file.read(_MAX_PNG + 1)
  if not data.startswith(_PNG) or len(data) > _MAX_PNG:
    rule = f"a PNG picture of at most {_MAX_PNG} bytes"
    _validate.fail(path.name, rule, f"{len(data)} bytes")
  return base64.b64encode(data).decode("ascii")


class _Notes:
  """Lines about files that cannot be read.

  An error may quote what it met, which may be private: for the public it does
  not.
  """

  def __init__(self, *, public: bool):
    self.lines: list[str] = []
    self._public = public

  def damaged(self, name: str, error: Exception) -> None:
    text = " ".join(str(error).split())
    if self._public:
      text = "it is damaged; --nopublic says how."
    self.lines.append(f"{name} is left out: {text}")


def _tried(read_fn: Callable[[], Any], name: str, notes: _Notes) -> Any:
  """Returns what is read; None, and a line in `notes`, if it cannot be."""
  try:
    return read_fn()
  except (ValueError, OSError) as error:
    notes.damaged(name, error)
    return None
