"""Books a run in a data set's ledger before its first step, and settles it.

Invariant: no step is taken of a run that the ledger does not hold, whole; and a
run is booked once, however often it is stopped, killed and resumed. A run that
is killed stays booked at its full price: what it released is at most that.

The run's folder holds the booking's random name, written before the ledger is:
a kill between the two books nothing, and the next start books by that name.

>>> import pathlib
>>> RunLedger(pathlib.Path("ledger.toml"), visible_to="staff").visible_to
'staff'
"""

import collections
import contextlib
import dataclasses
import json
import pathlib
import re
import secrets
from collections.abc import Generator, Mapping
from typing import Any

from accounting import claims, json_object
from accounting import ledger as ledger_lib
from accounting.composition import Composition
from accounting.ledger import file
from accounting.mechanism import Mechanism
from experiments.plan import experiment as experiment_lib
from experiments.plan import not_private
from experiments.run import workdir as workdir_lib

_BOOKING = "ledger.json"
_NAME = re.compile("[0-9a-f]{32}")


@dataclasses.dataclass(frozen=True)
class RunLedger:
  """A ledger, for one run.

  Attributes:
    path: File of the ledger.
    visible_to: Text that says who may see the model.
  """

  path: pathlib.Path
  visible_to: str

  def check(self, experiment: experiment_lib.Experiment) -> None:
    """Refuses a run that cannot be booked, before anything is computed.

    Args:
      experiment: The run.

    Raises:
      ValueError: If it is not private, or of another unit or relation, or what
        it continued is not in the ledger.
      OSError: If the ledger cannot be read.
    """
    not_private.refuse(experiment.config.dp.enabled, "be in a ledger")
    ledger = ledger_lib.Ledger.read(self.path)
    ledger.after(_released(experiment))  # Its unit, relation and size.
    _check_continued(ledger, experiment)

  def book(
      self,
      experiment: experiment_lib.Experiment,
      workdir: workdir_lib.Workdir,
  ) -> None:
    """Writes the whole run into the ledger, unless it is there.

    Args:
      experiment: The run.
      workdir: Its folder, which this process has claimed.

    Raises:
      WorkdirError: If it does not fit in the budget, the ledger was changed by
        hand, or the booking is of another run.
      OSError: If a file cannot be written.
    """
    if isinstance(workdir, workdir_lib.Onlooker):
      return
    with _faults_of_ledgers():
      self.check(experiment)
      name, released = _name(workdir), _released(experiment)
      ledger = ledger_lib.Ledger.read(self.path)
      if (booked := ledger.booked(name)) is not None:
        if booked.released is None or not _same(booked.released, released):
          raise ValueError(
              f"entry {booked.number} of {self.path} must be of this run, got"
              " another mechanism: the run's folder was changed."
          )
        return
      ledger = ledger.append(
          released,
          what=f"the model of {experiment.config.name}"[:200],
          visible_to=self.visible_to,
          run=str(workdir.path),
          booking=name,
      )
    print(
        f"booked as entry {len(ledger.entries)} of {self.path}: epsilon"
        f" {claims.at_most(ledger.spent)} of {claims.exact(ledger.epsilon)} is"
        " spent, this run included",
        flush=True,
    )

  def settle(
      self, summary: Mapping[str, Any], workdir: workdir_lib.Workdir
  ) -> None:
    """Writes that the run is over; a run that was not booked is refused.

    Args:
      summary: Summary of the run.
      workdir: Its folder.

    Raises:
      WorkdirError: If the ledger does not hold the run.
      OSError: If the ledger cannot be written.
    """
    if isinstance(workdir, workdir_lib.Onlooker):
      return
    with _faults_of_ledgers():
      ledger = ledger_lib.Ledger.read(self.path)
      name = _name(workdir, make=False)
      booked = None if name is None else ledger.booked(name)
      if booked is None:
        raise ValueError(
            f"{self.path} must hold a finished run, got none of {workdir.path}."
            f" Add it: dp-budget ledger add {self.path} {workdir.path} --what"
            " TEXT --visible-to TEXT."
        )
      if name in {each.booking for each in ledger.open_bookings}:
        ledger.settle(name, params_sha256=summary["params_sha256"])
        print(f"settled entry {booked.number} of {self.path}", flush=True)


def _released(experiment: experiment_lib.Experiment):
  """Returns what the run itself releases, of its unit."""
  unit = experiment.config.data.unit or "example"
  return Composition([experiment.mechanism], unit=unit)


def _same(booked, released) -> bool:
  return booked.releases == released.releases


def _check_continued(ledger, experiment) -> None:
  """Refuses to go on from runs that the ledger does not hold."""
  origin = experiment.restored_from or {}
  wanted = collections.Counter(
      Mechanism.from_dict(each) for each in origin.get("released", ())
  )
  held = dict(ledger.released.releases) if ledger.released else {}
  if any(held.get(each, 0) < count for each, count in wanted.items()):
    raise ValueError(
        f"{ledger.path} must hold the run that this one continues, got none"
        f" like {origin['path']}. Add it first: dp-budget ledger add"
        f" {ledger.path} {origin['path']} --what TEXT --visible-to TEXT."
    )


def _name(workdir: workdir_lib.Workdir, *, make: bool = True) -> str | None:
  """Returns the booking's name in the run's folder, made if it has none."""
  path = workdir.path / _BOOKING
  if path.exists():
    name = json_object.read(path, what=str(path)).get("booking")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
      raise ValueError(
          f"{path} must hold a booking of 32 hexadecimal digits, got {name!r}."
      )
    return name
  if not make:
    return None
  name = secrets.token_hex(16)
  file.replace(path, json.dumps({"booking": name}) + "\n")
  return name


@contextlib.contextmanager
def _faults_of_ledgers() -> Generator[None]:
  """Says of a ledger's ValueError that the run cannot go on."""
  try:
    yield
  except ValueError as error:
    raise workdir_lib.WorkdirError(str(error)) from error
