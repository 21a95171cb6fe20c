"""A sweep before its first run: its settings, and what each of them releases.

Invariant: DIR/sweep.json is written before the first run, and what is in it
does not change: a sweep that is killed and resumed has the same runs. It holds
the number of runs where that is drawn at random, and so it is private.

>>> first, second = (seed_of({"seed": 7}, number) for number in (0, 1))
>>> first, second, seed_of({"seed": None}, 1)
(7, 8, None)
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections

import accounting
from accounting import _validate, json_object
from experiments.plan import fields, splits
from experiments.plan import mechanism as mechanism_lib
from experiments.run import identity
from experiments.sweeps import cost as cost_lib
from experiments.sweeps import optuna_settings
from experiments.sweeps import space as space_lib
from experiments.tasks import registry
from jax_privacy import _owner_only

FILE = "sweep.json"
GRID, RANDOM = "grid", "random"
METHODS = (GRID, RANDOM, *optuna_settings.SAMPLERS)
GOALS = ("auto", "max", "min")
_MAX_BYTES = 10_000_000
_SEEDS = 2**128


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """What a sweep will do.

  Attributes:
    config: Config of all runs, as JSON.
    space: Fields that vary, as JSON.
    method: Name of how settings are found; see `METHODS`.
    num_runs: Number of runs.
    accounting: Name of what is released: all runs, the best, or none.
    distribution: Name of the distribution of the number of runs, or None.
    mean: Mean number of runs, or None.
    parallel: Number of runs whose settings are found at once.
    seed: Seed of the settings.
    goal: Whether the largest or the least result wins: "auto", "max", "min".
    proxy: Fields of public data that the runs are of, by dotted name.
    settings: Settings of all runs, or of those that are known so far.
  """

  config: Mapping[str, Any]
  space: Mapping[str, Any]
  method: str
  num_runs: int
  accounting: str
  distribution: str | None
  mean: float | None
  parallel: int
  seed: int
  goal: str
  proxy: Mapping[str, Any]
  settings: Sequence[Mapping[str, Any]]


def make(
    config: ml_collections.ConfigDict,
    space: space_lib.Space,
    *,
    method: str,
    num_runs: int | None,
    accounting: str,
    distribution: str,
    parallel: int,
    seed: int,
    goal: str,
    proxy: Mapping[str, Any],
) -> Plan:
  """Plans a sweep, and draws what is drawn before the first run.

  Args:
    config: Config of the runs.
    space: Fields that vary.
    method: Name of how settings are found.
    num_runs: Number of runs, or its mean where the best is released; None for
      a grid.
    accounting: Name of what is released.
    distribution: Name of the distribution of the number of runs.
    parallel: Number of runs at once.
    seed: Seed of the settings.
    goal: Name of the goal.
    proxy: Fields of public data.

  Returns:
    The plan, with the settings that are known before the first run.

  Raises:
    ValueError: If an argument breaks its rule, or the sweep could not be
      accounted for.
  """
  space_lib.check(space, config)
  _check(config, space, method, num_runs, accounting, proxy)
  is_best = accounting == cost_lib.BEST
  if method == GRID:
    settings = space_lib.grid(space)
    count = len(settings)
  else:
    count = num_runs or 0
    if is_best:
      count = cost_lib.draw_count(distribution, count, seed=config.seed)
    settings = []
    if method == RANDOM:
      settings = space_lib.random(space, seed=seed, count=count)
  return Plan(
      config=identity.plain(config),
      space={k: dataclasses.asdict(v) for k, v in space.items()},
      method=method,
      num_runs=count,
      accounting=accounting,
      distribution=distribution if is_best else None,
      mean=float(num_runs or 0) if is_best else None,
      parallel=parallel,
      seed=seed,
      goal=goal,
      proxy=dict(proxy),
      settings=settings,
  )


def kept(folder: pathlib.Path, made: Plan) -> Plan:
  """Returns the plan in a folder, which must be this one; writes it if none is.

  Args:
    folder: Folder of the sweep.
    made: Plan of the command line.

  Raises:
    ValueError: If the folder holds another sweep, or other files.
    OSError: If it cannot be written.
  """
  path = folder / FILE
  if not path.exists():
    others = [each.name for each in folder.iterdir() if each.name != ".lock"]
    if others:
      rule = "empty or hold this sweep"
      raise ValueError(
          f"workdir must be {rule}, got {folder}, which holds other files."
      )
    write(folder, made)
    return made
  found = read(folder)
  mine, theirs = map(_told, (made, found))
  names = sorted(identity.differing_fields(theirs, mine))
  if names:
    raise ValueError(
        f"workdir must hold this sweep, got {folder}, which differs in"
        f" {', '.join(names)[:300]}."
    )
  return found


def read(folder: pathlib.Path) -> Plan:
  """Returns the plan in a folder.

  Args:
    folder: Folder of the sweep.

  Raises:
    ValueError: If there is none, or it is damaged.
    OSError: If it cannot be read.
  """
  path = folder / FILE
  if not path.is_file():
    _validate.fail("workdir", f"a sweep's folder, with {FILE}", str(folder))
  found = json_object.read(path, what=FILE, max_bytes=_MAX_BYTES)
  names = {field.name for field in dataclasses.fields(Plan)}
  if set(found) != names:
    wrong = sorted(set(found) ^ names)[0]
    _validate.fail(FILE, "as a sweep wrote it", wrong)
  return Plan(**found)


def write(folder: pathlib.Path, plan: Plan) -> None:
  """Writes the plan, whole or not at all.

  Args:
    folder: Folder of the sweep.
    plan: The plan.

  Raises:
    OSError: If the disk is full.
  """
  partial = folder / f"{FILE}.partial"
  with _owner_only.open_text(partial, "w") as file:
    file.write(json.dumps(dataclasses.asdict(plan), indent=1) + "\n")
    file.flush()
    os.fsync(file.fileno())
  os.replace(partial, folder / FILE)


def space_of(plan: Plan) -> space_lib.Space:
  """Returns the space of a plan.

  Args:
    plan: The plan.
  """
  made: space_lib.Space = {}
  for name, each in plan.space.items():
    if "values" in each:
      made[name] = space_lib.Choice(tuple(each["values"]))
    else:
      made[name] = space_lib.Range(**each)
  return made


def seed_of(config: Mapping[str, Any], number: int) -> int | None:
  """Returns the seed of a run: its own, so that no two have the same noise.

  Args:
    config: Config of the sweep.
    number: Number of the run, from 0.
  """
  seed = config["seed"]
  return None if seed is None else (seed + number) % _SEEDS


def mechanisms(
    config: ml_collections.ConfigDict,
) -> Callable[[Mapping[str, Any]], accounting.Mechanism]:
  """Returns a function from a setting to what its run releases.

  Args:
    config: Config of the runs.
  """
  fields.check(config)
  fields.find_own(config)
  task = registry.build(**fields.task_sections(config))
  num_examples = config.data.num_examples
  if not config.data.unit:
    rows, _ = splits.load(task, config.data)
    num_examples = rows.num_examples
  known: dict[str, accounting.Mechanism] = {}

  def of(setting):
    made = space_lib.with_setting(config, setting)
    sections = identity.plain(made)
    key = json.dumps([sections["dp"], sections["train"]], sort_keys=True)
    if key not in known:
      plan = mechanism_lib.build_plan(made.dp, made.train, num_examples)
      known[key] = plan.mechanism
    return known[key]

  return of


def _told(plan: Plan) -> dict[str, Any]:
  """Returns what the command line says: not what was drawn, or found."""
  found = json.loads(json.dumps(dataclasses.asdict(plan)))
  found["config"] = identity.of_config(found["config"])
  for name in ("settings", *(["num_runs"] if plan.mean is not None else [])):
    del found[name]
  return found


def _check(config, space, method, num_runs, accounting, proxy) -> None:
  """Refuses sweeps that could not be accounted for."""
  if (method == GRID) != (num_runs is None):
    rule = "None for a grid, and given for all else"
    _validate.fail("num_runs", rule, num_runs)
  if num_runs is not None:
    _validate.integer("num_runs", num_runs)
  if config.model.restore.same_data:
    raise ValueError(
        "model.restore.same_data must be False in a sweep, got True: the runs"
        " would each go on from the same one."
    )
  if (accounting == cost_lib.PUBLIC) != bool(proxy):
    rule = "given with --accounting=public, and only there"
    _validate.fail("proxy", rule, dict(proxy))
  varied = space_lib.changes_mechanism(space)
  if accounting == cost_lib.BEST:
    if method != RANDOM:
      rule = "random where the best is released: each run draws its setting"
      _validate.fail("method", rule, method)
    if num_runs is not None and num_runs < 2:
      _validate.fail("num_runs", "at least 2, the mean number", num_runs)
    if not config.dp.enabled:
      _validate.fail("dp.enabled", "True where the best is released", False)
  is_adaptive = method not in (GRID, RANDOM)
  if accounting != cost_lib.PUBLIC and varied:
    if accounting == cost_lib.BEST or is_adaptive:
      raise ValueError(
          f"space must leave {varied[0]} the same in all runs with"
          f" --accounting={accounting} --method={method}, got values of it: the"
          " runs must cost the same."
      )
