"""Releases, profiles and statements as a notebook shows them.

Invariant: whatever a value holds is escaped: some of it may come from a file
that anyone can have written; bounds are rounded to the safe side.

>>> table("A & B", [("x", "<1>")])
'<p><b>A &amp; B</b></p><table><tr><td>x</td><td>&lt;1&gt;</td></tr></table>'
"""

import html
from collections.abc import Iterable
from typing import Any

from accounting import claims


def table(title: str, rows: Iterable[tuple[str, str]]) -> str:
  """Returns a heading and a table of names and values."""
  cells = "".join(
      f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>"
      for name, value in rows
  )
  return f"<p><b>{html.escape(title)}</b></p><table>{cells}</table>"


def release(value: Any) -> str:
  """Returns a mechanism, or each release of a composition."""
  title = f"{type(value).__name__}, {value.neighboring_relation}"
  held = getattr(value, "releases", None)
  if held is None:
    rows = [(name, str(item)) for name, item in value.to_dict().items()]
    return table(title, rows)
  unit = value.unit or "example"
  return table(
      f"{title}, one {unit}", [(f"{n} times", words(m)) for m, n in held]
  )


def words(mechanism: Any) -> str:
  """Returns a release in a few words."""
  found = getattr(mechanism, "words", None)
  if found is not None:
    return found
  return (
      f"{mechanism.num_steps} steps, noise multiplier "
      f"{claims.exact(mechanism.noise_multiplier)}, "
      f"{mechanism.sampling} {claims.at_most_short(mechanism.sampling_prob)}"
  )


def profile(value: Any) -> str:
  """Returns what the best attack reaches."""
  percent = claims.at_most_percent
  rows = [
      ("mu", claims.at_most_short(value.gdp_mu, digits=4)),
      ("Bayes success", percent(value.bayes_success)),
      ("advantage", percent(value.advantage)),
  ]
  rows += [
      (
          f"true positive rate at {claims.exact_percent(rate)} false positives",
          percent(bound),
      )
      for rate, bound in value.tpr_at_fpr.items()
  ]
  return table("The best attack, at most", rows)


def statement(value: Any) -> str:
  """Returns the sections of a statement."""
  parts = []
  for section in value.sections:
    texts = "".join(f"<p>{html.escape(p)}</p>" for p in section.paragraphs)
    rows = table("", section.rows).removeprefix("<p><b></b></p>")
    shown = rows if section.rows else ""
    parts.append(f"<h4>{html.escape(section.title)}</h4>{texts}{shown}")
  return "".join(parts)
