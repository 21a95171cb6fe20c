"""`dp-budget compose`: what several releases of the same data cost together.

Invariant: every release is listed with the epsilon that it has alone; the last
line is the claim for all of them.

>>> from accounting import Laplace
>>> listed(3 * Laplace(scale=10.0), delta=1e-5, accountant="pld")[1][0][1:]
('3', '0.300')
"""

import argparse
from typing import Any

from accounting import (
    _html,
    _validate,
    claims,
    epsilons,
    release_calibration,
    users,
)
from accounting.budget import releases as releases_lib
from accounting.budget import whole
from accounting.budget.answer import Answer, sentence, table
from accounting.composition import Composition
from accounting.disjoint import Disjoint
from accounting.mechanism import Mechanism

HEADER = ("release", "times", "alone epsilon")


def run(arguments: argparse.Namespace) -> Answer:
  """Returns the epsilon of all releases together, and of each alone.

  Args:
    arguments: Parsed command line.

  Returns:
    The answer.

  Raises:
    ValueError: If a file or a folder is bad, or releases do not compose.
    OSError: If a file cannot be read.
  """
  return answer_of(releases_lib.read(arguments.releases), arguments)


def answer_of(
    found: releases_lib.Found, arguments: argparse.Namespace
) -> Answer:
  """Returns the epsilon of releases together, and of each alone.

  Args:
    found: Releases.
    arguments: Parsed command line.

  Returns:
    The answer.

  Raises:
    ValueError: If releases do not compose, or no number meets the target.
  """
  ask = {"delta": arguments.delta, "accountant": arguments.accountant}
  notes: tuple[str, ...] = ()
  if found.free is None:
    if arguments.epsilon is not None:
      rule = 'given where a number is "free" alone'
      _validate.fail("--epsilon", rule, arguments.epsilon)
    made = found.all
  else:
    made, note = solve(found, epsilon=arguments.epsilon, **ask)
    notes = (note,)
  total = epsilons.epsilon(made, **ask)
  data, rows = listed(made, **ask)
  fields: dict[str, Any] = {
      "epsilon": total,
      **ask,
      "neighboring_relation": made.neighboring_relation,
      "unit": made.unit,
      "releases": data,
  }
  text = table(HEADER, rows) + f"\ntogether: {sentence(fields)}"
  for count in whole.list_of(
      arguments.examples_per_user, name="--examples-per-user"
  ):
    value = users.user_epsilon(
        made, examples_per_user=count, delta=arguments.delta
    )
    fields.setdefault("epsilon_by_examples_per_user", {})[str(count)] = value
    text += (
        f"\nfor whoever has {count} examples: epsilon {claims.at_most(value)}"
    )
  return Answer(fields=fields, text=text, notes=notes, rows=tuple(rows))


def solve(
    found: releases_lib.Found,
    *,
    epsilon: float | None,
    delta: float,
    accountant: str,
) -> tuple[Composition, str]:
  """Finds the free number.

  Args:
    found: Releases, of which one has a free number.
    epsilon: Target for all together.
    delta: Delta of the guarantee.
    accountant: Name of the accountant.

  Returns:
    All releases, and a text that says the number.

  Raises:
    ValueError: If no target is given, or none meets it.
  """
  free = found.free
  if free is None or epsilon is None:
    _validate.fail("--epsilon", 'given where a number is "free"', epsilon)
  made = release_calibration.calibrate_release(
      free.release,
      free=free.name,
      epsilon=epsilon,
      delta=delta,
      accountant=accountant,
      others=found.others,
  )
  value = (
      made.releases[0].count
      if isinstance(made, Composition)
      else getattr(made, free.name)
  )
  name = free.name.replace("_", " ")
  text = f"{name} {claims.exact(value)}"
  if free.name == "sampling_prob" and isinstance(made, Mechanism):
    text = f"expected batch size {claims.exact(made.expected_batch_size)}"
  together = Composition([*found.fixed, made], unit=found.unit)
  return together, f"found: {text}"


def listed(
    composition: Composition, *, delta: float, accountant: str
) -> tuple[list[dict[str, Any]], list[tuple[str, str, str]]]:
  """Returns each release with its epsilon alone, as data and as text.

  Args:
    composition: Releases to list.
    delta: Delta of the guarantee.
    accountant: Name of the accountant.
  """
  data, rows = [], []
  for fields, release in zip(
      composition.to_dict()["releases"], composition.releases, strict=True
  ):
    value = epsilons.evaluate(
        Composition([release]), delta=delta, accountant=accountant
    ).epsilon
    data.append(fields | {"epsilon": value})
    text = _html.words(release.mechanism)
    rows.append((text, str(release.count), claims.at_most(value)))
    if isinstance(release.mechanism, Disjoint):
      for name, part in release.mechanism.of:
        for each, count in part.releases:
          rows.append((f"  {name}: {_html.words(each)}", str(count), ""))
  return data, rows
