"""A guarantee in a paragraph, for someone who answers for the data.

Three lengths: a sentence, a paragraph, and what it rests on. Invariant: every
number in a text is one of `Statement.facts`, rounded to the safe side.

>>> from accounting.mechanism import Mechanism
>>> from accounting.statement import make_statement
>>> run = Mechanism(noise_multiplier=4.0, sampling_prob=0.01, num_steps=1000)
>>> made = make_statement(run, delta=1e-5, unit="patient")
>>> explain(made.facts, length="short")[0][:56]
'Whether one patient is in the data changes the chance of'
"""

import math
from typing import Any

from accounting import _validate, claims

LENGTHS = ("short", "medium", "long")
_CHANGES = {
    "add_or_remove_one": "Whether one {unit} is in the data",
    "replace_one": "What the data say of one {unit}",
    "replace_special": "Whether one {unit} is in the data or left blank",
}


def explain(facts: dict[str, Any], *, length: str) -> tuple[str, ...]:
  """Returns paragraphs that say what a guarantee means.

  Args:
    facts: Facts of a `Statement`.
    length: Name of the length: "short", "medium" or "long".

  Returns:
    Texts, each a paragraph.

  Raises:
    ValueError: If it is none.
  """
  _validate.choice("length", length, options=LENGTHS)
  parts = [_odds(facts), *_attack(facts), *_rests_on(facts)]
  if length == "short":
    return (parts[0],)
  if length == "medium":
    return (" ".join([parts[0], *_attack(facts)]),)
  return tuple(parts)


def _odds(facts: dict[str, Any]) -> str:
  change = _CHANGES[facts["neighboring_relation"]].format(unit=facts["unit"])
  delta = claims.at_most_short(facts["delta"])
  if not math.isfinite(facts["epsilon"]) or facts["epsilon"] > 50:
    return (
        f"{change} may show in what is released: the guarantee, epsilon"
        f" {claims.at_most(facts['epsilon'])} at delta {delta}, protects"
        " nobody."
    )
  factor = claims.at_most_short(math.exp(facts["epsilon"]), digits=3)
  return (
      f"{change} changes the chance of any outcome by a factor of at most"
      f" {factor} (epsilon {claims.at_most(facts['epsilon'])}), except with a"
      f" probability of about {delta} (delta)."
  )


def _attack(facts: dict[str, Any]) -> tuple[str, ...]:
  if "bayes_success" not in facts:
    return ()
  success = claims.at_most_percent(facts["bayes_success"])
  found = claims.at_most_percent(facts["tpr_at_fpr"]["0.01"])
  return (
      "Someone who sees all that is released, and knows everything else,"
      f" guesses right whether one {facts['unit']} was used in at most"
      f" {success} of cases, where a coin is right in 50%. If they may accuse 1"
      " in 100 of those who were not used, they find at most"
      f" {found} of those who were.",
  )


def _rests_on(facts: dict[str, Any]) -> tuple[str, ...]:
  unit = facts["unit"]
  texts = [
      f"What is protected is one {unit} at a time, from everyone who sees what"
      " is released, for ever. It is not protected from those who hold the data"
      " or run the computation.",
  ]
  by_count = facts.get("epsilon_by_examples_per_user") or {}
  if set(by_count) - {"1"}:
    listed = "; ".join(
        f"with {count}, epsilon {claims.at_most(each['epsilon'])}"
        for count, each in by_count.items()
        if count != "1"
    )
    texts.append(f"A person with several examples is protected less: {listed}.")
  if facts["num_steps"]:
    bound = claims.at_most(facts["epsilon_deterministic"])
    texts.append(
        "It counts on batches that are drawn at random, as stated. Without"
        f" that, epsilon is {bound}."
    )
  texts.append(
      "It covers the releases that are listed, and no others: other models,"
      " statistics or choices made with the same data add to it."
  )
  return tuple(texts)
