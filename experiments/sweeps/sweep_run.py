"""Runs a planned sweep, or goes on with it, and writes what it found.

Invariant: the cost is computed, printed, and checked against the ledger before
the first run; the result is written after the last one.

>>> without(["--config=CONFIG", "--config.x=1", "--config.y=2"], ["x"])
['--config=CONFIG', '--config.y=2']
"""

import dataclasses
import json
import pathlib
import re
import secrets
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections

import accounting
from accounting import _validate, claims, json_object, mechanisms
from accounting import ledger as ledger_lib
from accounting.composition import Composition
from experiments.run import identity, signals
from experiments.sweeps import cost as cost_lib
from experiments.sweeps import optuna_settings, results, runner
from experiments.sweeps import plan as plan_lib
from experiments.sweeps import space as space_lib
from jax_privacy import _owner_only

_BOOKING = "ledger.json"
_PROTECTED = ("source", "options", "train_split")
TRAIN = (sys.executable, "-m", "experiments.train")


def proxy(
    texts: Sequence[str], config: ml_collections.ConfigDict
) -> dict[str, Any]:
  """Returns the fields of public data, which are in place of the private.

  Args:
    texts: Each "field=value".
    config: Config of the private data.

  Raises:
    ValueError: If one is no field of `data`, or the data are the same.
  """
  if not texts:
    return {}
  found = {}
  for name, each in space_lib.parse(texts).items():
    if not name.startswith("data.") or not isinstance(each, space_lib.Choice):
      _validate.fail("proxy", "a field of data, and its value", name)
    if len(each.values) != 1:
      _validate.fail("proxy", f"one value of {name}", each.values)
    found[name] = each.values[0]
  made = space_lib.with_setting(config, found)
  ours, theirs = (identity.plain(each)["data"] for each in (made, config))
  if all(ours[key] == theirs[key] for key in _PROTECTED):
    rule = "of other data: another data.source, data.options or train_split"
    _validate.fail("proxy", rule, found)
  return found


def run(
    folder: pathlib.Path,
    made: plan_lib.Plan,
    config: ml_collections.ConfigDict,
    *,
    config_flags: Sequence[str],
    workers: int,
    cores_per_run: int,
    gib_per_run: float,
    retry_failed: bool,
    ledger: str | None,
    visible_to: str,
    stop: signals.StopSignals,
) -> None:
  """Runs a sweep, or what is left of it.

  Args:
    folder: Folder of the sweep.
    made: Plan of the command line.
    config: Config of the runs.
    config_flags: Flags that give this config.
    workers: Number of runs at once; 0 for what fits.
    cores_per_run: Number of cores of a run.
    gib_per_run: Memory of a run, in GiB.
    retry_failed: Whether to try failed runs again.
    ledger: File of a ledger, or None.
    visible_to: Text that says who may see what is released.
    stop: Signals, asked while runs go on.

  Raises:
    ValueError: If the folder holds another sweep, or the sweep does not fit.
    OSError: If a file cannot be written.
  """
  of_runs = space_lib.with_setting(config, made.proxy)
  mechanism_fn = plan_lib.mechanisms(of_runs)
  with runner.locked(folder):
    sweep = _Sweep(
        folder, plan_lib.kept(folder, made), mechanism_fn, config_flags
    )
    cost = sweep.cost()
    print(cost.sentence, flush=True)
    booking = _Booking(ledger, visible_to, config.data.unit or "example")
    booking.book(sweep, cost)
    if retry_failed:
      runner.forget_failures(folder, sweep.plan.num_runs)
    is_over = runner.run(
        folder,
        sweep.plan.num_runs,
        command_fn=lambda number: sweep.command(number, booking.flags(sweep)),
        done_fn=sweep.ended,
        workers=workers
        or runner.num_workers(
            cores_per_run=cores_per_run, gib_per_run=gib_per_run
        ),
        is_stopping=lambda: stop.requested,
    )
    _conclude(sweep, cost, config, booking, is_over=is_over)


def without(flags: Iterable[str], names: Iterable[str]) -> list[str]:
  """Returns flags of a config but those of some fields.

  Args:
    flags: Flags.
    names: Dotted names of the fields.
  """
  names = set(names)
  found = []
  for flag in flags:
    match = re.match(r"--?(?:no)?config\.([\w.]+)", flag)
    if match is None or match[1] not in names:
      found.append(flag)
  return found


class _Sweep:
  """A sweep in its folder: what its runs are, and what became of them."""

  def __init__(self, folder, plan, mechanism_fn, config_flags):
    self.folder, self.plan = folder, plan
    self._mechanism_fn, self._flags = mechanism_fn, config_flags
    self.space = plan_lib.space_of(plan)
    self.is_private = plan.config["dp"]["enabled"]

  def mechanism(self, number: int) -> accounting.Mechanism:
    """Returns what a run is accounted as, also before its setting is known."""
    settings = self.plan.settings
    return self._mechanism_fn(
        settings[number] if number < len(settings) else {}
    )

  def mechanisms(self) -> list[accounting.Mechanism]:
    return [self.mechanism(number) for number in range(self.plan.num_runs)]

  def cost(self) -> cost_lib.Cost:
    plan, dp = self.plan, self.plan.config["dp"]
    ask = {"delta": dp["delta"], "accountant": dp["accountant"]}
    if plan.accounting == cost_lib.PUBLIC:
      return cost_lib.of_public()
    if not self.is_private:
      return cost_lib.without_privacy()
    if plan.accounting == cost_lib.ALL:
      return cost_lib.of_all(self.mechanisms(), **ask)
    return cost_lib.of_best(
        self._mechanism_fn({}),
        mean=plan.mean,
        distribution=plan.distribution,
        **ask,
    )

  def outcome(self, number: int) -> runner.Outcome:
    planned = self.mechanism(number) if self.is_private else None
    return runner.outcome(self.folder, number, planned)

  def outcomes(self) -> list[runner.Outcome]:
    return [self.outcome(number) for number in range(self.plan.num_runs)]

  def ended(self, number: int) -> runner.Outcome:
    """Returns what became of a run, and says so if it is over."""
    found = self.outcome(number)
    if found.state != "waiting":
      mark = " (not for release)" if self.plan.accounting == "best" else ""
      (line,) = results.lines(self.plan, [found])
      print(f"{line}{mark}", flush=True)
    return found

  def command(self, number: int, more: Sequence[str]) -> list[str] | None:
    """Returns the command of a run; None if it has to wait for others."""
    if number >= len(self.plan.settings) and not self._ask(number):
      return None
    setting = self.plan.settings[number]
    fields = {**self.plan.proxy, **setting}
    fields["seed"] = plan_lib.seed_of(self.plan.config, number)
    return [
        *TRAIN,
        *without(self._flags, fields),
        *(space_lib.flag(name, value) for name, value in fields.items()),
        f"--workdir={runner.folder(self.folder, number)}",
        *more,
    ]

  def _ask(self, number: int) -> bool:
    """Finds the settings of a round, once all earlier rounds are over."""
    plan = self.plan
    first = number - number % plan.parallel
    earlier = [self.outcome(n) for n in range(first)]
    if any(each.state == "waiting" for each in earlier):
      return False
    known = [(plan.settings[each.number], each.score) for each in earlier]
    settings = [*plan.settings[:first]]
    for n in range(first, min(first + plan.parallel, plan.num_runs)):
      settings.append(
          optuna_settings.ask(
              self.space,
              plan.method,
              known,
              seed=plan.seed,
              number=n,
              is_max=results.is_max(earlier, plan.goal),
          )
      )
    self.plan = dataclasses.replace(plan, settings=settings)
    plan_lib.write(self.folder, self.plan)
    return True


class _Booking(NamedTuple):
  """A ledger, for a sweep; `path` is None where there is none."""

  path: str | None
  visible_to: str
  unit: str

  def book(self, sweep: _Sweep, cost: cost_lib.Cost) -> None:
    """Books the best as one release; of all runs, checks that they fit."""
    if self.path is None:
      return
    if sweep.plan.accounting == cost_lib.PUBLIC or not sweep.is_private:
      rule = "None for a sweep that costs the private data nothing, or all"
      _validate.fail("ledger", rule, self.path)
    ledger = ledger_lib.Ledger.read(self.path)
    if sweep.plan.accounting == cost_lib.ALL:
      left = [
          sweep.mechanism(n)
          for n in range(sweep.plan.num_runs)
          if not (runner.folder(sweep.folder, n) / _BOOKING).exists()
      ]
      if left:
        ledger.check_fits(Composition(left, unit=self.unit))
      return
    name = _booking_name(sweep.folder)
    if ledger.booked(name) is None:
      relation = sweep.plan.config["dp"]["neighboring_relation"]
      release = mechanisms.get("approximate_dp")(
          epsilon=cost.epsilon,
          delta=cost.delta,
          neighboring_relation=relation,
      )
      ledger.append(
          Composition([release], unit=self.unit),
          what="the best run of a sweep",
          visible_to=self.visible_to,
          run=str(sweep.folder),
          booking=name,
      )

  def flags(self, sweep: _Sweep) -> list[str]:
    """Returns the flags by which each run books itself."""
    if self.path is None or sweep.plan.accounting != cost_lib.ALL:
      return []
    return [f"--ledger={self.path}", f"--visible_to={self.visible_to}"]

  def settle(self, sweep: _Sweep, winner: runner.Outcome) -> None:
    """Writes that the best is known."""
    if self.path is None or sweep.plan.accounting != cost_lib.BEST:
      return
    ledger = ledger_lib.Ledger.read(self.path)
    name = _booking_name(sweep.folder)
    if name in {each.booking for each in ledger.open_bookings}:
      own = runner.folder(sweep.folder, winner.number) / "summary.json"
      summary = json_object.read(own, what="summary.json")
      ledger.settle(name, params_sha256=summary["params_sha256"])


def _booking_name(folder: pathlib.Path) -> str:
  path = folder / _BOOKING
  if not path.exists():
    with _owner_only.open_text(path, "w") as file:
      file.write(json.dumps({"booking": secrets.token_hex(16)}) + "\n")
  return str(json_object.read(path, what=_BOOKING)["booking"])


def _conclude(sweep, cost, config, booking, *, is_over: bool) -> None:
  """Writes the winner and the pages, and says where they are."""
  plan, outcomes = sweep.plan, sweep.outcomes()
  failed = [each for each in outcomes if each.state == "failed"]
  winner = results.best(outcomes, goal=plan.goal)
  if not is_over:
    count = sum(each.state == "waiting" for each in outcomes)
    print(
        f"to be continued: {count} runs are left. The same command goes on.",
        flush=True,
    )
  elif winner is not None:
    setting = plan.settings[winner.number]
    found = _winner_config(sweep, config, winner)
    path = results.write_winner(sweep.folder, found, setting=setting, cost=cost)
    booking.settle(sweep, winner)
    words = ", ".join(f"{name}={value}" for name, value in setting.items())
    print(f"winner: {words}: {winner.metric} {winner.score:.5g}; {path}")
  elif plan.num_runs == 0:
    print("The number of runs that was drawn is 0: nothing is released.")
  for path in results.write_pages(sweep.folder, plan, outcomes, cost):
    print(f"wrote {path}")
  if failed:
    names = ", ".join(f"{each.number:03}" for each in failed)
    print(
        f"note: runs {names} failed; --retry_failed tries them again",
        file=sys.stderr,
    )
  if cost.epsilon and is_over:
    print(f"epsilon of the whole: {claims.at_most(cost.epsilon)}")


def _winner_config(
    sweep: _Sweep, config: ml_collections.ConfigDict, winner: runner.Outcome
) -> Mapping[str, Any]:
  """Returns the winner's config: of the private data, if it was of a proxy."""
  setting = dict(sweep.plan.settings[winner.number])
  if sweep.plan.accounting != cost_lib.PUBLIC:
    setting["seed"] = plan_lib.seed_of(sweep.plan.config, winner.number)
  return identity.plain(space_lib.with_setting(config, setting))
