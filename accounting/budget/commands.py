"""The commands of `dp-budget` that calculate, and the way to all of them.

Invariant: a command returns its answer twice, as data and as text, both from
the same numbers, and writes no file but the one it was asked to.
"""

import argparse
import dataclasses

import numpy as np

from accounting import (
    _validate,
    accountants,
    claims,
    plots,
    samplers,
    statement,
)
from accounting.budget import arguments as arguments_lib
from accounting.budget import (
    chance,
    compose,
    explain,
    ledgers,
    page,
    searches,
    tuning,
)
from accounting.budget.answer import Answer, sentence, table
from accounting.budget.answer import fields as fields_of
from accounting.budget.arguments import Plan
from accounting.epsilons import (
    check_supported,
    delta,
    epsilon,
    epsilon_curve,
)
from accounting.mechanism import NEIGHBORING_RELATIONS, Mechanism

_PLOT_POINTS = 200


def run(arguments: argparse.Namespace) -> Answer:
  """Runs a command.

  Args:
    arguments: Parsed arguments, with `command`.

  Returns:
    The answer.

  Raises:
    ValueError: If the input is bad.
    OSError: If a file cannot be read or written.
  """
  if arguments.command == "report":
    return explain.report(arguments)
  if arguments.command in _OTHERS:
    return _OTHERS[arguments.command](arguments)
  if explain.is_bare(arguments):
    return explain.profile_of_pair(arguments)
  if getattr(arguments, "runs", None):
    return tuning.of_folders(arguments)
  plan = arguments_lib.read(arguments)
  answer = _COMMANDS[arguments.command](plan, arguments)
  return dataclasses.replace(
      answer,
      notes=(*plan.notes, *answer.notes),
      warnings=(*answer.warnings, *_batch_warnings(answer, arguments)),
  )


def _batch_warnings(answer: Answer, arguments) -> list[str]:
  """Compares how batches are drawn with what the accounting counts on."""
  mechanism, bound = answer.mechanism, None
  if not isinstance(mechanism, Mechanism):  # A statement says it of each.
    return []
  used = answer.fields.get("delta")
  if arguments.batches in ("shuffled", "fixed") and used:
    bound = statement.deterministic_epsilon(mechanism, delta=used)
  attacked = statement.attacked(mechanism, delta=used) if used else {}
  return statement.batch_warnings(
      mechanism.to_dict()
      | {"batches": arguments.batches, "epsilon_deterministic": bound}
      | attacked
  )


def _epsilon(plan: Plan, arguments) -> Answer:
  value = epsilon(
      plan.mechanism, delta=plan.stated_delta, accountant=arguments.accountant
  )
  fields = fields_of(plan, arguments) | {"epsilon": value}
  return Answer(fields=fields, text=sentence(fields), mechanism=plan.mechanism)


def _delta(plan: Plan, arguments) -> Answer:
  targets = arguments_lib.targets(arguments)
  path = arguments.plot and plots.check_path(arguments.plot)
  found = [
      delta(plan.mechanism, epsilon=each, accountant=arguments.accountant)
      for each in targets
  ]
  fields, notes = fields_of(plan, arguments), ()
  if path:
    figure = plots.line(
        targets, {"": found}, x="epsilon", y="delta", title=arguments.accountant
    )
    notes = (plots.save(figure, path),)
  pairs = list(zip(targets, found, strict=True))
  if len(targets) > 1 or arguments.csv:
    fields |= {"rows": [{"epsilon": e, "delta": d} for e, d in pairs]}
    cells = [(claims.exact(e), claims.at_most_scientific(d)) for e, d in pairs]
    text = table(("epsilon", "delta"), cells)
    if arguments.csv:
      text = "\n".join(["epsilon,delta", *(f"{e!r},{d!r}" for e, d in pairs)])
  else:
    fields |= {"delta": found[0], "epsilon": targets[0]}
    text = (
        f"delta {claims.at_most_scientific(found[0])} at epsilon "
        f"{claims.at_most_short(targets[0])} "
        f"({arguments.accountant}, {plan.mechanism.neighboring_relation})"
    )
  return Answer(
      fields=fields,
      text=text,
      mechanism=plan.mechanism,
      notes=notes,
      pure=arguments.csv,
  )


def _curve(plan: Plan, arguments) -> Answer:
  count = _validate.integer("points", arguments.points)
  path = arguments.plot and plots.check_path(arguments.plot)
  steps, values = _points(plan, arguments, count)
  fields = fields_of(plan, arguments) | {"steps": steps, "epsilon": values}
  notes: tuple[str, ...] = ()
  if path:
    at = claims.at_most_short(plan.stated_delta)
    label = f"delta {at}, {arguments.accountant}"
    fine = _points(plan, arguments, max(count, _PLOT_POINTS))
    notes = (plots.save(plots.curve(*fine, label=label), path),)
  pairs = list(zip(steps, values, strict=True))
  rows = [(str(t), claims.at_most(e)) for t, e in pairs]
  if arguments.csv:
    lines = ["steps,epsilon", *(f"{t},{e!r}" for t, e in pairs)]
    text = "\n".join(lines)
  else:
    text = table(("steps", "epsilon"), rows)
  return Answer(
      fields=fields,
      text=text,
      mechanism=plan.mechanism,
      notes=notes,
      pure=arguments.csv,
      rows=tuple(rows),
  )


def _points(plan: Plan, arguments, count: int) -> tuple[list[int], list[float]]:
  """Epsilon at evenly spaced numbers of steps, the last one included."""
  total = plan.mechanism.num_steps
  if not total:
    _validate.fail("--of", "releases with a run that has steps", arguments.of)
  spaced = np.linspace(1, total, min(count, total))
  steps = np.unique(np.rint(spaced).astype(int)).tolist()
  values = epsilon_curve(
      plan.mechanism,
      steps=steps,
      delta=plan.stated_delta,
      accountant=arguments.accountant,
  )
  return steps, values.tolist()


def _compare(plan: Plan, arguments) -> Answer:
  rows, runs = [], _variants(plan.mechanism, arguments.max_batch_size)
  for run_ in runs:
    for accountant in accountants.names():
      try:
        check_supported(run_, accountant=accountant)
        value = epsilon(run_, delta=plan.stated_delta, accountant=accountant)
      except ValueError:
        continue  # No analysis is known: no row.
      rows.append(
          {
              "sampling": run_.sampling,
              "neighboring_relation": run_.neighboring_relation,
              "accountant": accountant,
              "epsilon": value,
          }
      )
  header = ("sampling", "neighboring_relation", "accountant", "epsilon")
  cells = [
      (
          r["sampling"],
          r["neighboring_relation"],
          r["accountant"],
          claims.at_most(r["epsilon"]),
      )
      for r in rows
  ]
  fields = {"rows": rows, "delta": plan.delta}
  return Answer(fields=fields, text=table(header, cells))


def _variants(run_: Mechanism, cap: int | None) -> list[Mechanism]:
  """The same run under every sampling that its numbers allow."""
  found = []
  for name in samplers.names():
    own = {
        "max_batch_size": (
            cap if "max_batch_size" in samplers.get(name).fields else None
        ),
        "sampling_options": (
            run_.sampling_options if name == run_.sampling else ()
        ),
    }
    for relation in NEIGHBORING_RELATIONS:
      try:
        found.append(
            dataclasses.replace(
                run_, sampling=name, neighboring_relation=relation, **own
            )
        )
      except ValueError:
        continue  # The sampler needs, or cannot use, what was given.
  return found


_OTHERS = {
    "compose": compose.run,
    "ledger": ledgers.run,
    "serve": page.run,
}
_COMMANDS = {
    "epsilon": _epsilon,
    "delta": _delta,
    **searches.COMMANDS,
    "curve": _curve,
    "compare": _compare,
    "monte-carlo": chance.epsilon_of,
    "profile": explain.profile_of,
    "tuning": tuning.of_plan,
    "users": explain.users_of,
    "statement": explain.statement_of,
    "explain": explain.explained,
}
