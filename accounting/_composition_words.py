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


_TOGETHER = (
    "All releases below are of the same data. Each {unit} may be in every one "
    "of them, so their losses add up; the epsilons below, of each release "
    "alone, are not added but composed."
)
_DISJOINT = (
    "The data were split by {by}, and it is stated that no {unit} is in two "
    "parts. Each {unit} pays for the releases of one part, whichever costs "
    "most. Nothing here can check this statement: where a {unit} is in two "
    "parts, the claim does not hold for it."
)
_PUBLIC = (
    "Some steps are stated to be public: they read none of the data, and cost "
    "nothing. If one did read the data, the claim does not cover it."
)
_SIZES = (
    "The stated numbers of examples differ. The claim holds if which {unit}s a "
    "release was given does not depend on what the data hold: the data may "
    "have grown, but were not chosen by their values."
)


def releases(facts: dict[str, Any]) -> tuple[str, ...]:
  """Says what holds of all releases together."""
  unit = facts["unit"]
  texts = [_TOGETHER.format(unit=unit)]
  all_ = [each for _, each in _sampling_words.listed(facts["releases"])]
  splits = [r["mechanism"]["by"] for r in all_ if "parts" in r]
  texts += [_DISJOINT.format(unit=unit, by=by) for by in splits]
  if any(each["kind"] == "public" for each in all_):
    texts.append(_PUBLIC)
  sizes = {run["num_examples"] for run in _sampling_words.runs(facts)} - {None}
  if len(sizes) > 1:
    texts.append(_SIZES.format(unit=unit))
  return tuple(texts)


def rows(facts: dict[str, Any]) -> tuple[tuple[str, str], ...]:
  """Lists each release."""
  if "releases" not in facts:
    return ()
  found = []
  runs = _sampling_words.numbered(facts)
  for label, each in _sampling_words.listed(facts["releases"]):
    times = f", {each['count']} times" if each["count"] > 1 else ""
    text = each["words"] or _described(runs[label])
    if each.get("epsilon") is not None and each["kind"] != "public":
      text += f"; alone epsilon {claims.at_most(each['epsilon'])}"
    found.append((f"release {label}{times}", text))
  return tuple(found)


def _described(run: dict[str, Any]) -> str:
  prob = _sampling_words.by_phase(run, run["sampling_prob"])
  parts = [
      f"{run['num_steps']} steps with noise multiplier "
      f"{claims.exact(run['noise_multiplier'])}",
      f"{run['sampling'].replace('_', ' ')} batches of a fraction {prob}",
  ]
  if run.get("noise", "independent") != "independent":
    parts.append(f"{run['noise']} noise, correlated from step to step")
  if run["num_examples"] is not None:
    parts.append(f"{run['num_examples']} stated examples")
  return "; ".join(parts)
