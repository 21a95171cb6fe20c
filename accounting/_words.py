"""The sentences of a statement.

Plain words for someone who is no expert, one function for each section. They
say only what `facts` holds, and name what the guarantee leaves out.
"""

import math
from typing import Any

from accounting import (
    _composition_words,
    _sampling_words,
    accountants,
    claims,
)

_RELATIONS = {
    "add_or_remove_one": "one has one {unit} more than the other",
    "replace_one": "they have the same size and differ in one {unit}",
    "replace_special": (
        "one of them has one {unit} left blank, which then contributes nothing"
    ),
}


def sections(facts: dict[str, Any], make) -> tuple:
  """Writes all sections.

  Args:
    facts: The facts of a `Statement`.
    make: The class `Section`, which this module cannot import.

  Returns:
    Sections, in the order they should be read.
  """
  parts = [
      ("Claim", _claim(facts), ()),
      ("Warnings", tuple(facts["warnings"]), ()),
      ("Who is trusted", _TRUST, ()),
      ("What is protected", _unit(facts), _relation_rows(facts)),
      ("People with several examples", _people(facts), _people_rows(facts)),
      ("What is released", _release(facts), _composition_words.rows(facts)),
      ("What the guarantee covers, and what not", _coverage(facts), ()),
      ("Accounting", _accounting(facts), _accounting_rows(facts)),
      ("Delta", _delta(facts), ()),
      ("What an attacker gains", _attack(facts), attack_rows(facts)),
      ("Randomness and arithmetic", _arithmetic(facts), ()),
      ("Versions", (), tuple(facts["versions"].items())),
  ]
  return tuple(
      make(title=title, paragraphs=paragraphs, rows=rows)
      for title, paragraphs, rows in parts
      if paragraphs or rows
  )


def _claim(facts) -> tuple[str, ...]:
  relation = facts["neighboring_relation"].replace("_", " ")
  composed = "releases" in facts
  trained = bool(_sampling_words.runs(facts))
  assumed = "batches were drawn" if trained else "noise was drawn"
  subject = _composition_words.subject(facts) if composed else "The run is"
  return (
      f"{subject} ({claims.at_most(facts['epsilon'])}, "
      f"{claims.at_most_short(facts['delta'])})-differentially "
      f"private under the {relation} relation, for one {facts['unit']} at a "
      f"time, if {assumed} as stated under Accounting.",
  )


_TRUST = (
    "Central model: whoever runs the training sees the raw data and is "
    "trusted with it. The guarantee is against everyone who sees what is "
    "released, whatever else they know and however much they compute.",
    "It does not protect the data where they are collected, stored or "
    "processed: access control, logs, crash dumps and timing are outside it.",
)


def _unit(facts) -> tuple[str, ...]:
  unit = facts["unit"]
  relation = _RELATIONS[facts["neighboring_relation"]].format(unit=unit)
  meant = "" if unit == "example" else ", taken to be one training example"
  several = (
      "Whoever contributed several training examples is protected less: "
      "`dp-budget users` computes by how much."
  )
  if (limit := facts["max_rows_per_unit"]) is not None:
    meant = (
        f": all rows of one {unit}, of which at most {limit} are used, are one "
        "training example"
    )
    several = f"Whoever has rows under more than one {unit} is protected less."
  return (
      f"The unit of privacy is one {unit}{meant}. Two data sets are neighbours "
      f"if {relation}. {several}",
      "Epsilon of the same run under each relation "
      "(- where there is no analysis):",
  )


def _relation_rows(facts) -> tuple[tuple[str, str], ...]:
  return tuple(
      (name, "-" if value is None else claims.at_most(value))
      for name, value in facts["epsilon_by_relation"].items()
  )


def _people(facts) -> tuple[str, ...]:
  if not facts["epsilon_by_examples_per_user"]:
    return ()
  return (
      "The same epsilon, and the same delta, for a person who contributed "
      f"several examples, each of them one {facts['unit']} above: all of them "
      "are hidden at once. The second number does not count on how batches are "
      "drawn.",
  )


def _people_rows(facts) -> tuple[tuple[str, str], ...]:
  return tuple(
      (
          f"{count} example{'' if count == '1' else 's'}",
          f"epsilon {claims.at_most(each['epsilon'])}; without sampling "
          f"{claims.at_most(each['without_sampling'])}",
      )
      for count, each in facts["epsilon_by_examples_per_user"].items()
  )


_RELEASE = (
    "All iterates: the noisy sum of clipped gradients of every step, hence "
    "every checkpoint, every average of them and the final model. Anything "
    "computed from these alone, predictions included, costs nothing more.",
)


def _release(facts) -> tuple[str, ...]:
  if "releases" not in facts:
    return _RELEASE
  of_runs = _RELEASE if _sampling_words.runs(facts) else ()
  return (*of_runs, *_composition_words.releases(facts))


def _coverage(facts) -> tuple[str, ...]:
  covered = f"Covered: the {facts['num_steps']} gradient steps of this one run."
  if "releases" in facts:
    covered = "Covered: all releases listed above."
  return (
      covered,
      "Not covered, unless accounted for as well: other runs on the same data "
      "(tuning; see `dp-budget tuning`); statistics of the data used in "
      "preprocessing, such as normalisation constants, vocabularies or the "
      "removal of duplicates; evaluation on private data; early stopping or "
      "the choice of a checkpoint by such an evaluation; and the training "
      "loss and realised batch sizes, if shown to anyone.",
      "The number of examples, the clip norm and the settings of the run are "
      "taken to be public.",
  )


def _accounting(facts) -> tuple[str, ...]:
  accountant = accountants.get(facts["accountant"])
  if not _sampling_words.runs(facts):
    return (
        f"Accountant: {accountant.title}. {accountant.remark}",
        "It assumes that each release has the noise and the sensitivity that "
        "are stated, and that its noise is drawn afresh.",
    )
  return (
      f"Accountant: {accountant.title}. {accountant.remark}",
      f"It assumes that {_sampling_words.assumption(facts)}; that each "
      "gradient is clipped by itself; that sums are divided by the expected "
      "batch size, never by the realised one; and that noise is added once per "
      "step, whose number counts updates and not microbatches, empty batches "
      "included.",
      *_sampling_words.correlations(facts),
      _sampling_words.satisfied(facts),
  )


def _accounting_rows(facts) -> tuple[tuple[str, str], ...]:
  epochs = facts["expected_epochs"]
  if "releases" in facts:  # What differs is listed with each of them.
    if not facts["num_steps"]:
      return ()
    return (
        ("steps (updates) of all releases", f"{facts['num_steps']}"),
        ("expected epochs of all releases", f"{epochs:.6g}"),
    )
  rows = [
      (
          "noise multiplier (noise on the sum / clip norm)",
          claims.exact(facts["noise_multiplier"]),
      ),
      ("steps (updates)", f"{facts['num_steps']}"),
      ("sampling probability", claims.at_most_short(facts["sampling_prob"])),
      ("expected epochs (steps x probability)", f"{epochs:.6g}"),
  ]
  rows += [
      (name.replace("_", " "), ", ".join(map(claims.exact, value)))
      for name, value in facts.get("noise_options", {}).items()
  ]
  if facts["num_examples"] is not None:
    size = facts["num_examples"] * facts["sampling_prob"]
    rows += [
        ("stated number of examples", f"{facts['num_examples']}"),
        ("expected batch size", _sampling_words.by_phase(facts, size)),
    ]
  return tuple(rows)


def _delta(facts) -> tuple[str, ...]:
  delta, total = facts["delta"], facts["num_examples"]
  text = (
      "With probability at most about delta = "
      f"{claims.at_most_short(delta)} the bound exp(epsilon) may fail "
      "altogether. "
  )
  if total is None:
    return (
        text + "It should be well below 1 over the number of examples, "
        "which was not stated.",
    )
  side = "below" if delta < 1 / total else "NOT below"
  expected = claims.at_most_short(delta * total, digits=3)
  return (
      text + f"It is {side} 1 / {total} = {1 / total:.3g}: delta times the "
      f"number of examples is {expected}.",
  )


# The one thing that an attacker does not know.
_UNKNOWN = {
    "add_or_remove_one": "whether one {unit} was used",
    "replace_special": "whether one {unit} was used or blanked",
    "replace_one": "which of two candidates for one {unit} was used",
}


def _attack(facts) -> tuple[str, ...]:
  if "gdp_mu" not in facts:
    return ("No tight analysis of this sampler is known to say it from.",)
  unknown = _UNKNOWN[facts["neighboring_relation"]].format(unit=facts["unit"])
  success = claims.at_most_percent(facts["bayes_success"])
  found = claims.at_most_percent(facts["tpr_at_fpr"]["0.01"])
  guess = (
      f"An attacker who knows everything except {unknown} guesses right with "
      f"probability at most {success}, where a coin gets 50%. At a false "
      f"positive rate of 1%, their true positive rate is at most {found}."
  )
  if not math.isfinite(facts["gdp_mu"]):
    return (guess, "No Gaussian guarantee holds: its mu would be infinite.")
  mu = claims.at_most_short(facts["gdp_mu"], digits=4)
  regret = claims.at_most_short(facts["gdp_regret"], digits=2)
  fit = (
      "so mu describes the whole guarantee"
      if facts["gdp_regret"] < 0.01
      else "so mu alone overstates what an attacker gains"
  )
  return (
      guess,
      "Telling neighbours apart is at least as hard as telling N(0, 1) from "
      f"N({mu}, 1), the {mu}-Gaussian guarantee; error rates differ by at most "
      f"{regret} from it, {fit}.",
  )


def attack_rows(facts: dict[str, Any]) -> tuple[tuple[str, str], ...]:
  """Returns what the best attack reaches, row by row."""
  if "gdp_mu" not in facts:
    return ()
  rows = [
      (
          "true positive rate at "
          f"{claims.exact_percent(float(rate))} false positives",
          claims.at_most_percent(value),
      )
      for rate, value in facts["tpr_at_fpr"].items()
  ]
  return (
      *rows,
      (
          "advantage (true minus false positive rate)",
          claims.at_most_percent(facts["advantage"]),
      ),
      (
          "reconstruction, where it succeeds in "
          f"{claims.exact_percent(facts['reconstruction_prior'])} without the "
          "model",
          claims.at_most_percent(facts["reconstruction_bound"]),
      ),
  )


_FLOATS = (
    "Floating-point sums and noise have been attacked in simpler settings "
    "(Mironov 2012): that is not covered."
)
_GRID = (
    "Each {unit}'s gradient was rounded to a grid of {grid_scale} steps to the "
    "clip norm, clipped by as much earlier, and noise to whole steps: the sum "
    "is one of integers and exact, so that rounding of sums is covered. That "
    "noise was drawn from floating-point numbers is not."
)
GENERATORS = {
    None: (
        "A generator that is not cryptographic could be predicted: not covered."
    ),
    "threefry": (
        "The generator, Threefry, has keys of 64 bits: who can try 2**64 keys "
        "can subtract the noise. That is not covered."
    ),
    "chacha20": (
        "Noise and batches were drawn by a cipher, ChaCha20, under keys with "
        "128 bits of entropy: the guarantee is against those who cannot break "
        "it."
    ),
}


def _arithmetic(facts) -> tuple[str, ...]:
  numbers = _FLOATS if facts["grid_scale"] is None else _GRID.format(**facts)
  return (
      f"The analysis takes real numbers and perfect randomness. {numbers}",
      f"{GENERATORS[facts['generator']]} A seed that is published, or kept "
      "where others can read it, voids the guarantee.",
  )
