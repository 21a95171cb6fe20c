"""What the parameters that training ends with reach on the test split."""

from collections.abc import Mapping
from typing import Any

import jax
import ml_collections

from experiments.evaluation import outcomes as outcomes_lib
from experiments.plan import averages, fields, splits
from experiments.plan import experiment as experiment_lib
from experiments.plan import model as model_lib


def of_run(
    experiment: experiment_lib.Experiment, params: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns the numbers of a run, as summary.json holds them.

  Args:
    experiment: The run.
    params: Parameters of the whole model, by name; see `averages.by_name`.

  Returns:
    "test_examples", their number; and each metric by name of the parameters.
    Of examples with many labels there is no accuracy, and an area that the
    examples do not define is None.
  """
  config, source = experiment.config, experiment.test_source
  rows = outcomes_lib.chosen_rows(source, config.eval.num_examples)
  found = {}
  for name, of_name in params.items():
    outcomes = outcomes_lib.collect(
        experiment.test_model,
        of_name,
        source,
        rows,
        batch_size=config.eval.batch_size,
    )
    numbers = outcomes_lib.overall(outcomes, source, labels=config.eval.labels)
    for metric, estimate in numbers.items():
      value = None if estimate.why_undefined else estimate.value
      found.setdefault(metric, {})[name] = value
  accuracies = found.pop("accuracy", None)
  return {
      "test_examples": len(rows),
      "test_accuracy": accuracies and accuracies[averages.LAST],
      "test_accuracy_ema": accuracies and accuracies[averages.EMA],
      "test_accuracies": accuracies,
      **{f"test_{metric}": values for metric, values in found.items()},
  }


def of_params(
    config: ml_collections.ConfigDict, params: Any
) -> dict[str, float]:
  """Returns the numbers of a config's model with these parameters, by name."""
  with fields.named("data.test_split"):
    source = splits.build_source(
        config.data,
        config.data.test_split,
        augment_config=config.augment,
        for_evaluation=True,
    )
  found = outcomes_lib.collect(
      model_lib.build_for_evaluation(
          config.model,
          source,
          jax.random.key(0),
          data_config=config.data,
          augment_config=config.augment,
      ),
      params,
      source,
      outcomes_lib.chosen_rows(source, config.eval.num_examples),
      batch_size=config.eval.batch_size,
  )
  numbers = outcomes_lib.overall(found, source, labels=config.eval.labels)
  return {name: float(number.value) for name, number in numbers.items()}
