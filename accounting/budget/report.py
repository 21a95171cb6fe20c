"""Checks the summary of a finished run: every number recomputed.

A summary.json is a file that anyone can have written. Invariant: whatever it
holds, the outcome is a run whose numbers agree with each other, or a
ValueError of one line; nothing in it is run, imported or trusted.

>>> verify(pathlib.Path("nowhere"))
Traceback (most recent call last):
ValueError: workdir must be a folder with summary.json in it, got 'nowhere'.
"""

import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from accounting import (
    _validate,
    accountants,
    claims,
    composition,
    epsilons,
    statement,
)
from accounting.budget import audit as audit_lib
from accounting.budget import compare, records, results
from accounting.mechanism import Mechanism

_MECHANISM_KEYS = tuple(f.name for f in dataclasses.fields(Mechanism))
_OPTIONAL = ("sampling", "max_batch_size", "epsilon_target", "status")
# Not in older ones; and of samplers with fields of their own.
_OPTIONAL += ("batch_size_schedule", "sampling_options")
_OPTIONAL += ("noise", "noise_options")  # If it is correlated.
_POSITIVE = ("l2_clip_norm", "train_seconds", "examples_per_second")
_COUNTS = ("num_views", "num_parameters")
_MAX_EXAMPLE_IS = 300
_SEED = (
    "the seed was fixed, and is written in the run's summary: whoever knows it "
    "can recompute the noise, and against them nothing is protected. Such a "
    "run is for research, not for a release.",
)
_RESTORED = (
    "training began with parameters from elsewhere ({path}, sha256 {sha256}): "
    "the guarantee is for the training data of this run alone. What those "
    "parameters were trained on must be public or have a guarantee of its own; "
    "for data that are in both, the two runs compose."
)
_CONTINUED = (
    "training went on from another run ({path}) on the same data. Together the "
    "runs are ({epsilon}, {delta})-differentially private: state this epsilon. "
    "This run's own epsilon holds for no released model."
)
_MOST_RUNS = 100
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checked:
  """A summary whose numbers were recomputed.

  Attributes:
    mechanism: Mechanism of the run.
    delta: Delta of the guarantee.
    accountant: Name of the accountant.
    summary: Values of all keys of the file, as read.
    comparison: Result of comparing it with the folder's other files.
  """

  mechanism: Mechanism
  delta: float
  accountant: str
  summary: Mapping[str, Any]
  comparison: compare.Comparison


def verify(workdir: pathlib.Path) -> Checked:
  """Reads and checks the summary of a finished run.

  Args:
    workdir: The run's folder.

  Returns:
    The run, with its numbers.

  Raises:
    ValueError: If the file is missing, malformed, or disagrees with itself or
      with another file of the run; the message shows both values.
  """
  summary = _read(workdir)
  if (status := summary.get("status", "finished")) != "finished":
    _validate.fail("status", "'finished'", status)
  fields = {k: summary[k] for k in _MECHANISM_KEYS if k in summary}
  mechanism = Mechanism.from_dict(fields)
  _check_values(summary)
  records.check_epsilon(summary, mechanism)
  _check_composed(summary, mechanism)
  records.check_agree(
      "expected_batch_size",
      summary["expected_batch_size"],
      mechanism.expected_batch_size,
      1e-9,
  )
  total = mechanism.num_examples or 0  # Checked: a summary has it.
  speed = mechanism.expected_epochs * total
  records.check_agree(
      "examples_per_second",
      summary["examples_per_second"],
      speed / summary["train_seconds"],
      0.01,
  )
  return Checked(
      mechanism=mechanism,
      delta=float(summary["delta"]),
      accountant=summary["accountant"],
      summary=summary,
      comparison=compare.with_files(workdir, summary),
  )


def state(
    checked: Checked,
    *,
    unit: str | None,
    audit: audit_lib.Audit | None = None,
    examples_per_user: Sequence[int] = (),
) -> statement.Statement:
  """Returns the statement of a verified run.

  Args:
    checked: Summary of the run, checked.
    unit: Name of what an example is; None for the summary's.
    audit: Audit of the run; None if there was none.
    examples_per_user: Numbers of examples of a person; see `make_statement`.

  Returns:
    The statement, with the summary's other facts under "summary".
  """
  made = statement.make_statement(
      checked.mechanism,
      delta=checked.delta,
      accountant=checked.accountant,
      # This project's launcher derives its sampler from the same record.
      batches=checked.mechanism.sampler.batches,
      unit=checked.summary.get("unit", records.EXAMPLE)
      if unit is None
      else unit,
      max_rows_per_unit=checked.summary.get("max_rows_per_unit"),
      generator=checked.summary.get("generator"),
      grid_scale=checked.summary.get("grid_scale"),
      examples_per_user=examples_per_user,
      more_warnings=(
          *(_SEED if checked.summary["seed"] is not None else ()),
          *_restored(checked.summary),
          *_example_is(checked.summary),
          *(audit.warnings if audit else ()),
      ),
  )
  others = (*_COUNTS, *_POSITIVE, "params_sha256", "seed")
  facts = dict(filter(None, [results.result(checked.summary)]))
  found = results.check(checked.summary)
  facts |= results.without_repeats(checked.summary, found)
  facts |= {key: checked.summary[key] for key in others}
  rows = tuple(
      (key.replace("_", " "), _shown(value)) for key, value in facts.items()
  )
  text = "Read from the run's summary. The next section says what was checked."
  sections = [
      statement.Section(title="The run", paragraphs=(text,), rows=rows),
      _checks(checked.comparison),
  ]
  facts = made.facts | {
      "summary": dict(checked.summary),
      "compared": dict(checked.comparison.same),
      "not_compared": dict(checked.comparison.unchecked),
  }
  if audit:
    sections.append(audit.section())
    facts["audit"] = audit.facts()
  return dataclasses.replace(
      made,
      facts=facts,
      sections=(made.sections[0], *sections, *made.sections[1:]),
  )


def _checks(comparison: compare.Comparison) -> statement.Section:
  """Says what was recomputed, what was compared, and what was not."""
  texts = [
      "Epsilon, batch size and speed were recomputed from the summary's other "
      "numbers, and agree."
  ]
  texts += [
      f"The same in {name}: {', '.join(facts).replace('_', ' ')}."
      for name, facts in comparison.same.items()
  ]
  texts.append("Not checked, and as stated:")
  rows = [
      *comparison.unchecked.items(),
      ("results, parameters, time", "nothing to compare them with"),
  ]
  return statement.Section(
      title="What was checked",
      paragraphs=tuple(texts),
      rows=tuple((name.replace("_", " "), why) for name, why in rows),
  )


def _restored(summary: Mapping[str, Any]) -> tuple[str, ...]:
  """Returns the warning of a run that did not begin with fresh parameters."""
  origin = summary.get("restored_from")
  if origin is None:
    return ()
  path = records.short(origin["path"])
  if "released" in origin:
    bound = claims.at_most(summary["epsilon_composed"])
    delta = claims.at_most_short(summary["delta"])
    text = _CONTINUED.format(path=path, epsilon=bound, delta=delta)
    first = origin.get("began_with")
    return (text, *_restored({"restored_from": first}))
  text = _RESTORED.format(path=path, sha256=origin["sha256"])
  if origin.get("private", True) is not True:
    text += " The run that they come from was NOT PRIVATE."
  return (text,)


def _example_is(summary: Mapping[str, Any]) -> tuple[str, ...]:
  """Returns what an example of a run is, where its task says it."""
  if (said := summary.get("example_is")) is None:
    return ()
  return (f"An example is {said}.",)


def _check_composed(summary: Mapping[str, Any], mechanism: Mechanism) -> None:
  """Computes the epsilon of a run and those it continues again."""
  origin, stated = summary.get("restored_from") or {}, "epsilon_composed"
  is_continued = "released" in origin
  if is_continued != (stated in summary):
    raise ValueError(
        f"{stated} must be in summary.json where restored_from has the runs "
        "that were released before, and nowhere else, got it in one alone."
    )
  if not is_continued:
    return
  released = origin["released"]
  if not isinstance(released, list) or not 0 < len(released) <= _MOST_RUNS:
    _validate.fail(
        "restored_from.released",
        f"a list of 1 to {_MOST_RUNS} mechanisms",
        records.short(released),
    )
  runs = [Mechanism.from_dict(run) for run in released]
  together = composition.Composition([*runs, mechanism])
  epsilons.check_supported(together, accountant=accountants.TIGHTEST)
  found = epsilons.evaluate(
      together, delta=summary["delta"], accountant=accountants.TIGHTEST
  )
  records.check_agree(
      stated,
      _validate.real(stated, summary[stated], low=0, low_ok=True),
      found.epsilon,
      records.TOLERANCE,
  )


def _shown(value: Any) -> str:
  return f"{value:.6g}" if isinstance(value, float) else str(value)


def _read(workdir: pathlib.Path) -> dict[str, Any]:
  parsed = records.read("workdir", workdir, "summary.json")
  if parsed.get("private", True) is not True:
    raise ValueError(
        f"workdir must hold a private run, got {str(workdir)!r}, whose"
        " summary.json says that it is NOT PRIVATE: it was trained without"
        " clipping and noise, so there is nothing to claim."
    )
  required = [
      *(k for k in _MECHANISM_KEYS if k not in _OPTIONAL),
      *("epsilon", "delta", "accountant", "expected_batch_size"),
      *(*_POSITIVE, *_COUNTS, *results.required(parsed)),
      *("params_sha256", "seed", "versions"),
  ]
  for key in required:
    if key not in parsed:
      raise ValueError(f"summary.json must have the key {key!r}, got none.")
  return parsed


def _check_values(summary: Mapping[str, Any]) -> None:
  """Checks every value by its own rule."""
  for key in _POSITIVE:
    _validate.real(key, summary[key], low=0)
  for key in _COUNTS:
    _validate.integer(key, summary[key])
  results.check(summary)
  records.check_unit(summary)
  if (said := summary.get("example_is")) is not None:
    is_text = isinstance(said, str) and said.strip() and said.isprintable()
    if not is_text or len(said) > _MAX_EXAMPLE_IS:
      rule = f"at most {_MAX_EXAMPLE_IS} printable characters"
      _validate.fail("example_is", rule, records.short(said))
  _validate.integer("num_examples", summary["num_examples"])
  _validate.real("expected_batch_size", summary["expected_batch_size"], low=0)
  digest = summary["params_sha256"]
  _check_digest("params_sha256", digest)
  _check_restored("restored_from", summary.get("restored_from"))
  records.check_origin(summary)


def _check_restored(name: str, origin: Any) -> None:
  """Checks where parameters come from, and where those came from."""
  if origin is None:
    return
  if not isinstance(origin, dict) or not isinstance(origin.get("path"), str):
    _validate.fail(name, "null, or have a path", records.short(origin))
  _check_digest(f"{name}.sha256", origin.get("sha256"))
  first = origin.get("began_with")
  if isinstance(first, dict) and "released" in first:
    _validate.fail(f"{name}.began_with", "of no run", records.short(first))
  _check_restored(f"{name}.began_with", first)


def _check_digest(name: str, digest: Any) -> None:
  if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
    _validate.fail(name, "64 hexadecimal digits", records.short(digest))
