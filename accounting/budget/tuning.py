"""`dp-budget tuning`: what it costs to release the best of several runs.

Invariant: the answer says which accountant each bound is from; the best of a
fixed number of runs never costs less than all of them.
"""

import argparse
import dataclasses
import math

from accounting import _html, _validate, claims, tuning
from accounting.budget import arguments as arguments_lib
from accounting.budget import releases as releases_lib
from accounting.budget.answer import Answer, table
from accounting.budget.answer import fields as fields_of
from accounting.budget.arguments import Plan

_HEADER = ("released", "accountant", "epsilon")
_NUMBERS = ("num_trials_mean", "num_trials_max", "batches")


def of_plan(plan: Plan, arguments: argparse.Namespace) -> Answer:
  """Returns what picking the best of several runs costs.

  Args:
    plan: Plan of the run.
    arguments: Parsed command line.

  Raises:
    ValueError: If the number of runs is not given.
  """
  for name in ("num_trials_mean", "distribution"):
    if getattr(arguments, name) is None:
      flag = f"--{name.replace('_', '-')}"
      raise ValueError(f"{flag} must be given without folders, got none.")
  mean, own = arguments.num_trials_mean, arguments.accountant
  cost = tuning.tuning_cost(
      plan.mechanism,
      num_trials_mean=mean,
      distribution=arguments.distribution,
      delta=plan.stated_delta,
      accountant=own,
      num_trials_max=arguments.num_trials_max,
  )
  count = math.ceil(mean)
  fields = fields_of(plan, arguments) | dataclasses.asdict(cost)
  fields |= {
      "num_trials_mean": mean,
      "num_trials_naive": count,
      "distribution": arguments.distribution,
  }
  best = f"the best of {count} runs, a fixed number"
  if arguments.distribution != tuning.FIXED:
    best = (
        f"the best of a random number of runs, {arguments.distribution}, "
        f"mean {claims.exact(mean)}"
    )
  rows = [
      ("one run", own, claims.at_most(cost.epsilon_single)),
      (best, cost.accountant_tuned, claims.at_most(cost.epsilon_tuned)),
      (f"all of {count} runs", own, claims.at_most(cost.epsilon_naive)),
  ]
  text = table(_HEADER, rows)
  return Answer(fields=fields, text=text, mechanism=plan.mechanism)


def of_folders(arguments: argparse.Namespace) -> Answer:
  """Returns what the runs of a sweep cost, all of them or the best.

  Args:
    arguments: Parsed command line, with `runs`.

  Raises:
    ValueError: If a folder is bad, or another number of runs is described too.
  """
  names = (*_NUMBERS, *arguments_lib.RUN_ARGUMENTS)
  arguments_lib.refuse(arguments, names, "left out with the folders of runs")
  if arguments.distribution not in (None, tuning.FIXED):
    rule = "fixed with the folders of runs: a random number is not read there"
    _validate.fail("--distribution", rule, arguments.distribution)
  if arguments.delta is None:
    raise ValueError("--delta must be given, got none.")
  ask = {"delta": arguments.delta, "accountant": arguments.accountant}
  runs = [releases_lib.read([path]).all for path in arguments.runs]
  alone, together = tuning.all_of(runs, **ask)
  data = [
      run.to_dict() | {"path": path, "epsilon": value}
      for path, run, value in zip(arguments.runs, runs, alone, strict=True)
  ]
  rows = [
      (
          f"{path}: {'; '.join(_html.words(m) for m, _ in run.releases)}",
          arguments.accountant,
          claims.at_most(value),
      )
      for path, run, value in zip(arguments.runs, runs, alone, strict=True)
  ]
  name = f"all of {len(runs)} runs, or the best of them"
  rows.append((name, arguments.accountant, claims.at_most(together)))
  fields = {
      **ask,
      "neighboring_relation": runs[0].neighboring_relation,
      "distribution": tuning.FIXED,
      "epsilon_tuned": together,
      "epsilon_naive": together,
      "runs": data,
  }
  return Answer(fields=fields, text=table(_HEADER, rows))
