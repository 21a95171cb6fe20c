"""The sentences of a statement on how one run drew its batches.

Invariant: they say what the accounting assumes, of each release where a
statement covers several; `facts` are those of a `Statement`.

>>> from accounting.mechanism import Mechanism
>>> run = Mechanism(noise_multiplier=1.0, sampling_prob=0.1, num_steps=5)
>>> assumption(run.to_dict() | {"unit": "patient"})
'every patient enters every batch independently, with probability 0.1'
"""

import math
from typing import Any

from accounting import claims, noises, samplers


def runs(facts: dict[str, Any]) -> list[dict[str, Any]]:
  """Returns the facts of each run: one, or those of a composition."""
  return list(numbered(facts).values())


def numbered(facts: dict[str, Any]) -> dict[str, dict[str, Any]]:
  """Returns the facts of each run, by the number of its release.

  Of disjoint data the name of the part follows the number: "2 (north)".
  """
  if "releases" not in facts:
    return {"1": facts}
  shared = {k: v for k, v in facts.items() if k != "releases"}
  return {
      label: shared | {"sampling_options": {}} | each["mechanism"]
      for label, each in listed(facts["releases"])
      if each["words"] is None
  }


def listed(
    releases: list[dict[str, Any]], within: str = ""
) -> list[tuple[str, dict[str, Any]]]:
  """Returns each release after its number, and each of a part of the data.

  Args:
    releases: Facts of the releases.
    within: Number of the release and name of the part that they are of.
  """
  found = []
  for number, each in enumerate(releases, 1):
    label = f"{within}, {number}" if within else str(number)
    found.append((label, each))
    for name, parts in each.get("parts", {}).items():
      one = len(parts) == 1
      inner = listed(parts, f"{label} ({name})")
      found += [(f"{label} ({name})", parts[0])] if one else inner
  return found


def assumption(facts: dict[str, Any]) -> str:
  """Says how batches are drawn: "It assumes that ..."."""
  if "releases" in facts:
    return _by_release({n: assumption(r) for n, r in numbered(facts).items()})
  probs = by_phase(facts, facts["sampling_prob"])
  # As `Mechanism.max_participations` counts: 1 / (1 / k) may fall short of k.
  apart = math.floor(min(1 / facts["sampling_prob"], 2.0**53) * (1 + 1e-12))
  options = {"num_selected": 1} | facts.get("sampling_options", {})
  steps = options["num_selected"] / facts["sampling_prob"]
  return samplers.get(facts["sampling"]).sentence.format(
      **facts,
      **options,
      probs=probs,
      steps_apart=apart,
      steps_per_round=round(min(steps, 2.0**53)),
  )


def correlations(facts: dict[str, Any]) -> list[str]:
  """Says how the noise of a run's steps is correlated, where it is."""
  texts = {
      number: noises.get(run.get("noise", "independent")).sentence
      for number, run in numbered(facts).items()
  }
  if set(texts.values()) == {noises.get("independent").sentence}:
    return []
  return [f"It assumes that {_by_release(texts)}."]


def _by_release(texts: dict[str, str]) -> str:
  """Joins sentences, each after the numbers of its releases."""
  which: dict[str, list[str]] = {}
  for number, text in texts.items():
    which.setdefault(text, []).append(number)
  if len(which) == 1:
    return next(iter(which))
  return "; ".join(
      f"in release {', '.join(numbers)} {text}"
      for text, numbers in which.items()
  )


def by_phase(facts: dict[str, Any], value: float) -> str:
  """Writes what a schedule's factors multiply: at first, and from each step."""
  schedule = facts["batch_size_schedule"] or [[0, 1.0]]
  first, *later = [
      claims.at_most_short(value * factor) for _, factor in schedule
  ]
  changes = [
      f"{text} from step {step + 1} on"
      for text, (step, _) in zip(later, schedule[1:], strict=True)
  ]
  if not changes:
    return first
  return f"{first}, " + ", ".join([*changes[:-1], f"and {changes[-1]}"])


def satisfied(facts: dict[str, Any]) -> str:
  """Compares what is assumed with how the program is said to draw batches."""
  drawn = facts["batches"]
  counted_on = [
      sampler
      for sampler in (samplers.get(run["sampling"]) for run in runs(facts))
      if sampler.amplifies
  ]
  bound = claims.at_most(facts["epsilon_deterministic"])
  if facts["neighboring_relation"] != "replace_one":
    bound += f" (for blanking one {facts['unit']})"
  if not counted_on:
    return "Fixed batches and shuffled epochs both satisfy this."
  if drawn is None:
    return (
        "Nobody has said whether the program draws batches so. If it shuffles "
        f"or goes through the data in order, epsilon is {bound}: no more than "
        "that is proven."
    )
  if all(drawn == sampler.batches for sampler in counted_on):
    return (
        "The program is said to draw batches so. If it merely shuffled, "
        f"epsilon would be {bound}."
    )
  return (
      f"The program is said to use {drawn} batches: the assumption is NOT met, "
      f"and only epsilon {bound} is proven."
  )
