"""The page's fields, as the command line that they make.

Invariant: a field is handed to the command as it was typed, so that the command
reads it, and complains of it, in its own words. What is left blank, or as the
command has it by itself, is left out.

>>> form = {"noise_multiplier": "3", "num_steps": "10", "delta": "1e-5"}
>>> shown(argv("epsilon", form))
'dp-budget epsilon --noise-multiplier 3 --num-steps 10 --delta 1e-5'
>>> field_of("num_steps must be an integer of at least 1, got 0.")
'num_steps'
"""

import re
import shlex
from collections.abc import Collection
from typing import Any

from accounting import _validate, samplers

# In the order of the command line.
RUN = (
    "noise_multiplier",
    "num_examples",
    "batch_size",
    "num_steps",
    "epochs",
    "max_batch_size",
    "delta",
)
CHOICES = {
    "sampling": "poisson",
    "neighboring": "add_or_remove_one",
    "accountant": "pld",
    "batches": "",
}
# What `statement` and `explain` have besides.
WORDS = {"unit": "", "examples_per_user": "1"}
# What a command finds, and so does not take.
_SOUGHT = {
    "noise": ("noise_multiplier",),
    "steps": ("num_steps", "epochs"),
    "batch-size": ("batch_size", "epochs"),
    "profile": ("delta",),
}
_MAX_LENGTH = 100
# What the library calls a field, where its flag has another name.
_SAME = {
    "expected_batch_size": "batch_size",
    "sampling_prob": "batch_size",
    "num_epochs": "epochs",
    "neighboring_relation": "neighboring",
    "relation": "neighboring",
}
_NAME = re.compile(r"--([a-z-]+)|(?:^|: )(?:argument )?([a-z_]+)[ :]")

Form = dict[str, str]


def options() -> dict[str, samplers.Option]:
  """Returns the fields of one sampler's own, of all samplers."""
  found: dict[str, samplers.Option] = {}
  for name in samplers.names():
    found |= samplers.get(name).options
  return found


def checked(form: Any) -> Form:
  """Returns a form, if it holds the page's fields and short texts alone.

  Args:
    form: Mapping of names to texts, as sent.

  Raises:
    ValueError: If it is none.
  """
  known = (*RUN, *CHOICES, *WORDS, *options())
  if not isinstance(form, dict):
    _validate.fail("form", "a mapping of names to texts", form)
  for name, value in form.items():
    if name not in known:
      _validate.fail("form", "of " + ", ".join(known), name)
    if not isinstance(value, str) or len(value) > _MAX_LENGTH:
      rule = f"a text of at most {_MAX_LENGTH} characters"
      _validate.fail(name, rule, value)
  return {name: value.strip() for name, value in form.items()}


def argv(
    command: str, form: Form, *more: str, words: bool = False
) -> list[str]:
  """Returns the command line of a question about the run.

  Args:
    command: Name of the command.
    form: Checked form.
    *more: Flags that the command has besides.
    words: Whether the command takes a unit and examples per user.
  """
  left_out = _SOUGHT.get(command, ())
  names = [n for n in (*RUN, *CHOICES, *options()) if n not in left_out]
  return [
      command,
      *flags(form, *names, *(WORDS if words else ())),
      *more,
  ]


def flags(form: Form, *names: str) -> list[str]:
  """Returns some fields as flags.

  Args:
    form: Checked form.
    *names: Names of the fields.
  """
  found: list[str] = []
  for name in names:
    value = form.get(name, "")
    if value in ("", (CHOICES | WORDS).get(name, "")):
      continue
    flag = f"--{name.replace('_', '-')}"
    # What begins with "-" would be read as a flag of its own.
    found += [f"{flag}={value}"] if value[0] == "-" else [flag, value]
  return found


def shown(arguments: list[str]) -> str:
  """Returns a command line to copy.

  Args:
    arguments: Arguments of the command.
  """
  return shlex.join(["dp-budget", *arguments])


def field_of(text: str, known: Collection[str] | None = None) -> str | None:
  """Returns the name of the field that an error is about, or None.

  Args:
    text: Text of the error.
    known: Names of fields; None for those of the run.
  """
  if known is None:
    known = (*RUN, *CHOICES, *WORDS, *options())
  for flag, name in _NAME.findall(text.partition(", got ")[0]):
    found = flag.replace("-", "_") or name
    found = _SAME.get(found, found)
    if found in known:
      return found
  return None
