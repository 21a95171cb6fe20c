"""`dp-budget compose`: what several releases of the same data cost together.

Releases come from a TOML file, from the folders of finished runs, or both.
Invariant: a run's summary is verified as by `dp-budget report`, and what it
continued is counted with it; a file's every key is checked, and an unknown one
is refused by name.

>>> made = parse(b'''
... unit = "patient"
... [[release]]
... kind = "laplace"
... scale = 2.0
... count = 3
... ''', what="releases.toml", folder=pathlib.Path())
>>> made.unit, made.releases[0].count
('patient', 3)
"""

import argparse
import pathlib
import tomllib
from typing import Any

from accounting import _validate, claims, epsilons
from accounting import composition as composition_lib
from accounting import mechanisms as mechanisms_lib
from accounting.budget import report
from accounting.budget.answer import Answer, sentence, table
from accounting.composition import Composition
from accounting.mechanism import Mechanism

_MAX_BYTES = 1_000_000
_KEYS = ("unit", "neighboring_relation", "release")


def run(arguments: argparse.Namespace) -> Answer:
  """Returns the epsilon of all releases together, and of each alone.

  Args:
    arguments: Parsed command line.

  Returns:
    The answer.

  Raises:
    ValueError: If a file or a folder is bad, or releases do not compose.
    OSError: If a file cannot be read.
  """
  found = [read(pathlib.Path(path)) for path in arguments.releases]
  made = Composition(found) if len(found) > 1 else found[0]
  ask = {"delta": arguments.delta, "accountant": arguments.accountant}
  total = epsilons.epsilon(made, **ask)
  rows, data = [], []
  for fields, release in zip(
      made.to_dict()["releases"], made.releases, strict=True
  ):
    value = epsilons.epsilon(Composition([release]), **ask)
    data.append(fields | {"epsilon": value})
    words = _words(release.mechanism)
    rows.append((words, str(release.count), claims.at_most(value)))
  fields = {
      "epsilon": total,
      **ask,
      "neighboring_relation": made.neighboring_relation,
      "unit": made.unit,
      "releases": data,
  }
  text = table(("release", "times", "alone epsilon"), rows)
  text += f"\ntogether: {sentence(fields)}"
  return Answer(fields=fields, text=text)


def _words(mechanism: Any) -> str:
  if not isinstance(mechanism, Mechanism):
    return mechanism.words
  return (
      f"{mechanism.num_steps} steps, noise multiplier "
      f"{claims.exact(mechanism.noise_multiplier)}, "
      f"{mechanism.sampling} {claims.at_most_short(mechanism.sampling_prob)}"
  )


def read(path: pathlib.Path) -> Composition:
  """Reads releases from a TOML file, or from the folder of a finished run.

  Args:
    path: Path of either.

  Returns:
    What it holds.

  Raises:
    ValueError: If it is neither, or a value breaks its rule.
    OSError: If it cannot be read.
  """
  if path.is_dir():
    return _of_run(path)
  if not path.is_file():
    _validate.fail("release", "a TOML file or a run's folder", str(path))
  with path.open("rb") as file:
    data = file.read(_MAX_BYTES + 1)
  if len(data) > _MAX_BYTES:
    rule = f"must hold at most {_MAX_BYTES} bytes"
    raise ValueError(f"{path.name} {rule}, got more.")
  return parse(data, what=path.name, folder=path.parent)


def parse(data: bytes, *, what: str, folder: pathlib.Path) -> Composition:
  """Reads releases from the text of a TOML file.

  Args:
    data: Text, in UTF-8.
    what: Name of the file, for the error text.
    folder: Folder that the paths of runs are relative to.

  Returns:
    The composition.

  Raises:
    ValueError: If the text is no TOML, or a value breaks its rule.
  """
  try:
    found = tomllib.loads(data.decode("utf-8"))
  except (ValueError, RecursionError) as error:
    reason = _validate.shown(str(error))[1:-1]
    raise ValueError(f"{what} must be valid TOML: {reason}.") from None
  if unknown := [key for key in found if key not in _KEYS]:
    _validate.fail(what, "of " + ", ".join(_KEYS), unknown[0])
  releases = found.get("release")
  if not isinstance(releases, list) or not releases:
    _validate.fail("release", "a list, each as [[release]]", releases)
  if len(releases) > composition_lib.MAX_RELEASES:
    rule = f"at most {composition_lib.MAX_RELEASES}"
    _validate.fail("release", rule, len(releases))
  made, relation = [], found.get("neighboring_relation")
  for number, fields in enumerate(releases, 1):
    try:
      made.append(_release(fields, relation, folder))
    except ValueError as error:
      raise ValueError(f"{what}, release {number}: {error}") from None
  return Composition(made, unit=found.get("unit"))


def _release(fields: Any, relation: Any, folder: pathlib.Path):
  """Reads one [[release]]: what it is, and how often."""
  if not isinstance(fields, dict):
    _validate.fail("release", "a table", fields)
  fields = dict(fields)
  count = _validate.integer("count", fields.pop("count", 1))
  if "run" in fields:
    path = fields.pop("run")
    if not isinstance(path, str) or fields:
      _validate.fail("run", "a folder's path, with a count alone", path)
    return _of_run(folder / path), count
  kinds = (composition_lib.TRAINING, *mechanisms_lib.names())
  kind = _validate.choice("kind", fields.pop("kind", None), options=kinds)
  if relation is not None:
    fields.setdefault("neighboring_relation", relation)
  if kind != composition_lib.TRAINING:
    return mechanisms_lib.get(kind).from_dict(fields), count
  if "expected_batch_size" in fields and "sampling_prob" not in fields:
    total = _validate.integer("num_examples", fields.get("num_examples"))
    size = fields.pop("expected_batch_size")
    fields["sampling_prob"] = (
        _validate.real(
            "expected_batch_size", size, low=0, high=total, high_ok=True
        )
        / total
    )
  return Mechanism.from_dict(fields), count


def _of_run(path: pathlib.Path) -> Composition:
  """Returns what a finished run released, and the runs that it continued."""
  if not path.is_dir():
    _validate.fail("run", "the folder of a finished run", str(path))
  checked = report.verify(path)
  origin = checked.summary.get("restored_from") or {}
  before = [Mechanism.from_dict(m) for m in origin.get("released", ())]
  unit = checked.summary.get("unit", "example")
  return Composition([*before, checked.mechanism], unit=unit)
