"""Checks the summary of a finished run: every number recomputed.

A summary.json is a file that anyone can have written. Invariant: whatever it
holds, the outcome is a run whose numbers agree with each other, or a
ValueError of one line; nothing in it is run, imported or trusted.

>>> verify(pathlib.Path("nowhere"))
Traceback (most recent call last):
ValueError: workdir must be a folder with a summary.json, got 'nowhere'.
"""

import dataclasses
import json
import math
import pathlib
import re
import warnings
from collections.abc import Mapping
from typing import Any

from accounting import _validate, statement
from accounting.epsilon import epsilon
from accounting.mechanism import Mechanism

# A real one is 2 kB.
_MAX_BYTES = 1_000_000
# Epsilon of the same run on another machine, or from an older version.
_TOLERANCE = 1e-3
_MECHANISM_KEYS = tuple(f.name for f in dataclasses.fields(Mechanism))
_OPTIONAL = ("sampling", "max_batch_size", "epsilon_target", "status")
_POSITIVE = ("l2_clip_norm", "train_seconds", "examples_per_second")
_COUNTS = ("num_views", "num_parameters")
_MAX_SEED = 2**128 - 1
_SEED = (
    "the seed was fixed, and is written in the run's summary: whoever knows it "
    "can recompute the noise, and against them nothing is protected. Such a "
    "run is for research, not for a release.",
)
_ACCURACIES = ("test_accuracy", "test_accuracy_ema")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checked:
  """A summary whose numbers were recomputed.

  Attributes:
    mechanism: The run.
    delta: Its delta.
    accountant: Its accountant.
    summary: All keys of the file, as read.
  """

  mechanism: Mechanism
  delta: float
  accountant: str
  summary: Mapping[str, Any]


def verify(workdir: pathlib.Path) -> Checked:
  """Reads and checks the summary of a finished run.

  Args:
    workdir: The run's folder.

  Returns:
    The run, with its numbers.

  Raises:
    ValueError: If the file is missing, malformed, or disagrees with itself;
      the message shows the stated and the recomputed value.
  """
  summary = _read(workdir)
  if (status := summary.get("status", "finished")) != "finished":
    _validate.fail("status", "'finished'", status)
  fields = {k: summary[k] for k in _MECHANISM_KEYS if k in summary}
  mechanism = Mechanism.from_dict(fields)
  _check_values(summary)
  _check_epsilon(summary, mechanism)
  _check_agree(
      "expected_batch_size",
      summary["expected_batch_size"],
      mechanism.expected_batch_size,
      1e-9,
  )
  speed = mechanism.expected_batch_size * mechanism.num_steps
  _check_agree(
      "examples_per_second",
      summary["examples_per_second"],
      speed / summary["train_seconds"],
      0.01,
  )
  return Checked(
      mechanism=mechanism,
      delta=float(summary["delta"]),
      accountant=summary["accountant"],
      summary=summary,
  )


def state(checked: Checked, *, unit: str) -> statement.Statement:
  """Makes the statement of a verified run.

  Args:
    checked: The run.
    unit: What an example is.

  Returns:
    The statement, with the summary's other facts under "summary".
  """
  made = statement.make_statement(
      checked.mechanism,
      delta=checked.delta,
      accountant=checked.accountant,
      # This project's launcher derives its sampler from the same record.
      batches=_batches(checked.mechanism),
      unit=unit,
      generator=checked.summary.get("generator"),
      more_warnings=_SEED if checked.summary["seed"] is not None else (),
  )
  rows = tuple(
      (key.replace("_", " "), _shown(checked.summary[key]))
      for key in (*_ACCURACIES, *_COUNTS, *_POSITIVE, "params_sha256", "seed")
  )
  text = (
      "Read from the run's summary: its epsilon, batch size and speed were "
      "recomputed from its other numbers and agree. The rest is as stated."
  )
  section = statement.Section(title="The run", paragraphs=(text,), rows=rows)
  return dataclasses.replace(
      made,
      facts=made.facts | {"summary": dict(checked.summary)},
      sections=(made.sections[0], section, *made.sections[1:]),
  )


def _batches(mechanism: Mechanism) -> str | None:
  return "poisson" if "poisson" in mechanism.sampling else None


def _shown(value: Any) -> str:
  return f"{value:.6g}" if isinstance(value, float) else str(value)


def _read(workdir: pathlib.Path) -> dict[str, Any]:
  path = workdir / "summary.json"
  if not path.is_file():
    _validate.fail("workdir", "a folder with a summary.json", str(workdir))
  with path.open("rb") as file:
    data = file.read(_MAX_BYTES + 1)
  if len(data) > _MAX_BYTES:
    _validate.fail("summary.json", f"at most {_MAX_BYTES} bytes", len(data))
  try:
    parsed = json.loads(data, parse_constant=_no_constant)
  except (ValueError, RecursionError) as error:
    reason = str(error)[:100]
    raise ValueError(f"summary.json must be valid JSON: {reason}.") from None
  if not isinstance(parsed, dict):
    _validate.fail("summary.json", "an object", type(parsed).__name__)
  required = [
      *(k for k in _MECHANISM_KEYS if k not in _OPTIONAL),
      *("epsilon", "delta", "accountant", "expected_batch_size"),
      *(*_POSITIVE, *_COUNTS, *_ACCURACIES),
      *("params_sha256", "seed", "versions"),
  ]
  for key in required:
    if key not in parsed:
      raise ValueError(f"summary.json must have the key {key!r}.")
  return parsed


def _no_constant(name: str):
  raise ValueError(f"{name} is no number")


def _check_values(summary: Mapping[str, Any]) -> None:
  """Checks every value by its own rule."""
  for key in _POSITIVE:
    _validate.real(key, summary[key], low=0)
  for key in _COUNTS:
    _validate.integer(key, summary[key])
  for key in _ACCURACIES:
    _validate.real(key, summary[key], low=0, high=1, low_ok=True, high_ok=True)
  _validate.integer("num_examples", summary["num_examples"])
  _validate.real("expected_batch_size", summary["expected_batch_size"], low=0)
  digest = summary["params_sha256"]
  if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
    _validate.fail("params_sha256", "64 hexadecimal digits", _short(digest))
  if summary["seed"] is not None:
    _check_seed(summary["seed"])
  versions = summary["versions"]
  if not isinstance(versions, dict) or not all(
      isinstance(v, str) and len(v) < 100 for v in versions.values()
  ):
    _validate.fail("versions", "an object of short strings", _short(versions))


def _check_seed(seed: Any) -> None:
  # Not `_validate.integer`, which ends at 2**53: nothing is computed from it.
  is_integer = isinstance(seed, int) and not isinstance(seed, bool)
  if not is_integer or not 0 <= seed <= _MAX_SEED:
    _validate.fail("seed", "an integer in [0, 2**128), or null", seed)


def _short(value: Any) -> str:
  return repr(value)[:80]


def _check_epsilon(summary: Mapping[str, Any], mechanism: Mechanism) -> None:
  stated = _validate.real("epsilon", summary["epsilon"], low=0, low_ok=True)
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # The statement repeats them.
    recomputed = epsilon(
        mechanism, delta=summary["delta"], accountant=summary["accountant"]
    )
  _check_agree("epsilon", stated, recomputed, _TOLERANCE)
  target = summary.get("epsilon_target")
  if target is not None:
    target = _validate.real("epsilon_target", target, low=0)
    if recomputed > target * (1 + 1e-9):
      raise ValueError(
          f"epsilon must be at most epsilon_target, stated as {target!r}, "
          f"recomputed {recomputed!r}."
      )


def _check_agree(
    name: str, stated: float, recomputed: float, tolerance: float
) -> None:
  if not math.isclose(stated, recomputed, rel_tol=tolerance, abs_tol=1e-12):
    raise ValueError(
        f"{name} must agree with the run's other numbers: stated {stated!r}, "
        f"recomputed {recomputed!r}."
    )
