"""The sentences of a statement on several releases of the same data.

Invariant: each release is listed, with its count and the numbers that its
privacy depends on; where stated sizes differ, what that assumes is said.

>>> from accounting import statement
>>> from accounting.mechanism import Mechanism
>>> run = Mechanism(noise_multiplier=4.0, sampling_prob=0.1, num_steps=5)
>>> made = statement.make_statement(3 * run, delta=1e-5, unit="patient")
>>> made.sections[0].paragraphs[0][:56]
'The 3 releases listed below are together (0.372, 1e-05)-'
"""

from typing import Any

from accounting import _sampling_words, claims


def subject(facts: dict[str, Any]) -> str:
  """Says what a claim is about."""
  total = sum(each["count"] for each in facts["releases"])
  if total == 1:
    return "The release listed below is"
  return f"The {total} releases listed below are together"


def releases(facts: dict[str, Any]) -> tuple[str, ...]:
  """Says what holds of all releases together."""
  unit = facts["unit"]
  texts = [
      f"All releases below are of the same data. Each {unit} may be in every "
      "one of them, so their losses add up; the epsilons below, of each "
      "release alone, are not added but composed."
  ]
  sizes = {run["num_examples"] for run in _sampling_words.runs(facts)} - {None}
  if len(sizes) > 1:
    texts.append(
        "The stated numbers of examples differ. The claim holds if which "
        f"{unit}s a release was given does not depend on what the data hold: "
        "the data may have grown, but were not chosen by their values."
    )
  return tuple(texts)


def rows(facts: dict[str, Any]) -> tuple[tuple[str, str], ...]:
  """Lists each release."""
  if "releases" not in facts:
    return ()
  found = []
  runs = _sampling_words.numbered(facts)
  for number, each in enumerate(facts["releases"], 1):
    times = f", {each['count']} times" if each["count"] > 1 else ""
    text = each["words"] or _described(runs[number])
    if each["epsilon"] is not None:
      text += f"; alone epsilon {claims.at_most(each['epsilon'])}"
    found.append((f"release {number}{times}", text))
  return tuple(found)


def _described(run: dict[str, Any]) -> str:
  prob = _sampling_words.by_phase(run, run["sampling_prob"])
  parts = [
      f"{run['num_steps']} steps with noise multiplier "
      f"{claims.exact(run['noise_multiplier'])}",
      f"{run['sampling'].replace('_', ' ')} batches of a fraction {prob}",
  ]
  if run["num_examples"] is not None:
    parts.append(f"{run['num_examples']} stated examples")
  return "; ".join(parts)
