"""`dp-budget`: plan a private training run, or defend one.

  dp-budget epsilon --noise-multiplier 3 --num-examples 50000
    --batch-size 4096 --num-steps 1000 --delta 1e-5

Invariant: standard output holds the answer and nothing else, one JSON object
with --json; the exit code is 0, or 2 after one line on standard error.

>>> main(["epsilon", "--noise-multiplier=4", "--sampling-prob=0.01",
...       "--num-steps=10000", "--delta=1e-5"])
epsilon 0.947 at delta 1e-05 (pld, add_or_remove_one)
0
"""

import argparse
import json
import math
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from accounting.budget import arguments as arguments_lib
from accounting.budget import whole

if TYPE_CHECKING:
  from accounting.budget.answer import Answer

# Each command, in the order of the help text, and what it answers.
COMMANDS = {
    "epsilon": "epsilon of a run",
    "delta": "delta of a run at an epsilon",
    "noise": "smallest noise multiplier for an epsilon",
    "steps": "most steps that fit an epsilon",
    "batch-size": "largest expected batch that fits an epsilon",
    "curve": "epsilon after each step",
    "monte-carlo": "epsilon by chance, where no tight sum is known",
    "compare": "the run under every accountant, relation and sampling",
    "profile": "the whole guarantee, and what an attacker gains",
    "tuning": "cost of picking the best of several runs",
    "users": "epsilon for a user with several examples",
    "compose": "epsilon of several releases of the same data",
    "ledger": "what was released of a data set, and what is left",
    "statement": "what may be claimed, in words",
    "explain": "what the guarantee means, in a paragraph",
    "report": "the statement of a finished run, every number recomputed",
    "serve": "a page on this machine, where all of it is moved by hand",
}


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command line.

  Args:
    argv: Arguments without the program's name; those of the process if None.

  Returns:
    The exit code, 0 or 2.
  """
  try:
    arguments = parse(argv)
  except SystemExit as stopped:  # After --help, or a complaint.
    return int(stopped.code or 0)
  from accounting.budget import commands as commands_lib

  try:
    answer, said = ask(commands_lib.run, arguments)
    output = _output(answer, said, arguments.json)
  except (ValueError, OSError, ImportError) as error:
    print(f"dp-budget: {' '.join(str(error).split())}", file=sys.stderr)
    return 2
  if not arguments.json:
    for warning in said:
      print(f"warning: {warning}", file=sys.stderr)
  try:
    print(output, flush=True)
  except BrokenPipeError:  # Read by `head`, say. Leave nothing to flush.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  return 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Returns the parsed command line.

  Args:
    argv: Arguments without the program's name; those of the process if None.

  Raises:
    SystemExit: If there is a complaint, which is on standard error by then, or
      help was asked for.
  """
  return _parser().parse_args(argv)


def ask(
    command: Callable[[argparse.Namespace], "Answer"],
    arguments: argparse.Namespace,
) -> "tuple[Answer, list[str]]":
  """Runs a command, and catches what it warns of.

  Args:
    command: Function that runs it.
    arguments: Parsed command line.

  Returns:
    The answer, and texts of warnings, once each.
  """
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    answer = command(arguments)
  said = [*answer.warnings, *arguments_lib.said(caught)]
  return answer, list(dict.fromkeys(said))


def _output(answer, said: list[str], as_json: bool) -> str:
  if as_json:
    fields = answer.fields | {"warnings": said, "notes": list(answer.notes)}
    return json.dumps(finite(fields), allow_nan=False)
  if answer.pure:
    return answer.text
  return "\n".join([*answer.notes, answer.text])


def finite(value: Any) -> Any:
  """Returns data with null for infinities, which JSON cannot hold.

  Args:
    value: Data of an answer.
  """
  if isinstance(value, dict):
    return {k: finite(v) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [finite(v) for v in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


def _parser() -> arguments_lib.Parser:
  parser = arguments_lib.Parser(
      prog="dp-budget",
      description="The privacy budget of DP-SGD: plan a run, or defend one.",
      allow_abbrev=False,
  )
  commands = parser.add_subparsers(
      dest="command", required=True, metavar="COMMAND"
  )
  for name, answers in COMMANDS.items():
    command = commands.add_parser(
        name, help=answers, description=answers, allow_abbrev=False
    )
    if name in _OWN_ARGUMENTS:
      _OWN_ARGUMENTS[name](command)
    else:
      arguments_lib.add(command, command=name)
      _add_own(command, name)
  return parser


def _add_report(command) -> None:
  command.add_argument("workdir", metavar="WORKDIR")
  command.add_argument(
      "--audit", metavar="DIR", help="an audit of the run, to show with it"
  )
  command.add_argument("--json", action="store_true", help="print one object")
  _add_format(command)
  command.add_argument(
      "--examples-per-user",
      metavar="K,...",
      help="epsilon for people with several examples too",
  )


def _add_compose(command) -> None:
  command.add_argument(
      "releases",
      nargs="+",
      metavar="FILE.toml|RUN",
      help="a file of releases, or the folder of a finished run",
  )
  command.add_argument("--delta", type=float, required=True, metavar="D")
  command.add_argument(
      "--epsilon",
      type=float,
      metavar="E",
      help='of all together, to find the number that is "free"',
  )
  command.add_argument(
      "--examples-per-user",
      metavar="K,...",
      help="epsilon for people with several examples too",
  )
  command.add_argument("--accountant", default="pld", help="pld (default), rdp")
  command.add_argument("--json", action="store_true", help="print one object")


def _add_ledger(command) -> None:
  command.epilog = "Each action takes --help, and --json to print one object."
  actions = command.add_subparsers(
      dest="action", required=True, metavar="ACTION"
  )
  for name, does in _LEDGER_ACTIONS.items():
    action = actions.add_parser(
        name, help=does, description=does, allow_abbrev=False
    )
    action.add_argument("ledger", metavar="LEDGER.toml")
    action.add_argument("--json", action="store_true", help="print one object")
    _LEDGER_ARGUMENTS.get(name, lambda action: None)(action)


def _add_ledger_init(action) -> None:
  action.add_argument("--unit", required=True, help="patient, household, image")
  action.add_argument(
      "--num-examples", type=whole.argument, required=True, metavar="N"
  )
  action.add_argument("--epsilon", type=float, required=True, metavar="E")
  action.add_argument("--delta", type=float, required=True, metavar="D")
  action.add_argument("--neighboring", default="add_or_remove")
  action.add_argument("--what", default="a data set", help="which data set")


def _add_ledger_add(action) -> None:
  action.add_argument("release", metavar="FILE.toml|RUN")
  action.add_argument("--what", required=True, help="what was released")
  action.add_argument("--visible-to", required=True, help="who may see it")
  action.add_argument(
      "--date", metavar="YYYY-MM-DD", help="today, if not given"
  )


def _add_serve(command) -> None:
  command.add_argument(
      "--port",
      type=whole.argument,
      default=0,
      metavar="N",
      help="of 127.0.0.1; any free one, if not given",
  )
  command.add_argument(
      "--ledger", metavar="LEDGER.toml", help="to plan against; only read"
  )
  command.set_defaults(json=False)


_OWN_ARGUMENTS = {
    "report": _add_report,
    "compose": _add_compose,
    "ledger": _add_ledger,
    "serve": _add_serve,
}
_LEDGER_ACTIONS = {
    "init": "write a new ledger, without releases",
    "show": "what was released, what is spent, and what is left",
    "check": "whether every line is as it was written",
    "add": "write what was released, if it fits in the budget",
    "plan": "what a release would leave; write nothing",
}
_LEDGER_ARGUMENTS = {
    "init": _add_ledger_init,
    "check": lambda action: action.add_argument(
        "--seal", metavar="HEX", help="a seal of earlier, kept elsewhere"
    ),
    "add": _add_ledger_add,
    "plan": lambda action: action.add_argument(
        "release", metavar="FILE.toml|RUN"
    ),
}


def _add_format(command) -> None:
  command.add_argument(
      "--format", choices=("text", "markdown", "html", "json"), default="text"
  )
  command.add_argument("--output", metavar="FILE", help="write it there")
  command.add_argument(
      "--unit",
      help="what an example is: image, patient (report: as the run says)",
  )


def _add_own(command, name: str) -> None:
  """Adds what one command alone understands."""
  if name in ("curve", "profile"):
    command.add_argument("--plot", metavar="FILE.png|svg")
  if name == "curve":
    command.add_argument(
        "--points", type=whole.argument, default=20, metavar="N"
    )
    command.add_argument("--csv", action="store_true")
  elif name == "profile":
    command.add_argument("--prior", type=float, default=1e-4, metavar="P")
  elif name == "tuning":
    command.add_argument(
        "runs", nargs="*", metavar="RUN", help="folders of a sweep's runs"
    )
    command.add_argument("--num-trials-mean", type=float, metavar="M")
    command.add_argument(
        "--num-trials-max",
        type=whole.argument,
        metavar="N",
        help="most runs of a binomial number",
    )
    command.add_argument(
        "--distribution",
        help="logarithmic, geometric, poisson, binomial or fixed",
    )
  elif name == "monte-carlo":
    command.add_argument(
        "--num-samples",
        type=whole.argument,
        default=1_000_000,
        metavar="N",
        help="draws of each direction; default 1e6",
    )
    command.add_argument(
        "--confidence",
        type=float,
        default=1 - 1e-6,
        metavar="C",
        help="of the bound; what is missing to 1 is taken off delta",
    )
    command.add_argument(
        "--seed",
        type=whole.argument,
        metavar="N",
        help="of the draws; from the operating system, if not given",
    )
  elif name == "users":
    command.add_argument("--examples-per-user", required=True, metavar="K,...")
  elif name == "statement":
    _add_format(command)
    command.add_argument("--examples-per-user", metavar="K,...")
  elif name == "explain":
    command.add_argument(
        "--length", default="medium", help="short, medium (default) or long"
    )
    command.add_argument("--unit", help="what an example is: image, patient")
    command.add_argument("--examples-per-user", metavar="K,...")
