"""Builds what a config's run releases, with what is to be found from a budget.

The invariant: sampler, noise and accountant come from the one `Mechanism` that
is made here, and its epsilon is at most `dp.epsilon` wherever that is given.

What `dp.auto_tune` names is found from the budget, by `accounting.calibrate`;
everything else is given:

| dp.auto_tune | dp.noise_multiplier | batch size | steps |
|---|---|---|---|
| "noise_multiplier" | the least that fits | given | given |
| "num_steps" | given | given | the most that fit |
| "batch_size" | given | the largest that fits | given, as num_steps |
| "stopping_step" | given | given | given; the run stops at the last that fits |
| None, with dp.epsilon alone | the least that fits | given | given |
| None, with both | given | given | given, cut to the most that fit |
| None, with dp.noise_multiplier alone | given | given | given |

"stopping_step" and None with both release the same; they differ in the length
of learning-rate schedules, `Plan.schedule_steps`: the run as asked for, or as
cut.

With `dp.enabled` False the steps and batches are the same; no noise is added,
and none is looked for: the mechanism then says how batches are drawn.

`train.batch_size_schedule` gives fractions of the run as asked for; its factors
multiply the expected batch size, whichever way that is found. Epochs count how
often an example is expected to be seen, under the schedule.
"""

import dataclasses
import itertools
import math
import warnings
from typing import Any, NamedTuple, NoReturn

import ml_collections

import accounting
from accounting.numerics import schedule

AUTO_TUNE = ("noise_multiplier", "num_steps", "batch_size", "stopping_step")
# Placeholders for what is to be found.
_NOISE, _STEPS, _BATCH_SIZE = 1.0, 1, 1
# Fields that are not None where they are not given.
_NOT_GIVEN = {"train.expected_batch_size": 0, "train.batch_size_schedule": ()}


class Plan(NamedTuple):
  """What a run releases, and the length that it was planned for.

  Attributes:
    mechanism: Description of what the run releases.
    schedule_steps: Number of steps that learning-rate schedules span: more
      than the mechanism has, where "stopping_step" cuts the run short.
  """

  mechanism: accounting.Mechanism
  schedule_steps: int


def build_plan(
    dp_config: ml_collections.ConfigDict,
    train_config: ml_collections.ConfigDict,
    num_examples: int,
) -> Plan:
  """Returns the mechanism, with what is to be found from a target epsilon.

  Args:
    dp_config: A config's section; see the table above.
    train_config: The section of the batch size and the steps.
    num_examples: The stated size of the training data.

  Raises:
    ValueError: If a field breaks its rule, is given although it is to be found,
      or is not given although it is not; or no value of it fits the budget.

  Guarantee:
    `accounting.epsilon` of the mechanism is at most dp.epsilon, if given. One
    step or one expected example more would exceed it, where these are found;
    the noise multiplier is the least to one part in a thousand of epsilon.
  """
  tuned = dp_config.auto_tune
  if tuned is not None and tuned not in AUTO_TUNE:
    rule = f"None or one of {', '.join(AUTO_TUNE)}"
    raise ValueError(f"dp.auto_tune must be {rule}, got {tuned!r}.")
  if not dp_config.enabled and not _is_cut(dp_config):
    # Its noise decides nothing, and so is not looked for.
    mechanism = _as_given(dp_config, train_config, num_examples)
    return Plan(mechanism, mechanism.num_steps)
  if dp_config.delta is None:
    raise ValueError("dp.delta must be given, got None.")
  if tuned is None:
    mechanism = _within_budget(
        dp_config, _as_given(dp_config, train_config, num_examples)
    )
    return Plan(mechanism, mechanism.num_steps)
  _check_given(dp_config, train_config)
  mechanism = _as_given(dp_config, train_config, num_examples)
  if tuned != "stopping_step":
    found = _CALIBRATE[tuned](mechanism, **_target(dp_config))
    return Plan(found, found.num_steps)
  return Plan(_cut(dp_config, mechanism), mechanism.num_steps)


def _is_cut(dp_config) -> bool:
  """Whether the budget decides steps or batches, and not the noise alone."""
  if dp_config.auto_tune is None:
    return None not in (dp_config.epsilon, dp_config.noise_multiplier)
  return dp_config.auto_tune != "noise_multiplier"


def _check_given(dp_config, train_config) -> None:
  """Checks that everything is given but for what is to be found."""
  dp, train, tuned = dp_config, train_config, dp_config.auto_tune
  tuning = f"with dp.auto_tune {tuned!r}"
  values = {
      "noise_multiplier": {"dp.noise_multiplier": dp.noise_multiplier},
      "num_steps": {
          "train.num_steps": train.num_steps,
          "train.num_epochs": train.num_epochs,
          # Its phases would move with the end: epsilon need not rise.
          "train.batch_size_schedule": train.batch_size_schedule or None,
      },
      # A number of epochs would be one of steps only once the size is found.
      "batch_size": {
          "train.expected_batch_size": train.expected_batch_size or None,
          "train.num_epochs": train.num_epochs,
      },
      "stopping_step": {},
  }
  for name, value in values[tuned].items():
    if value is not None:
      none = _NOT_GIVEN.get(name)
      raise ValueError(f"{name} must be {none} {tuning}, got {value}.")
  if dp.epsilon is None:
    raise ValueError(f"dp.epsilon must be given {tuning}, got None.")
  if tuned != "noise_multiplier" and dp.noise_multiplier is None:
    raise ValueError(f"dp.noise_multiplier must be given {tuning}, got None.")


def _as_given(
    dp_config, train_config, num_examples: int
) -> accounting.Mechanism:
  """Returns the run, with placeholders for what is not given."""
  dp, tuned = dp_config, dp_config.auto_tune
  size = train_config.expected_batch_size
  mechanism = accounting.Mechanism.for_batch_size(
      expected_batch_size=_BATCH_SIZE if tuned == "batch_size" else size,
      num_examples=num_examples,
      num_steps=_STEPS,
      noise_multiplier=(
          _NOISE if dp.noise_multiplier is None else dp.noise_multiplier
      ),
      sampling=dp.sampling,
      max_batch_size=dp.max_batch_size,
      sampling_options=dp.sampling_options.to_dict(),
      noise=dp.noise,
      noise_options=dp.noise_options.to_dict(),
      neighboring_relation=dp.neighboring_relation,
  )
  if tuned == "num_steps":
    return mechanism
  phases = _fractions(train_config, mechanism.sampling_prob)
  # Expected batches are this many times as large, over the whole run.
  mean = sum(
      factor * (end - begin)
      for (begin, factor), (end, _) in itertools.pairwise([*phases, (1.0, 0)])
  )
  steps = num_steps(train_config, mechanism.sampling_prob * (mean or 1.0))
  return dataclasses.replace(
      mechanism,
      num_steps=steps,
      batch_size_schedule=_first_steps(phases, steps),
  )


def _fractions(train_config, sampling_prob: float) -> list[tuple[float, float]]:
  """Returns `train.batch_size_schedule`: (fraction of the run, factor).

  Only fractions have rules of their own here: the accountant has the others.
  """
  given, name = train_config.batch_size_schedule, "train.batch_size_schedule"
  pairs = []
  for pair in given:
    if not isinstance(pair, list | tuple) or len(pair) != 2:
      _fail(name, "pairs of a fraction of the run and a factor", given)
    if not all(isinstance(x, float | int) for x in pair):
      _fail(name, "pairs of numbers", given)
    pairs.append((float(pair[0]), float(pair[1])))
  begins = [begin for begin, _ in pairs]
  if pairs and (begins[0] != 0 or begins != sorted(set(begins))):
    _fail(name, "pairs of ascending fractions from 0 on", given)
  if not all(begin < 1 for begin in begins):
    _fail(name, "fractions below 1", given)
  try:
    schedule.check(
        [(step, factor) for step, (_, factor) in enumerate(pairs)],
        sampling_prob=sampling_prob,
        num_steps=max(len(pairs), 1),
    )
  except ValueError as error:
    raise ValueError(
        f"{name} must be what the accountant takes, got {given} ({error})"
    ) from error
  return pairs


def _first_steps(
    phases: list[tuple[float, float]], num_steps: int
) -> tuple[tuple[int, float], ...]:
  """Returns the first step of each phase, in a run of `num_steps` steps."""
  pairs = tuple(
      # 0.29 of a hundred steps are 29, whatever 0.29 * 100 rounds to.
      (math.floor(begin * num_steps * (1 + 1e-12)), factor)
      for begin, factor in phases
  )
  if len({first for first, _ in pairs}) < len(pairs):
    rule = f"of phases of a step at least, in {num_steps} steps"
    _fail("train.batch_size_schedule", rule, phases)
  return pairs


def _fail(name: str, rule: str, got: Any) -> NoReturn:
  raise ValueError(f"{name} must be {rule}, got {got}.")


def num_steps(
    train_config: ml_collections.ConfigDict, sampling_prob: float
) -> int:
  """Returns a config's number of updates.

  Args:
    train_config: A config's section; one of its num_steps and num_epochs is
      given.
    sampling_prob: The share of the examples that a batch has on average.

  Raises:
    ValueError: If a field breaks its rule.
  """
  train = train_config
  if (train.num_steps is None) == (train.num_epochs is None):
    raise ValueError(
        "Exactly one of train.num_steps and train.num_epochs must be given,"
        f" got {train.num_steps} and {train.num_epochs}."
    )
  if train.num_steps is not None:
    return train.num_steps
  return accounting.steps_for_epochs(
      num_epochs=train.num_epochs, sampling_prob=sampling_prob
  )


def _within_budget(dp_config, mechanism) -> accounting.Mechanism:
  """Returns the run that `dp.auto_tune` None means."""
  dp = dp_config
  if dp.noise_multiplier is None and dp.epsilon is None:
    raise ValueError(
        "dp.epsilon or dp.noise_multiplier must be given, got None for both."
    )
  if dp.noise_multiplier is None:
    return accounting.calibrate_noise(mechanism, **_target(dp_config))
  if dp.epsilon is not None:
    return _cut(dp_config, mechanism)
  if not math.isfinite(accounting.epsilon(mechanism, **_account(dp_config))):
    raise ValueError(
        "dp.noise_multiplier must be large enough for a finite epsilon, got"
        f" {dp.noise_multiplier}."
    )
  return mechanism


def _cut(dp_config, mechanism) -> accounting.Mechanism:
  """Returns the run, or as many of its first steps as fit the budget."""
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Of a run that may not be run.
    epsilon = accounting.epsilon(mechanism, **_account(dp_config))
  if epsilon <= dp_config.epsilon:
    return mechanism
  return accounting.calibrate_num_steps(mechanism, **_target(dp_config))


def _account(dp_config) -> dict[str, Any]:
  return {"delta": dp_config.delta, "accountant": dp_config.accountant}


def _target(dp_config) -> dict[str, Any]:
  return {"epsilon": dp_config.epsilon, **_account(dp_config)}


_CALIBRATE = {
    "noise_multiplier": accounting.calibrate_noise,
    "num_steps": accounting.calibrate_num_steps,
    "batch_size": accounting.calibrate_batch_size,
}
