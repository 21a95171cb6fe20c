"""Which guarantee a saved model has: as data, and as a sentence.

Invariant: an epsilon is computed anew from the mechanism that was saved with
the parameters, for all steps that were ever begun, and rounded up where it is
written. A run without privacy has no number, and says what it is.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import ml_collections

import accounting
from accounting import claims
from experiments.plan import continued, not_private, units

POST_PROCESSING = (
    " Predictions, and files made of the model, are post-processing of its"
    " parameters: they cost no privacy beyond that."
)
_UNIT = (
    " All rows of one {unit}, of which at most {max_rows_per_unit} were used,"
    " were one example."
)
_CONTINUES = (
    " Training went on from the run {path}, on the same data: this epsilon is"
    " for both together, by PLD."
)
FIXED_SEED = (
    " The seed was fixed: against whoever knows it nothing is protected. Such a"
    " model is for research, not for a release."
)
_RESTORED = (
    " Training began with the parameters of {path}: the guarantee says nothing"
    " of what they were trained on."
)


def of_run(
    config: ml_collections.ConfigDict,
    facts: Mapping[str, Any],
    *,
    steps: int,
    example_is: str = "",
) -> dict[str, Any]:
  """Returns what may be claimed of a model.

  Args:
    config: The run's.
    facts: Those of its checkpoint; see `resume.facts`.
    steps: Number of steps that were begun: each has cost its privacy.
    example_is: Text of what an example is; see `task.Task.example_is`.

  Returns:
    `private`, whether there is a guarantee; its numbers, each None if not; and
    the `statement` in words.

  Raises:
    ValueError: If the facts are not of a run.
  """
  dp, origin = config.dp, facts.get("restored_from")
  if not dp.enabled:
    found = dict.fromkeys(("epsilon", "delta", "accountant", "mechanism"))
    statement = not_private.SENTENCE
  else:
    mechanism = _mechanism(facts, steps)
    found = {
        "epsilon": _epsilon(mechanism, dp) if steps else 0.0,
        "delta": dp.delta,
        "accountant": dp.accountant,
        "mechanism": mechanism.to_dict(),
        **units.facts(config.data),
    }
    together = steps and continued.epsilon(origin, mechanism, delta=dp.delta)
    if together:
      found |= {"epsilon": together, "continues": origin["released"]}
    unit = units.of(found)
    statement = _sentence(mechanism, found, unit, steps) + POST_PROCESSING
    if example_is and not config.data.unit:
      statement += f" An example is {example_is}."
    if config.data.unit:
      statement += _UNIT.format(**found)
    if config.seed is not None:
      statement += FIXED_SEED
  if origin is not None and "released" in origin:
    statement += _CONTINUES.format(path=origin["path"])
    origin = origin.get("began_with")
  if origin is not None:
    statement += _RESTORED.format(path=origin["path"])
    if origin.get("private", True) is not True:
      statement += f" They come from a run that was {not_private.LABEL}."
  return {"private": dp.enabled, **found, "statement": statement}


def _mechanism(facts, steps: int) -> accounting.Mechanism:
  given = facts.get("mechanism")
  if not isinstance(given, Mapping):
    raise ValueError(
        "workdir must hold a checkpoint with the run's mechanism, got none."
    )
  mechanism = accounting.Mechanism.from_dict(given)
  # A run that was stopped early has spent less than a whole one.
  return mechanism.with_num_steps(min(max(steps, 1), mechanism.num_steps))


def _epsilon(mechanism: accounting.Mechanism, dp) -> float:
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Said when the run was trained.
    return accounting.epsilon(
        mechanism, delta=dp.delta, accountant=dp.accountant
    )


def _sentence(mechanism, found, unit: str, steps: int) -> str:
  relation = mechanism.neighboring_relation.replace("_", " ")
  return (
      f"({claims.at_most(found['epsilon'])},"
      f" {claims.at_most_short(found['delta'])})-differentially private for"
      f" {relation} {unit}, by {found['accountant'].upper()}, of {steps} steps"
      f" of DP-SGD with noise multiplier"
      f" {claims.exact(mechanism.noise_multiplier)}."
  )
