"""Builds what a config's run releases, with what is to be found from a budget.

The invariant: sampler, noise and accountant come from the one `Mechanism` that
is made here.
"""

import dataclasses
import math

import ml_collections

import accounting


def build_mechanism(
    config: ml_collections.ConfigDict, num_examples: int
) -> accounting.Mechanism:
  """Returns the mechanism, with noise or steps found from a target epsilon.

  Args:
    config: Of dp.epsilon and dp.noise_multiplier, at least one is given. With
      epsilon alone, the least noise that meets it is found; with both, the run
      is cut to the most steps that fit.
    num_examples: The stated size of the training data.

  Raises:
    ValueError: If a field breaks its rule, or not even one step fits.
  """
  dp = config.dp
  mechanism = accounting.Mechanism.for_batch_size(
      expected_batch_size=config.train.expected_batch_size,
      num_examples=num_examples,
      num_steps=1,
      noise_multiplier=(
          1.0 if dp.noise_multiplier is None else dp.noise_multiplier
      ),
      sampling=dp.sampling,
      max_batch_size=dp.max_batch_size,
      neighboring_relation=dp.neighboring_relation,
  )
  mechanism = dataclasses.replace(
      mechanism, num_steps=_num_steps(config, mechanism.sampling_prob)
  )
  if dp.delta is None:
    raise ValueError("dp.delta must be given, got None.")
  budget = {"delta": dp.delta, "accountant": dp.accountant}
  if dp.noise_multiplier is None and dp.epsilon is None:
    raise ValueError(
        "dp.epsilon or dp.noise_multiplier must be given, got None for both."
    )
  if dp.noise_multiplier is None:
    return accounting.calibrate_noise(mechanism, epsilon=dp.epsilon, **budget)
  epsilon = accounting.epsilon(mechanism, **budget)
  if dp.epsilon is None and not math.isfinite(epsilon):
    raise ValueError(
        "dp.noise_multiplier must be large enough for a finite epsilon, got"
        f" {dp.noise_multiplier}."
    )
  if dp.epsilon is None or epsilon <= dp.epsilon:
    return mechanism
  return accounting.calibrate_num_steps(mechanism, epsilon=dp.epsilon, **budget)


def _num_steps(config, sampling_prob: float) -> int:
  train = config.train
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
