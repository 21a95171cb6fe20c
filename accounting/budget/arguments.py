"""What every `dp-budget` command understands, and the run it describes.

Invariant: nothing is assumed in silence. What was derived (steps from epochs)
is said in a note, and what cannot be derived is asked for.

>>> arguments = parser_of("epsilon").parse_args(
...     ["--noise-multiplier=3", "--num-examples=50000", "--batch-size=4096",
...      "--epochs=10", "--delta=1e-5"])
>>> plan = read(arguments)
>>> plan.mechanism.num_steps, plan.delta
(123, 1e-05)
"""

import argparse
import dataclasses
import math
from typing import Any

from accounting import _validate, _warnings, accountants, claims, samplers
from accounting.budget import noise_arguments, presets, releases, whole
from accounting.mechanism import Mechanism, steps_for_epochs
from accounting.statement import BATCHES

# Placeholder of a number that a command looks for and so does not read.
_UNKNOWN = {"noise_multiplier": 1.0, "sampling_prob": 1.0}
# What each command finds out, and so does not take.
_SOUGHT = {
    "noise": "noise_multiplier",
    "steps": "num_steps",
    "batch-size": "sampling_prob",
}
_NO_DELTA = ("delta", "profile")
# Those that take files of releases in place of a run.
_OF = ("delta", "curve", "profile", "statement", "explain", "users")
# What describes a run; a file or a folder has its own.
RUN_ARGUMENTS = (
    *("noise_multiplier", "num_steps", "sampling_prob", "batch_size"),
    *("num_examples", "epochs", "batch_size_schedule", "max_batch_size"),
    *("from_opacus", "from_tf_privacy", "from_jax_privacy", "strategy_coef"),
    *("noising_coef", "buf_decay", "output_scale"),
)
_DEFAULTS = {"neighboring": "add_or_remove", "sampling": "poisson"}
_DEFAULTS |= {"noise": "independent"}


class Parser(argparse.ArgumentParser):
  """A parser whose complaints are one line."""

  def error(self, message: str):
    """Exits with code 2.

    Args:
      message: Text of the error.
    """
    self.exit(2, f"dp-budget: {' '.join(message.split())}\n")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """A run as described on the command line.

  Attributes:
    mechanism: The run, or a `Composition`. A number that the command looks for
      is a placeholder.
    delta: Delta of the guarantee; None for a command that needs none.
    notes: Texts of what was derived.
  """

  mechanism: Any
  delta: float | None
  notes: tuple[str, ...]

  @property
  def stated_delta(self) -> float:
    """The delta, for a command that needs one.

    Raises:
      ValueError: If it is None.
    """
    if self.delta is None:
      _validate.fail("delta", "given", None)
    return self.delta


def parser_of(command: str) -> Parser:
  """Returns a parser of just the arguments that all commands share.

  Args:
    command: Name of the command.
  """
  parser = Parser(prog=f"dp-budget {command}", allow_abbrev=False)
  parser.set_defaults(command=command)
  add(parser, command=command)
  return parser


def add(parser: argparse.ArgumentParser, *, command: str) -> None:
  """Adds the arguments that describe a run to a command's parser.

  Args:
    parser: Parser of the command.
    command: Name of the command.
  """
  run = parser.add_argument_group("the run")
  sought = _SOUGHT.get(command)
  if sought != "noise_multiplier":
    run.add_argument(
        "--noise-multiplier",
        type=float,
        metavar="S",
        help="noise on the sum of clipped gradients, over the clip norm",
    )
  if sought != "sampling_prob":
    run.add_argument("--sampling-prob", type=float, metavar="Q")
    run.add_argument("--batch-size", type=float, metavar="B", help="expected")
  run.add_argument(
      "--num-examples", type=whole.argument, metavar="N", help="stated"
  )
  if sought != "num_steps":
    run.add_argument(
        "--num-steps", type=whole.argument, metavar="T", help="updates"
    )
  if sought is None or sought == "noise_multiplier":
    run.add_argument("--epochs", type=float, metavar="E")
  run.add_argument(
      "--batch-size-schedule",
      metavar="STEP:FACTOR,...",
      help="from which steps on batches are how many times as large",
  )
  if command in _OF:
    run.add_argument(
        "--of",
        nargs="+",
        metavar="FILE.toml|RUN|LEDGER.toml",
        help="releases in place of a run",
    )
  presets.add(run)
  _add_accounting(parser.add_argument_group("the accounting"), command)


def _add_accounting(group, command: str) -> None:
  if command not in _NO_DELTA:
    group.add_argument("--delta", type=float, metavar="D")
  if command in ("delta", *_SOUGHT):
    group.add_argument("--epsilon", metavar="E,...", required=True)
    group.add_argument("--csv", action="store_true")
    group.add_argument("--plot", metavar="FILE.png|svg")
  if command in _SOUGHT:
    group.add_argument(
        "--with",
        dest="others",
        metavar="FILE.toml|RUN",
        help="other releases: the target is for all together",
    )
    group.add_argument(
        "--examples-per-user",
        default="1",
        metavar="K,...",
        help="the target is for people with K examples",
    )
  if command == "profile":
    group.add_argument("--epsilon", type=float, metavar="E")
    group.add_argument("--delta", type=float, metavar="D")
  group.add_argument(
      "--accountant",
      default=accountants.TIGHTEST,
      metavar="|".join(accountants.names()),
      help=f"default {accountants.TIGHTEST}",
  )
  group.add_argument(
      "--neighboring",
      default="add_or_remove",
      metavar="RELATION",
      help="add_or_remove (default), replace or replace_special",
  )
  group.add_argument(
      "--sampling",
      default="poisson",
      choices=samplers.names(),
      help="what the accounting may count on; default poisson",
  )
  group.add_argument("--max-batch-size", type=whole.argument, metavar="B")
  for name, option in _options().items():
    flag = f"--{name.replace('_', '-')}"
    group.add_argument(flag, type=option.parse, help=option.help)
  noise_arguments.add(group)
  group.add_argument(
      "--batches",
      choices=BATCHES,
      help="how the program really draws batches, if you know",
  )
  group.add_argument("--json", action="store_true", help="print one object")


def read(arguments: argparse.Namespace) -> Plan:
  """Makes the run that the arguments describe.

  Args:
    arguments: Parsed arguments, with `command`.

  Returns:
    The plan.

  Raises:
    ValueError: If something is missing, contradictory or out of range.
  """
  if getattr(arguments, "of", None):
    return _plan_of_releases(arguments)
  presets.apply(arguments)
  sought = _SOUGHT.get(arguments.command)
  if sought != "noise_multiplier" and arguments.noise_multiplier is None:
    raise ValueError("the following arguments are required: --noise-multiplier")
  prob = _UNKNOWN["sampling_prob"]
  if sought != "sampling_prob":
    prob = _sampling_prob(arguments)
  schedule = _pairs(arguments.batch_size_schedule)
  # A run's last phase begins before its end.
  steps, notes = max((t + 1 for t, _ in schedule), default=1), []
  if sought != "num_steps":
    steps, notes = _num_steps(arguments, prob)
  mechanism = Mechanism(
      noise_multiplier=getattr(
          arguments, "noise_multiplier", _UNKNOWN["noise_multiplier"]
      ),
      num_steps=steps,
      sampling_prob=prob,
      num_examples=arguments.num_examples,
      sampling=arguments.sampling,
      max_batch_size=arguments.max_batch_size,
      neighboring_relation=arguments.neighboring,
      batch_size_schedule=schedule,
      sampling_options={
          name: value
          for name in _options()
          if (value := getattr(arguments, name)) is not None
      },
      **noise_arguments.fields(arguments),
  )
  return Plan(mechanism=mechanism, delta=_delta(arguments), notes=tuple(notes))


def _plan_of_releases(arguments: argparse.Namespace) -> Plan:
  """Makes the plan of releases that files and folders hold."""
  refuse(arguments, RUN_ARGUMENTS, "left out with --of")
  for name, usual in _DEFAULTS.items():
    if getattr(arguments, name) != usual:
      rule = "left out with --of: each release states its own"
      _validate.fail(f"--{name}", rule, getattr(arguments, name))
  found = arguments.of
  if not isinstance(found, releases.Found):  # The page has read its own.
    found = releases.read(found)
  if arguments.command in _NO_DELTA:
    return Plan(mechanism=found.all, delta=None, notes=())
  delta, notes = arguments.delta, ()
  if delta is None:
    if (delta := found.delta) is None:
      raise ValueError("--delta must be given, got none.")
    notes = (f"delta {claims.exact(delta)}, as the ledger states",)
  return Plan(mechanism=found.all, delta=delta, notes=notes)


def refuse(arguments: argparse.Namespace, names, rule: str) -> None:
  """Refuses arguments that would be overlooked.

  Args:
    arguments: Parsed command line.
    names: Names of the arguments.
    rule: Rule that they break.

  Raises:
    ValueError: If one is given.
  """
  for name in names:
    value = getattr(arguments, name, None)
    if value is not None:
      _validate.fail(f"--{name.replace('_', '-')}", rule, value)


def _options() -> dict[str, samplers.Option]:
  """Returns the fields of one sampler's own, of all samplers."""
  found: dict[str, samplers.Option] = {}
  for name in samplers.names():
    found |= samplers.get(name).options
  return found


def _pairs(text: str | None) -> tuple[tuple[int, float], ...]:
  """Reads "0:1,500:2"; the mechanism checks the numbers."""
  try:
    pairs = [pair.split(":") for pair in (text or "").split(",") if text]
    return tuple((whole.parse(step), float(factor)) for step, factor in pairs)
  except ValueError:
    rule = "pairs such as 0:1,500:2"
    _validate.fail("--batch-size-schedule", rule, text)


def _sampling_prob(arguments) -> float:
  prob, size = arguments.sampling_prob, arguments.batch_size
  total = arguments.num_examples
  if (prob is None) == (size is None):
    got = "neither" if prob is None else "both"
    raise ValueError(
        "--sampling-prob must be given, or --num-examples and --batch-size, got"
        f" {got}."
    )
  if prob is not None:
    return prob
  if total is None:
    rule = "--num-examples must be given with --batch-size"
    raise ValueError(f"{rule}, got none.")
  return Mechanism.for_batch_size(
      expected_batch_size=size,
      num_examples=total,
      noise_multiplier=1.0,
      num_steps=1,
  ).sampling_prob


def _num_steps(arguments, prob: float) -> tuple[int, list[str]]:
  steps = arguments.num_steps
  epochs = getattr(arguments, "epochs", None)
  if (steps is None) == (epochs is None):
    got = "neither" if steps is None else "both"
    if not hasattr(arguments, "epochs"):
      raise ValueError("--num-steps must be given, got none.")
    raise ValueError(f"--num-steps or --epochs must be given, got {got}.")
  if steps is not None:
    return steps, []
  if arguments.batch_size_schedule:
    rule = "--num-steps must be given with --batch-size-schedule"
    raise ValueError(f"{rule}, got --epochs.")
  epochs = _validate.real("epochs", epochs, low=0, high=1e9)
  sampled = steps_for_epochs(num_epochs=epochs, sampling_prob=prob)
  per_epoch = min(1 / prob, 2.0**53)
  # Ten epochs of a tenth each are a hundred steps, whatever 1 / 0.1 rounds to.
  low = math.floor(per_epoch * (1 + 1e-12))
  high = math.ceil(per_epoch * (1 - 1e-12))
  choices = [math.ceil(epochs * k * (1 - 1e-12)) for k in (low, high)]
  if not samplers.get(arguments.sampling).amplifies:
    steps, how = choices[0], "epochs of floor(1 / sampling_prob) steps"
  else:
    steps, how = sampled, "epochs / sampling_prob, rounded up"
  return steps, [
      f"{epochs:g} epochs are taken as {steps} steps ({how}); dropping each "
      f"epoch's short last batch makes {choices[0]}, keeping it {choices[1]}."
  ]


def _delta(arguments) -> float | None:
  if arguments.command in _NO_DELTA:
    return None
  if arguments.delta is not None:
    return arguments.delta
  total = arguments.num_examples
  if total is None:
    raise ValueError("--delta must be given, got none.")
  _validate.integer("num_examples", total)
  # The power of ten next below 1 / N.
  suggestion = 10.0 ** -(math.floor(math.log10(total)) + 1)
  raise ValueError(
      "--delta must be given, got none. Choose it below 1 / "
      f"{total} = {1 / total:.2g}, for instance --delta {suggestion:.0e}."
  )


def targets(arguments: argparse.Namespace) -> list[float]:
  """Returns the epsilons of --epsilon: one, or several.

  Args:
    arguments: Parsed command line.

  Raises:
    ValueError: If one is no number.
  """
  try:
    return [float(part) for part in arguments.epsilon.split(",")]
  except ValueError:
    _validate.fail("--epsilon", "numbers such as 1,2,4,8", arguments.epsilon)


def said(found: list) -> list[str]:
  """Returns the texts of caught warnings of this package, once each.

  Args:
    found: Caught warnings.
  """
  ours = [
      str(w.message)
      for w in found
      if issubclass(w.category, _warnings.AccountingWarning)
  ]
  return list(dict.fromkeys(ours))
