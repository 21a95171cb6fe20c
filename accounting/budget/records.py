"""Reads the JSON records of runs, which anyone can have written.

Invariant: whatever a file holds, the outcome is a dictionary, or a ValueError
of one line; nothing in it is run, imported or trusted.

>>> read("workdir", pathlib.Path("nowhere"), "summary.json")
Traceback (most recent call last):
ValueError: workdir must be a folder with summary.json in it, got 'nowhere'.
"""

import math
import pathlib
import warnings
from collections.abc import Mapping
from typing import Any

from accounting import _validate, json_object
from accounting.epsilons import epsilon
from accounting.mechanism import Mechanism

EXAMPLE = "example"  # The unit where each row is one.
# Epsilon of the same run on another machine, or from an older version.
TOLERANCE = 1e-3
_MAX_SEED = 2**128 - 1


def read(name: str, folder: pathlib.Path, file_name: str) -> dict[str, Any]:
  """Returns the JSON object in a folder's file.

  Args:
    name: Name of the folder, for the error text.
    folder: Folder of the file.
    file_name: Name of the file in it.

  Raises:
    ValueError: If there is no such file, or `json_object.read` refuses it.
  """
  path = folder / file_name
  if not path.is_file():
    _validate.fail(name, f"a folder with {file_name} in it", str(folder))
  return json_object.read(path, what=file_name)


def check_origin(record: Mapping[str, Any]) -> None:
  """Checks "seed" and "versions".

  Args:
    record: Record, as read.

  Raises:
    ValueError: If one breaks its rule.
  """
  if record["seed"] is not None:
    _check_seed(record["seed"])
  versions = record["versions"]
  if not isinstance(versions, dict) or not all(
      isinstance(v, str) and len(v) < 100 for v in versions.values()
  ):
    _validate.fail("versions", "an object of short strings", short(versions))


def check_unit(record: Mapping[str, Any]) -> None:
  """Checks what an example is: a row, or all rows of a named unit.

  Args:
    record: Record, as read; older ones say neither "unit" nor
      "max_rows_per_unit", and their unit is a row.

  Raises:
    ValueError: If one breaks its rule.
  """
  unit, limit = record.get("unit", EXAMPLE), record.get("max_rows_per_unit")
  if not isinstance(unit, str):
    _validate.fail("unit", "a word or two", short(unit))
  if limit is not None:
    _validate.integer("max_rows_per_unit", limit)
  elif unit != EXAMPLE:
    rule = f"{EXAMPLE!r} where max_rows_per_unit is null"
    _validate.fail("unit", rule, short(unit))


def _check_seed(seed: Any) -> None:
  # Not `_validate.integer`, which ends at 2**53: nothing is computed from it.
  is_integer = isinstance(seed, int) and not isinstance(seed, bool)
  if not is_integer or not 0 <= seed <= _MAX_SEED:
    _validate.fail("seed", "an integer in [0, 2**128), or null", seed)


def check_epsilon(record: Mapping[str, Any], mechanism: Mechanism) -> None:
  """Computes "epsilon" again, and compares it, and "epsilon_target" to it.

  Args:
    record: Record, as read.
    mechanism: Mechanism of the run.

  Raises:
    ValueError: If an epsilon breaks its rule, or they do not agree.
  """
  stated = _validate.real("epsilon", record["epsilon"], low=0, low_ok=True)
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # The statement repeats them.
    recomputed = epsilon(
        mechanism, delta=record["delta"], accountant=record["accountant"]
    )
  check_agree("epsilon", stated, recomputed, TOLERANCE)
  target = record.get("epsilon_target")
  if target is not None:
    target = _validate.real("epsilon_target", target, low=0)
    if recomputed > target * (1 + 1e-9):
      raise ValueError(
          f"epsilon must be at most epsilon_target, stated as {target!r}, "
          f"recomputed {recomputed!r}."
      )


def check_agree(
    name: str, stated: float, recomputed: float, tolerance: float
) -> None:
  """Refuses a number that differs by more than the tolerance.

  Args:
    name: Name of the number.
    stated: Number in the record.
    recomputed: Number as computed again.
    tolerance: Largest relative difference that is allowed.

  Raises:
    ValueError: If they differ by more.
  """
  if not math.isclose(stated, recomputed, rel_tol=tolerance, abs_tol=1e-12):
    raise ValueError(
        f"{name} must agree with the run's other numbers: stated {stated!r}, "
        f"recomputed {recomputed!r}."
    )


def short(value: Any) -> str:
  """Returns at most 80 characters of a value, for a message.

  Args:
    value: Any value.
  """
  return _validate.shown(value)[:80]
