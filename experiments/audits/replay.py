"""Replays a run's gradient and noise on neighbouring batches.

The invariant: what is checked is what `run/loop.py` runs, on inputs of its
kind; nothing is trained and nothing written.
"""

import jax.numpy as jnp
import numpy as np

from accounting import claims
from experiments.plan import experiment as experiment_lib
from experiments.plan import not_private
from jax_privacy import testing
from jax_privacy import views as views_lib


def check(
    experiment: experiment_lib.Experiment, *, max_examples: int
) -> testing.PrivateReport:
  """Checks a run's gradient function and optimiser on its first examples.

  Args:
    experiment: Run to check.
    max_examples: Number of examples to use.

  Returns:
    Both reports, of sensitivity and of noise.

  Raises:
    ValueError: If the run is not private.
    SensitivityError: See `testing.check_sensitivity`.
    NoiseError: See `testing.check_noise`.
  """
  not_private.refuse(experiment.config.dp.enabled, "be replayed")
  source = experiment.train_source
  indices = np.arange(min(max_examples, len(source)), dtype=np.int32)
  batch = source[indices]
  keys = views_lib.example_keys(
      experiment.augment_key, step=0, indices=jnp.asarray(indices)
  )
  trained, frozen = experiment.partition.split(experiment.model.params)
  return testing.check_private(
      experiment.dp_training,
      trained,
      batch,
      keys,
      frozen,
      unbatched=(2,),
      mechanism=experiment.mechanism,
      max_examples=max_examples,
  )


def show(report: testing.PrivateReport) -> None:
  """Prints what was seen.

  Args:
    report: Report of `check`.
  """
  sensitivity, noise = report.sensitivity, report.noise
  print(f"Passed, on {sensitivity.num_batches} neighbouring batches.")
  for relation, bound in sensitivity.bounds.items():
    moved = sensitivity.movements[relation]
    print(
        f"  {relation}: moved by at most {claims.at_most_short(moved)} of"
        f" {claims.at_most_short(bound)} (private,"
        " not for release)"
    )
  for path in sensitivity.padding_branches:
    print(f"  control flow depends on the realised batch size: {path}")
  low, high = noise.stddev_interval
  print(
      f"  noise: standard deviation {noise.measured_stddev:.6g}, claimed"
      f" {noise.stddev:.6g}, in [{low:.6g}, {high:.6g}], from"
      f" {noise.num_draws:,} draws"
  )
