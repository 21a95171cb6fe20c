"""The commands of `dp-budget` that explain: what a guarantee means and covers.

Invariant: a command returns its answer twice, as data and as text, both from
the same numbers, and writes no file but the one it was asked to.
"""

import dataclasses
import pathlib
import textwrap

from accounting import (
    _validate,
    _words,
    accountants,
    claims,
    explanation,
    plots,
    profile,
    statement,
    users,
)
from accounting.budget import audit as audit_lib
from accounting.budget import render, whole
from accounting.budget import report as report_lib
from accounting.budget.answer import Answer, sentence, table
from accounting.budget.answer import fields as fields_of
from accounting.budget.arguments import Plan
from accounting.mechanisms.stated import ApproximateDp

# Rounding errors of sums and Fourier transforms show in smaller ones, and they
# differ between processors.
_SHOWN_DELTA = 1e-10
_COUNTS = "--examples-per-user"


def profile_of(plan: Plan, arguments) -> Answer:
  """Returns the whole guarantee, and what the best attack reaches.

  Args:
    plan: Plan of the run.
    arguments: Parsed command line.

  Raises:
    ValueError: If an epsilon or delta is given too.
  """
  for name in ("epsilon", "delta"):
    if getattr(arguments, name) is not None:
      rule = "given for a guarantee without a run, or not at all"
      _validate.fail(f"--{name}", rule, getattr(arguments, name))
  return _profile(plan.mechanism, arguments)


def is_bare(arguments) -> bool:
  """Returns whether a profile is asked for of an epsilon and delta alone.

  Args:
    arguments: Parsed command line.
  """
  return arguments.command == "profile" and (
      arguments.noise_multiplier is None
      and arguments.epsilon is not None
      and not arguments.of
  )


def profile_of_pair(arguments) -> Answer:
  """Returns what an attacker may reach at best under an (epsilon, delta).

  Args:
    arguments: Parsed command line.

  Raises:
    ValueError: If delta is not given.
  """
  if arguments.delta is None:
    raise ValueError("--delta must be given with --epsilon, got None.")
  stated = ApproximateDp(
      epsilon=arguments.epsilon,
      delta=arguments.delta,
      neighboring_relation=arguments.neighboring,
  )
  return dataclasses.replace(_profile(stated, arguments), mechanism=None)


def _profile(mechanism, arguments) -> Answer:
  path = arguments.plot and plots.check_path(arguments.plot)
  found = profile.privacy_profile(
      mechanism, reconstruction_prior=arguments.prior
  )
  notes = (plots.save(plots.guarantee(found), path),) if path else ()
  points = [
      {"epsilon": e, "delta": d}
      for e, d in zip(
          found.epsilons.tolist(), found.deltas.tolist(), strict=True
      )
  ]
  facts = statement.profile_facts(found)
  fields = mechanism.to_dict() | {"profile": points} | facts
  rows = [
      (
          "mu of the Gaussian guarantee",
          claims.at_most_short(found.gdp_mu, digits=4),
      ),
      ("its regret", claims.at_most_short(found.gdp_regret, digits=2)),
      (
          "Bayes success (a coin: 50%)",
          claims.at_most_percent(found.bayes_success),
      ),
      *_words.attack_rows(facts),
  ]
  curve = [point_texts(**point) for point in points[:: len(points) // 9]]
  text = "\n\n".join(
      [
          table(("the best attack", "at most"), rows),
          table(("epsilon", "delta"), curve),
      ]
  )
  return Answer(
      fields=fields,
      text=text,
      mechanism=mechanism,
      notes=notes,
      rows=tuple(rows),
  )


def point_texts(*, epsilon: float, delta: float) -> tuple[str, str]:
  """Writes a point of the profile, to digits that no rounding error reaches.

  Args:
    epsilon: Epsilon of the point.
    delta: Delta there.

  Returns:
    Both, the second rounded up.
  """
  if delta <= _SHOWN_DELTA:
    return claims.exact(epsilon), f"below {claims.exact(_SHOWN_DELTA)}"
  return claims.exact(epsilon), claims.at_most_scientific(delta, digits=3)


def users_of(plan: Plan, arguments) -> Answer:
  """Returns epsilon for a user with several examples.

  Args:
    plan: Plan of the run.
    arguments: Parsed command line.

  Raises:
    ValueError: If no number of examples is given.
  """
  if not accountants.get(arguments.accountant).accounts_for_users:
    rule = f"{accountants.TIGHTEST} for users"
    _validate.fail("accountant", rule, arguments.accountant)
  counts = whole.list_of(arguments.examples_per_user, name=_COUNTS)
  values = users.user_epsilons(
      plan.mechanism, examples_per_user=counts, delta=plan.stated_delta
  )
  fields = fields_of(plan, arguments)
  if len(counts) == 1:
    fields |= {"epsilon": values[0], "examples_per_user": counts[0]}
    text = f"{sentence(fields)}, users of {counts[0]} examples"
    return Answer(fields=fields, text=text, mechanism=plan.mechanism)
  pairs = list(zip(counts, values, strict=True))
  fields["rows"] = [{"examples_per_user": k, "epsilon": e} for k, e in pairs]
  rows = [(str(k), claims.at_most(e)) for k, e in pairs]
  text = table(("examples per user", "epsilon"), rows)
  return Answer(fields=fields, text=text, mechanism=plan.mechanism)


def _statement(plan, arguments) -> statement.Statement:
  return statement.make_statement(
      plan.mechanism,
      delta=plan.stated_delta,
      accountant=arguments.accountant,
      batches=arguments.batches,
      unit=arguments.unit,
      examples_per_user=whole.list_of(
          arguments.examples_per_user, name=_COUNTS
      ),
  )


def statement_of(plan: Plan, arguments) -> Answer:
  """Returns what the run may claim, in words.

  Args:
    plan: Plan of the run.
    arguments: Parsed command line.
  """
  return _stated(_statement(plan, arguments), arguments, {})


def explained(plan: Plan, arguments) -> Answer:
  """Returns what the run's guarantee means, in a paragraph.

  Args:
    plan: Plan of the run.
    arguments: Parsed command line.
  """
  made = _statement(plan, arguments)
  texts = explanation.explain(made.facts, length=arguments.length)
  wrapped = [textwrap.fill(each, 78, break_on_hyphens=False) for each in texts]
  fields = made.facts | {"explanation": list(texts)}
  return Answer(
      fields=fields,
      text="\n\n".join(wrapped),
      warnings=tuple(made.facts["warnings"]),
  )


def report(arguments) -> Answer:
  """Returns what a finished run may claim, once it is verified.

  Args:
    arguments: Parsed command line.
  """
  workdir, audit = pathlib.Path(arguments.workdir), None
  checked = report_lib.verify(workdir)
  if arguments.audit is not None:
    audit = audit_lib.verify(
        pathlib.Path(arguments.audit),
        workdir=workdir,
        mechanism=checked.mechanism,
        summary=checked.summary,
    )
  made = report_lib.state(
      checked,
      unit=arguments.unit,
      audit=audit,
      examples_per_user=whole.list_of(
          arguments.examples_per_user, name=_COUNTS
      ),
  )
  return _stated(made, arguments, {"verified": True})


def _stated(made: statement.Statement, arguments, more: dict) -> Answer:
  """Renders a statement in the format asked for."""
  if arguments.format == "json":
    arguments.json = True
  # The statement says its warnings itself, in every format but JSON.
  warnings = tuple(made.facts["warnings"]) if arguments.json else ()
  fields = made.facts | more
  text = _FORMATS.get(arguments.format, render.text)(made)
  if not arguments.output:
    return Answer(fields=fields, text=text, warnings=warnings, pure=True)
  pathlib.Path(arguments.output).write_text(text, encoding="utf-8")
  text = f"wrote {arguments.output}"
  return Answer(fields=fields, text=text, warnings=warnings, pure=True)


def _html(made: statement.Statement) -> str:
  drawn = []
  if made.profile is not None:
    drawn.append(plots.svg(plots.guarantee(made.profile)))
  return render.html(made, plots=drawn)


_FORMATS = {"html": _html, "markdown": render.markdown}
