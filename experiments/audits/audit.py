"""What an audit found: audit.json, and the same on screen.

Invariant: a verdict is about all bounds at once. Each bound by itself exceeds
the true epsilon with probability at most 1 - confidence; the verdict "the audit
contradicts the claim" takes a share of that for each bound that it looks at, so
that it is wrong with probability at most 1 - confidence in all. It looks at no
bound whose assumptions the canaries do not meet.
"""

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from accounting import claims
from experiments.audits import canaries as canaries_lib
from experiments.plan import experiment as experiment_lib
from experiments.plan import units
from experiments.run import loop
from experiments.run import summary as summary_lib
from jax_privacy import auditing

# What a bound assumes; see `auditor.py`.
_ASSUMPTIONS = {
    "one_run": "fair coins",
    "one_run_fdp": "fair coins, a trade-off curve like a Gaussian's",
    "clopper_pearson": "independent scores",
    "from_gdp": "independent scores, such a curve",
    "mean_difference": "independent normal scores, such a curve",
}
_WITH_DEPENDENT_SCORES = ("one_run", "one_run_fdp")


def check_confidence(confidence: float) -> float:
  """Returns a confidence in (0, 1).

  Args:
    confidence: Confidence of each bound, a probability.

  Raises:
    ValueError: If it is not.
  """
  if not 0 < confidence < 1:
    raise ValueError(f"confidence must be in (0, 1), got {confidence}.")
  return confidence


def summarise(
    experiment: experiment_lib.Experiment,
    state: loop.TrainState,
    *,
    confidence: float,
    train_seconds: float,
) -> dict[str, Any]:
  """Returns what audit.json holds.

  Args:
    experiment: A run with canaries.
    state: Its last state.
    confidence: Confidence of each bound by itself, and of the whole verdict.
    train_seconds: Spent in the training loop.

  Returns:
    The claim, for the run as it was with canaries (num_examples counts them);
    "epsilon_of_copies", of as many examples as a canary is, which bounds are
    compared with; "exposure" of strings, None without them; "bounds" by method,
    each at the given confidence; "bounds_jointly", of those methods whose
    assumptions these canaries meet, all at once; and whether one of these
    exceeds the claim. None means infinity, which JSON lacks. Not there: scores,
    and who was in.
  """
  start = time.monotonic()
  canaries, config = experiment.canaries, experiment.config
  scores = np.asarray(canaries.score_fn(state), np.float64)
  auditor = auditing.CanaryScoreAuditor(
      *canaries.membership.split_scores(scores)
  )
  delta = config.dp.delta
  methods = _ASSUMPTIONS if canaries.independent else _WITH_DEPENDENT_SCORES
  bounds = auditor.all_bounds(1 - confidence, delta)
  jointly = auditor.all_bounds((1 - confidence) / len(methods), delta)
  jointly = {name: jointly[name] for name in methods}
  privacy = summary_lib.privacy(config, experiment.mechanism)
  claimed = canaries_lib.epsilon_of_copies(
      experiment.mechanism, canaries.num_copies, delta=delta
  )
  claimed = privacy["epsilon"] if claimed is None else claimed
  return {
      "status": "finished",
      "name": config.name,
      **privacy,
      "num_steps": int(state.step),
      "canary": config.audit.canary,
      "num_canaries": canaries.membership.num_canaries,
      "num_copies": canaries.num_copies,
      "epsilon_of_copies": claimed,
      "exposure": _exposure(canaries, state),
      "confidence": confidence,
      "bounds": _finite(bounds),
      "bounds_jointly": _finite(jointly),
      "contradicts_claim": max(jointly.values()) > claimed,
      "train_seconds": train_seconds,
      "audit_seconds": time.monotonic() - start,
      "seed": config.seed,
      "versions": summary_lib.versions(),
  }


def _exposure(canaries, state) -> dict[str, Any] | None:
  """Returns what is known of strings' ranks; None where there are none."""
  if canaries.exposure_fn is None:
    return None
  bits = canaries.exposure_fn(state)
  included, excluded = canaries.membership.split_scores(bits)
  return {
      "num_references": canaries.num_references,
      "included_mean": float(np.mean(included)),
      "excluded_mean": float(np.mean(excluded)),
      "included_most": float(np.max(included)),
  }


def show(audit: Mapping[str, Any]) -> None:
  """Prints the claim, what was run, the bounds and the time.

  Args:
    audit: Record of an audit, as `audit.json` holds it.
  """
  num_real = audit["num_examples"] - audit["num_canaries"]
  batch_size = num_real * audit["sampling_prob"]
  epsilon = claims.at_most(audit["epsilon"])
  confidence = claims.exact(audit["confidence"])
  print(
      f"claimed: epsilon {epsilon} at delta"
      f" {claims.at_most_short(audit['delta'])}"
      f" ({audit['accountant']}, {audit['neighboring_relation']}), noise"
      f" multiplier {claims.exact(audit['noise_multiplier'])}, sampling"
      f" probability {claims.at_most_short(audit['sampling_prob'], digits=4)},"
      f" {audit['num_steps']} steps\n"
      f"run: {num_real} examples{_each(audit)} and"
      f" {audit['num_canaries']} canaries"
      f" ({audit['canary']}), hence an expected batch of"
      f" {audit['expected_batch_size']:.1f} instead of {batch_size:.1f}:"
      " epsilon depends on neither, and is the config's own"
  )
  _show_copies(audit)
  print(f"epsilon is at least, with confidence {confidence} each:")
  for name, assumed in _ASSUMPTIONS.items():
    if name not in audit["bounds_jointly"]:
      assumed += ", NOT MET by these canaries: no bound"
    bound = claims.at_least(audit["bounds"][name], decimals=2)
    print(f"  {name:<15} {bound:>8}  assumes {assumed}")
  print(
      f"{audit['train_seconds']:.1f} s of training,"
      f" {audit['audit_seconds']:.1f} s of scores and bounds"
  )


def _show_copies(audit) -> None:
  """Prints what is claimed of copies, and how exposed strings are."""
  if audit["num_copies"] > 1:
    print(
        f"each canary is {audit['num_copies']} examples, of which together"
        f" epsilon {claims.at_most(audit['epsilon_of_copies'])} is claimed, by"
        " PLD"
    )
  if audit["exposure"] is not None:
    bits = audit["exposure"]
    print(
        "exposure in bits, by rank among"
        f" {bits['num_references']} strings like it: mean"
        f" {bits['included_mean']:.2f} of those in, {bits['excluded_mean']:.2f}"
        f" of those out (chance: 1.44), most {bits['included_most']:.2f}"
    )


def _each(audit) -> str:
  unit = units.of(audit)
  return "" if unit == units.EXAMPLE else f" (each a {unit})"


def verdict(audit: Mapping[str, Any]) -> str:
  """Returns the last line: what the bounds mean for the claim.

  Args:
    audit: Record of an audit, as `audit.json` holds it.
  """
  name, bound = max(
      audit["bounds_jointly"].items(), key=lambda item: _float(item[1])
  )
  if audit["contradicts_claim"]:
    epsilon = claims.at_most(audit["epsilon_of_copies"])
    least = claims.at_least(bound, decimals=2)
    confidence = claims.exact(audit["confidence"])
    return (
        f"the audit contradicts the claim: epsilon {epsilon} is claimed, and is"
        f" at least {least} by {name}, with confidence {confidence} for all"
        " bounds at once."
    )
  above = [
      name
      for name in audit["bounds_jointly"]
      if _float(audit["bounds"][name]) > audit["epsilon_of_copies"]
  ]
  if above:
    return (
        f"The audit does not contradict the claim, but {', '.join(above)} by"
        " itself is above it: audit again with another seed."
    )
  return "The audit does not contradict the claim; no audit proves one."


def _finite(bounds: Mapping[str, float]) -> dict[str, float | None]:
  return {k: v if math.isfinite(v) else None for k, v in bounds.items()}


def _float(bound: float | None) -> float:
  return math.inf if bound is None else bound
