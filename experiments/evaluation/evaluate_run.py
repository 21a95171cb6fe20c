"""Evaluates a saved run, alone or with a twin, and shows what was found.

Invariant: numbers of examples that the run, or its twin, is known to be trained
on are marked private, on screen and in the file.
"""

import json
import pathlib
from typing import Any, NamedTuple

import ml_collections
import rich.console

from experiments.evaluation import outcomes, results, saved, tables
from experiments.evaluation import twin as twin_lib
from experiments.plan import averages, not_private, units
from experiments.run import workdir as workdir_lib
from experiments.tasks import task as task_lib


def evaluate(
    run: saved.SavedRun,
    *,
    which: str | None = None,
    twin: str | None = None,
    json_file: str | None = None,
) -> None:
  """Evaluates what a run saved, and prints it.

  Args:
    run: Saved run; see `saved.load`.
    which: Name of the parameters, or "all"; None for those of eval.params, and
      the others in short.
    twin: Path of a twin, see `twin.collect`; None for none.
    json_file: File to write all numbers to; None for no file.

  Raises:
    ValueError: If there are no such parameters, or the twin is not one of the
      same examples.
    OSError: If a file cannot be read or written.
  """
  names, detailed = _names(run.config, which)
  if json_file and not pathlib.Path(json_file).absolute().parent.is_dir():
    raise ValueError(
        f"json must be in a folder that there is, got {json_file}."
    )
  rows = outcomes.chosen_rows(run.source, run.config.eval.num_examples)
  found = {name: run.collect(name, rows) for name in names}
  reported = {
      name: results.sections(run.task, found[name], run.source, rows)
      if name in detailed
      else [results.overall(run.task, found[name], run.source)]
      for name in names
  }
  compared = None
  if twin is not None:
    targets = run.task.targets(found[names[0]])
    compared = twin_lib.collect(twin, run, rows, targets)
    twins = results.sections(run.task, compared.found, run.source, rows)
    compared = _Compared(compared.name, twins, compared.is_private)
  is_private = run.is_private or (compared is not None and compared.is_private)
  _print(run, reported, compared, num_examples=len(rows), is_private=is_private)
  if json_file:
    record = _record(run, reported, compared, is_private=is_private)
    record = {"num_examples": len(rows), **record}
    text = json.dumps(record, indent=2, allow_nan=False)
    pathlib.Path(json_file).write_text(text + "\n", encoding="utf-8")


class _Compared(NamedTuple):
  """A twin, with what was found of it."""

  name: str
  sections: list[task_lib.Section]
  is_private: bool


def _names(
    config: ml_collections.ConfigDict, which: str | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
  """Returns names of parameters to evaluate, and to tell everything of.

  The last of them is the one that a reader should see last.
  """
  names = averages.names(config.train)
  if which == "all":
    return names, names
  if which is not None and which not in names:
    raise ValueError(
        f"params must be one of {', '.join(names)} or all, got {which!r}."
    )
  if which is not None:
    return (which,), (which,)
  chosen = config.eval.params
  others = tuple(name for name in names if name != chosen)
  return (*others, chosen), (chosen,)


def _print(run, reported, compared, *, num_examples, is_private) -> None:
  console = rich.console.Console(highlight=False, soft_wrap=True)
  if is_private:
    console.print("These are training examples: the numbers are PRIVATE.")
  if not run.config.dp.enabled:
    console.print(not_private.SENTENCE)
  console.print(
      f"on {num_examples} examples of {run.split}; +- is a standard error:"
      f" {run.task.standard_errors}",
      markup=False,
  )
  if unit := run.config.data.unit:
    console.print(
        f"by row, not by {unit}: each row counts once, and standard errors take"
        " rows as independent",
        markup=False,
    )
  if compared is not None:
    console.print(f"twin: {compared.name}", markup=False)
  for name, sections in reported.items():
    title = f"{name} parameters of step {run.step}"
    if len(sections) == 1:
      line = tables.one_line(sections[0].rows, run.task.metrics)
      console.print(f"{title}: {line}", markup=False)
    else:
      console.print(title)
      twins = compared and compared.sections
      tables.show(console, sections, twins, names=run.task.metrics)


def _not_private(enabled: bool) -> dict[str, Any]:
  """Returns what marks numbers of a run without privacy."""
  if enabled:
    return {}
  return {"private": False, not_private.LABEL: not_private.SENTENCE}


def _record(run, reported, compared, *, is_private) -> dict[str, Any]:
  """Returns what --json writes; of training examples, marked private."""
  numbers = {"params": {k: results.as_json(v) for k, v in reported.items()}}
  if compared is not None:
    numbers["twin"] = results.as_json(compared.sections)
    numbers["difference"] = {
        name: results.differences_as_json(
            sections, compared.sections[: len(sections)]
        )
        for name, sections in reported.items()
    }
  return {
      "step": run.step,
      "split": run.split,
      "eval_params": run.config.eval.params,
      "standard_errors": run.task.standard_errors,
      "evaluated_by": "row" if run.config.data.unit else units.EXAMPLE,
      "twin_name": None if compared is None else compared.name,
      **_not_private(run.config.dp.enabled),
      **({workdir_lib.UNRELEASED_METRICS: numbers} if is_private else numbers),
  }
