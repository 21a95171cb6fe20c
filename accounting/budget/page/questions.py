"""What the page asks, answered by the commands of `dp-budget`.

Invariant: every number that the page shows as text is a text that a command
gives for the command line shown with it; the page adds words, and computes
nothing. The points of plots are the commands' data.

>>> form = {"noise_multiplier": "3", "num_examples": "50000",
...         "batch_size": "4096", "num_steps": "1000", "delta": "1e-5"}
>>> answer({"part": "epsilon", "form": form}, ledger=None)["epsilon"]
'3.883'
>>> answer({"part": "epsilon", "form": form | {"delta": "2"}}, ledger=None)
{'error': 'delta must be a number in (0, 1), got 2.0.', 'field': 'delta'}
"""

import contextlib
import functools
import io
import os
import re
from collections.abc import Callable
from typing import Any

from accounting import (
    _html,
    _validate,
    accountants,
    claims,
    samplers,
    statement,
)
from accounting.budget import arguments as arguments_lib
from accounting.budget import (
    command_line,
    commands,
    compose,
    explain,
    ledgers,
)
from accounting.budget.answer import Answer
from accounting.budget.page import entries as entries_lib
from accounting.budget.page import forms
from accounting.ledger import Ledger
from accounting.mechanism import NEIGHBORING_RELATIONS, Mechanism

# Up to 40, each is the epsilon that the command gives for that many steps.
_CURVE_POINTS = 24
_FINDS = {
    "noise": "noise_multiplier",
    "steps": "num_steps",
    "batch-size": "batch_size",
}
_KEYS = ("part", "form", "entries", "find")
START = {
    "noise_multiplier": "3",
    "num_examples": "50000",
    "batch_size": "4096",
    "num_steps": "1000",
    "delta": "1e-05",
    **forms.CHOICES,
    **forms.WORDS,
}

Reply = dict[str, Any]


def answer(question: dict[str, Any], *, ledger: str | None) -> Reply:
  """Returns the answer to a question, or the error with the field it is about.

  Args:
    question: Mapping of "part", "form", "entries" and "find", trusted in
      nothing.
    ledger: Path of the ledger, or None.
  """
  try:
    return _answer(question, ledger)
  except (ValueError, OSError, ImportError) as error:
    text = " ".join(str(error).split())
    known = entries_lib.names() if question.get("part") == "entry" else None
    return {"error": text, "field": forms.field_of(text, known)}
  except MemoryError:
    return {"error": "memory must be enough, got less.", "field": None}


def _answer(question: dict[str, Any], ledger: str | None) -> Reply:
  for key in question:
    if key not in _KEYS:
      _validate.fail("question", "of " + ", ".join(_KEYS), key)
  form = forms.checked(question.get("form", {}))
  part = _validate.choice("part", question.get("part"), options=[*_PARTS])
  return command_line.finite(_PARTS[part](form, question, ledger))


def _parsed(argv: list[str]):
  """Parses a command line; a complaint becomes a ValueError."""
  said = io.StringIO()
  try:
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
      return command_line.parse(argv)
  except SystemExit:
    text = said.getvalue().strip().removeprefix("dp-budget: ")
    raise ValueError(text) from None


def _asked(
    argv: list[str], command: Callable[[Any], Answer] = commands.run
) -> tuple[Answer, Reply]:
  """Runs a command; returns its answer, and what goes with every reply."""
  found, said = command_line.ask(command, _parsed(argv))
  return found, {
      "text": found.text,
      "rows": found.rows,
      "notes": found.notes,
      "warnings": said,
      "command": forms.shown(argv),
  }


def _asked_of_all(
    command: str, form: forms.Form, question: dict[str, Any], *more: str
) -> tuple[Answer, Reply]:
  """Runs a command of the run, or of it and the list, where there is one."""
  words = command != "profile"
  if not question.get("entries"):
    return _asked(forms.argv(command, form, *more, words=words))
  written = _written(form, question)

  def run(arguments) -> Answer:
    arguments.of = entries_lib.parse(written)
    return commands.run(arguments)

  # The file has the unit.
  names = ["delta"] if words else []
  names += ["accountant", "batches"]
  names += ["examples_per_user"] if words else []
  argv = [command, "--of", entries_lib.FILE, *forms.flags(form, *names), *more]
  return _asked(argv, run)


def _epsilon(form: forms.Form, question, ledger) -> Reply:
  del question, ledger
  found, reply = _asked(forms.argv("epsilon", form))
  return reply | {
      "epsilon": claims.at_most(found.fields["epsilon"]),
      "delta": claims.at_most_short(found.fields["delta"]),
  }


def _users(form: forms.Form, question, ledger) -> Reply:
  del question, ledger
  count = forms.flags(form, "examples_per_user")
  found, reply = _asked(forms.argv("users", form, *count))
  return reply | {
      "epsilon": claims.at_most(found.fields["epsilon"]),
      "count": found.fields["examples_per_user"],
  }


def _curve(form: forms.Form, question, ledger) -> Reply:
  del question, ledger
  points = f"--points={_CURVE_POINTS}"
  found, reply = _asked(forms.argv("curve", form, points))
  return reply | {"x": found.fields["steps"], "y": found.fields["epsilon"]}


def _profile(form: forms.Form, question, ledger) -> Reply:
  del ledger
  found, reply = _asked_of_all("profile", form, question)
  points = found.fields["profile"]
  return reply | {
      "x": [point["epsilon"] for point in points],
      "y": [point["delta"] for point in points],
      "points": [explain.point_texts(**point) for point in points],
  }


def _explain(form: forms.Form, question, ledger) -> Reply:
  del ledger
  long = ("--length", "long")
  found, reply = _asked_of_all("explain", form, question, *long)
  return reply | {"paragraphs": found.fields["explanation"]}


def _statement(form: forms.Form, question, ledger) -> Reply:
  del ledger
  return _asked_of_all("statement", form, question)[1]


def _run_of(form: forms.Form) -> Mechanism:
  return arguments_lib.read(_parsed(forms.argv("epsilon", form))).mechanism


def _written(form: forms.Form, question) -> str:
  """Returns the text of a file of the run and the list."""
  listed = entries_lib.checked(question.get("entries", []))
  return entries_lib.text([_run_of(form)], listed, form, read=_run_of)


def _compose(form: forms.Form, question, ledger) -> Reply:
  del ledger
  written = _written(form, question)
  argv = ["compose", entries_lib.FILE]
  argv += forms.flags(form, "delta", "accountant", "examples_per_user")
  found, reply = _asked(
      argv,
      lambda asked: compose.answer_of(entries_lib.parse(written), asked),
  )
  # The table is in the rows; below it are the claims.
  below = found.text.splitlines()[len(found.rows) + 1 :]
  return reply | {
      "header": compose.HEADER,
      "lines": below,
      "epsilon": claims.at_most(found.fields["epsilon"]),
      "toml": written,
  }


def _entry(form: forms.Form, question, ledger) -> Reply:
  """Checks what is to be added to the list, alone."""
  del ledger
  listed = entries_lib.checked(question.get("entries", []))
  try:
    found = entries_lib.parse(
        entries_lib.text([], listed, form, read=_run_of)
    ).all
  except ValueError as error:
    text = re.sub(r"^release.*?release \d+.*?: ", "", str(error))
    raise ValueError(text) from None
  return {"words": [_html.words(each) for each, _ in found.releases]}


def _ledger(form: forms.Form, question, ledger) -> Reply:
  held = _read(ledger)
  shown = ledgers.show(held)
  reply = {
      "rows": shown.rows,
      "header": ledgers.HEADER,
      "state": shown.text.splitlines()[-1],
      "what": shown.text.splitlines()[0],
      "share": held.spent / held.epsilon,
      "warnings": [],
  }
  written = _written(form, question)
  argv = ["ledger", "plan", str(ledger), entries_lib.FILE]
  reply |= {"command": forms.shown(argv), "toml": written}
  try:
    planned = ledgers.plan(held, entries_lib.parse(written))
  except ValueError as error:
    return reply | {"refused": " ".join(str(error).split())}
  after = planned.fields["epsilon_after"] / held.epsilon
  lines = [*planned.notes, planned.text.splitlines()[-1]]
  return reply | {"planned": lines, "share_after": after}


def _read(path: str | None) -> Ledger:
  if path is None:
    _validate.fail("ledger", "given when the page is begun", None)
  held = os.stat(path)
  return _read_of(path, held.st_mtime_ns, held.st_size, held.st_ino)


@functools.lru_cache(maxsize=1)
def _read_of(path: str, *_) -> Ledger:
  """Reads a ledger again only once it was written."""
  return Ledger.read(path)


def _find(form: forms.Form, question, ledger) -> Reply:
  """Finds one number of the run for an epsilon."""
  del ledger
  asked = entries_lib.checked([question.get("find")])[0]
  what = _validate.choice("find", asked.get("what"), options=[*_FINDS])
  target = asked.get("epsilon", "").strip()
  users = forms.flags(form, "examples_per_user")
  argv = forms.argv(what, form, *users, f"--epsilon={target}")
  found, reply = _asked(argv)
  if "rows" in found.fields:
    _validate.fail("epsilon", "one number on this page", target)
  name = _FINDS[what]
  return reply | {"name": name, "value": str(found.fields[name])}


def _begin(form: forms.Form, question, ledger) -> Reply:
  """Returns what the page's fields are, and how they begin."""
  del form, question
  start = START | {"epochs": "40"}
  if ledger is not None:
    held = _read(ledger)
    start |= {
        "num_examples": str(held.num_examples),
        "delta": claims.exact(held.delta),
        "neighboring": held.neighboring_relation,
        "unit": held.unit,
    }
    size = min(4096, max(1, held.num_examples // 10))
    start["batch_size"] = str(size)
  return {
      "start": start,
      "ledger": ledger is not None,
      "samplers": [
          {
              "name": name,
              "fields": [
                  *(f for f in samplers.get(name).fields if f in forms.RUN),
                  *samplers.get(name).options,
              ],
          }
          for name in samplers.names()
      ],
      "options": {n: o.help for n, o in forms.options().items()},
      "relations": NEIGHBORING_RELATIONS,
      "accountants": accountants.names(),
      "batches": statement.BATCHES,
      "kinds": entries_lib.kinds(),
  }


_PARTS: dict[str, Callable[..., Reply]] = {
    "begin": _begin,
    "epsilon": _epsilon,
    "users": _users,
    "curve": _curve,
    "profile": _profile,
    "explain": _explain,
    "statement": _statement,
    "compose": _compose,
    "entry": _entry,
    "ledger": _ledger,
    "find": _find,
}
