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
from accounting.budget import whole
from accounting.budget.answer import Answer, sentence, table
from accounting.budget.answer import fields as fields_of
from accounting.budget.arguments import Plan

_COUNT, _COUNTS = "examples_per_user", "--examples-per-user"


def _command(find, name: str, label: str):
  """Makes the command that finds one number of a run."""

  def command(plan: Plan, arguments: argparse.Namespace) -> Answer:
    targets = arguments_lib.targets(arguments)
    counts = whole.list_of(arguments.examples_per_user, name=_COUNTS)
    path = arguments.plot and plots.check_path(arguments.plot)
    rows = []
    for count in counts:
      ask = _asked(plan, arguments) | {_COUNT: count}
      for target in targets:
        made = find(plan.mechanism, epsilon=target, **ask)
        goal = calibrate.Goal.checked(made, target, *ask.values())
        fields = fields_of(dataclasses.replace(plan, mechanism=made), arguments)
        fields |= {
            "epsilon": goal.evaluate(made).epsilon,
            "epsilon_target": target,
            _COUNT: count,
        }
        number = fields[name] if name in fields else made.expected_batch_size
        fields[name] = int(number) if name == "batch_size" else number
        rows.append((made, fields))
    notes = ()
    if path:
      figure = plots.line(
          targets,
          {
              _of(count)
              if len(counts) > 1
              else "": [
                  fields[name] for _, fields in rows if fields[_COUNT] == count
              ]
              for count in counts
          },
          x="epsilon",
          y=label,
          title=_at(plan, arguments),
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
  }


def _of(count: int | str) -> str:
  return f"people with {count} examples"


def _whose(arguments: argparse.Namespace) -> str:
  text = f", with {arguments.others}" if arguments.others is not None else ""
  if arguments.examples_per_user != "1":
    text += f", {_of(arguments.examples_per_user)}"
  return text


def _at(plan: Plan, arguments: argparse.Namespace) -> str:
  at = claims.at_most_short(plan.stated_delta)
  return f"delta {at}, {arguments.accountant}{_whose(arguments)}"


def _table(rows, name, label, arguments, notes) -> Answer:
  """Answers several targets, or people, at once."""
  titles = {"epsilon_target": "target", name: label, "epsilon": "epsilon"}
  if len({fields[_COUNT] for _, fields in rows}) > 1:
    titles = {_COUNT: "examples per user", **titles}
  data = [{key: fields[key] for key in titles} for _, fields in rows]
  if arguments.csv:
    lines = [",".join(titles)]
    lines += [",".join(repr(v) for v in each.values()) for each in data]
    text = "\n".join(lines)
  else:
    shown = {"epsilon_target": claims.exact, "epsilon": claims.at_most}
    cells = [
        tuple(shown.get(key, str)(value) for key, value in each.items())
        for each in data
    ]
    text = table(tuple(titles.values()), cells)
    text += "" if _COUNT in titles else _whose(arguments)
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
