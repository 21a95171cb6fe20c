"""Reads releases from TOML files, ledgers and the folders of finished runs.

Invariant: a run's summary is verified as by `dp-budget report`, and what it
continued is counted with it; a file's every key is checked, and an unknown one
is refused by name. At most one number may be "free": a command then finds it.

>>> found = parse(b'''
... unit = "patient"
... [[release]]
... kind = "laplace"
... scale = 2.0
... count = 3
... ''', what="releases.toml", folder=pathlib.Path())
>>> found.all.unit, found.all.releases[0].count
('patient', 3)
"""

import dataclasses
import pathlib
import tomllib
from typing import Any

from accounting import _validate, release_fields
from accounting import composition as composition_lib
from accounting.budget import report
from accounting.composition import Composition
from accounting.ledger import Ledger
from accounting.mechanism import Mechanism

_MAX_BYTES = 1_000_000
_KEYS = ("unit", "neighboring_relation", "release")
_FREE = "free"
# In every ledger, and in no file of releases.
_SEAL = b"\n[seal]\n"
# Of numbers that are looked for; each is a valid one.
_PLACEHOLDERS = {"num_steps": 1, "sampling_prob": 1.0, "delta": 1e-9}


@dataclasses.dataclass(frozen=True)
class Free:
  """A release of which one number is looked for.

  Attributes:
    release: Release with a placeholder of the number.
    name: Name of the number.
  """

  release: Any
  name: str


@dataclasses.dataclass(frozen=True)
class Found:
  """What files and folders hold.

  Attributes:
    fixed: Releases of which every number is given; () if there is none.
    free: Release of which one is looked for; None if there is none.
    unit: Name of the unit; None where nobody has said.
    params_sha256: Digest of a run's parameters, if it is one folder alone.
    before: Releases that this run continued.
    delta: Delta of the budget, if it is one ledger alone.
  """

  fixed: tuple[Composition, ...]
  free: Free | None = None
  unit: str | None = None
  params_sha256: str | None = None
  before: tuple[Mechanism, ...] = ()
  delta: float | None = None

  @property
  def all(self) -> Composition:
    """All releases together.

    Raises:
      ValueError: If a number is free.
    """
    if self.free is not None:
      rule = "a number; only `compose --epsilon` and `ledger plan` find one"
      _validate.fail(self.free.name, rule, _FREE)
    return Composition(list(self.fixed), unit=self.unit)

  @property
  def others(self) -> Composition | None:
    """The releases of which every number is given; None if there is none."""
    if not self.fixed:
      return None
    return Composition(list(self.fixed), unit=self.unit)


def read(paths: list[str]) -> Found:
  """Reads releases from TOML files and from folders of finished runs.

  Args:
    paths: Paths of these.

  Returns:
    What they hold together.

  Raises:
    ValueError: If one is neither, or a value breaks its rule.
    OSError: If one cannot be read.
  """
  found = [_read(pathlib.Path(path)) for path in paths]
  if len(found) == 1:
    return found[0]
  free = [each.free for each in found if each.free is not None]
  if len(free) > 1:
    _validate.fail("free numbers", "one in all files", len(free))
  held = [each.others for each in found if each.others is not None]
  # Checks that units are the same.
  units = {each.unit for each in found}
  made = Composition(held) if held else None
  if len(units) > 1 and free:
    shown = " and ".join(sorted(map(repr, units)))
    _validate.fail("unit", "the same in all files", shown)
  unit = made.unit if made is not None else found[0].unit
  fixed = () if made is None else (made,)
  return Found(fixed, free[0] if free else None, unit)


def _read(path: pathlib.Path) -> Found:
  if path.is_dir():
    return _of_run(path)
  if not path.is_file():
    _validate.fail("release", "a TOML file or a run's folder", str(path))
  with path.open("rb") as file:
    data = file.read(_MAX_BYTES + 1)
  if len(data) > _MAX_BYTES and _SEAL not in data:
    rule = f"must hold at most {_MAX_BYTES} bytes"
    raise ValueError(f"{path.name} {rule}, got more.")
  if _SEAL in data:
    return _of_ledger(path)
  return parse(data, what=path.name, folder=path.parent)


def _of_ledger(path: pathlib.Path) -> Found:
  """Returns all that a ledger holds, booked runs too."""
  ledger = Ledger.read(path)
  if ledger.released is None:
    _validate.fail(path.name, "a ledger with a release", "none")
  return Found((ledger.released,), unit=ledger.unit, delta=ledger.delta)


def parse(data: bytes, *, what: str, folder: pathlib.Path) -> Found:
  """Reads releases from the text of a TOML file.

  Args:
    data: Text, in UTF-8.
    what: Name of the file, for the error text.
    folder: Folder that the paths of runs are relative to.

  Returns:
    What it holds.

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
  fixed, free = [], []
  for number, fields in enumerate(releases, 1):
    try:
      made = _release(fields, found.get("neighboring_relation"), folder)
    except ValueError as error:
      raise ValueError(f"{what}, release {number}: {error}") from None
    (free if isinstance(made, Free) else fixed).append(made)
  if len(free) > 1:
    _validate.fail("free numbers", f"one in {what}", len(free))
  unit = found.get("unit")
  whole = Composition([*fixed, *(each.release for each in free)], unit=unit)
  kept = (Composition(fixed, unit=unit),) if fixed else ()
  return Found(kept, free[0] if free else None, whole.unit)


def _release(fields: Any, relation: Any, folder: pathlib.Path):
  """Reads one [[release]]: what it is, and how often."""
  if isinstance(fields, dict) and "run" in fields:
    fields = dict(fields)
    count = _validate.integer("count", fields.pop("count", 1))
    path = fields.pop("run")
    if not isinstance(path, str) or fields:
      _validate.fail("run", "a folder's path, with a count alone", path)
    return Composition([(_of_run(folder / path).all, count)])
  free = [
      key
      for key, value in (fields if isinstance(fields, dict) else {}).items()
      if value == _FREE
  ]
  if not free:
    return release_fields.read(fields, relation=relation)
  if len(free) > 1:
    _validate.fail("free numbers", "one", " and ".join(free))
  [name] = free
  given = fields | {name: _PLACEHOLDERS.get(name, 1.0)}
  if name == "count":
    del given["count"]
  if name == "expected_batch_size":
    given |= {name: 1}
    name = "sampling_prob"
  made = release_fields.read(given, relation=relation)
  [(release, count)] = made.releases
  if count > 1 or not isinstance(release, Mechanism | composition_lib.Basic):
    rule = "1, and no part of disjoint data, where a number is free"
    _validate.fail("count", rule, count)
  return Free(release, name)


def _of_run(path: pathlib.Path) -> Found:
  """Returns what a finished run released, and the runs that it continued."""
  if not path.is_dir():
    _validate.fail("run", "the folder of a finished run", str(path))
  checked = report.verify(path)
  origin = checked.summary.get("restored_from") or {}
  before = tuple(Mechanism.from_dict(m) for m in origin.get("released", ()))
  unit = checked.summary.get("unit", "example")
  return Found(
      (Composition([*before, checked.mechanism], unit=unit),),
      unit=unit,
      params_sha256=checked.summary["params_sha256"],
      before=before,
  )
