"""The commands that find one number of a run: noise, steps, batch size.

Invariant: each epsilon that is printed is computed again from the rounded
number, with all that the target is for; none exceeds its target.
"""

import argparse
import dataclasses
from typing import Any

from accounting import calibrate, claims, plots
from accounting.budget import arguments as arguments_lib
from accounting.budget import releases as releases_lib
from accounting.budget.answer import Answer, sentence, table
from accounting.budget.answer import fields as fields_of
from accounting.budget.arguments import Plan


def _command(find, name: str, label: str):
  """Makes the command that finds one number of a run."""

  def command(plan: Plan, arguments: argparse.Namespace) -> Answer:
    targets = arguments_lib.targets(arguments)
    path = arguments.plot and plots.check_path(arguments.plot)
    ask = _asked(plan, arguments)
    rows = []
    for target in targets:
      made = find(plan.mechanism, epsilon=target, **ask)
      goal = calibrate.Goal.checked(made, target, *ask.values())
      fields = fields_of(dataclasses.replace(plan, mechanism=made), arguments)
      fields |= {
          "epsilon": goal.evaluate(made).epsilon,
          "epsilon_target": target,
      }
      number = fields[name] if name in fields else made.expected_batch_size
      fields[name] = int(number) if name == "batch_size" else number
      rows.append((made, fields))
    notes = ()
    if path:
      points = [fields[name] for _, fields in rows]
      figure = plots.line(
          targets, points, x="epsilon", y=label, title=_at(plan, arguments)
      )
      notes = (plots.save(figure, path),)
    if len(rows) == 1 and not arguments.csv:
      [(made, fields)] = rows
      text = f"{label} {fields[name]}: {sentence(fields)}{_whose(arguments)}"
      return Answer(fields=fields, text=text, mechanism=made, notes=notes)
    return _table(rows, name, label, arguments, notes)

  return command


def _asked(plan: Plan, arguments: argparse.Namespace) -> dict[str, Any]:
  others = None
  if arguments.others is not None:
    others = releases_lib.read([arguments.others]).all
  return {
      "delta": plan.stated_delta,
      "accountant": arguments.accountant,
      "others": others,
      "examples_per_user": arguments.examples_per_user,
  }


def _whose(arguments: argparse.Namespace) -> str:
  text = f", with {arguments.others}" if arguments.others is not None else ""
  if arguments.examples_per_user > 1:
    text += f", people with {arguments.examples_per_user} examples"
  return text


def _at(plan: Plan, arguments: argparse.Namespace) -> str:
  at = claims.at_most_short(plan.stated_delta)
  return f"delta {at}, {arguments.accountant}{_whose(arguments)}"


def _table(rows, name, label, arguments, notes) -> Answer:
  """Answers several targets at once."""
  data = [
      {key: fields[key] for key in ("epsilon_target", name, "epsilon")}
      for _, fields in rows
  ]
  if arguments.csv:
    lines = [f"epsilon_target,{name},epsilon"]
    lines += [",".join(repr(v) for v in each.values()) for each in data]
    text = "\n".join(lines)
  else:
    cells = [
        (
            claims.exact(each["epsilon_target"]),
            str(each[name]),
            claims.at_most(each["epsilon"]),
        )
        for each in data
    ]
    text = table(("target", label, "epsilon"), cells) + _whose(arguments)
  made, fields = rows[0]
  shared = {k: v for k, v in fields.items() if k not in data[0]}
  return Answer(
      fields=shared | {"rows": data},
      text=text,
      mechanism=made,
      notes=notes,
      pure=arguments.csv,
  )


COMMANDS = {
    "noise": _command(
        calibrate.calibrate_noise, "noise_multiplier", "noise multiplier"
    ),
    "steps": _command(calibrate.calibrate_num_steps, "num_steps", "steps"),
    "batch-size": _command(
        calibrate.calibrate_batch_size, "batch_size", "expected batch size"
    ),
}
