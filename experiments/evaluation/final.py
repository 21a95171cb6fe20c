"""What the parameters that training ends with reach on the test split."""

from collections.abc import Mapping
from typing import Any

import ml_collections

from experiments.evaluation import outcomes as outcomes_lib
from experiments.plan import experiment as experiment_lib
from experiments.plan import fields
from experiments.tasks import registry, sections


def of_run(
    experiment: experiment_lib.Experiment, params: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns the numbers of a run, as summary.json holds them.

  Args:
    experiment: The run.
    params: Parameters of the whole model, by name; see `averages.by_name`.

  Returns:
    "test_examples", their number; "headline", the result: the task's first
    metric, as people read it, of the parameters that eval.params chose, and of
    the others; and each metric by name of the parameters, as the task names it.
    A number that the examples do not define is None.
  """
  config, source, task = (
      experiment.config,
      experiment.test_source,
      experiment.task,
  )
  rows = outcomes_lib.chosen_rows(source, config.eval.num_examples)
  values, is_share = {}, {}
  for name, of_name in params.items():
    outcomes = outcomes_lib.collect(
        task,
        experiment.predictor,
        of_name,
        source,
        rows,
        batch_size=config.eval.batch_size,
    )
    for metric, estimate in task.overall(source, outcomes).items():
      value = None if estimate.why_undefined else estimate.value
      values.setdefault(metric, {})[name] = value
      is_share[metric] = estimate.is_share
  first = next(iter(task.metrics))
  return {
      "test_examples": len(rows),
      "headline": {
          "metric": task.metrics[first],
          "is_share": is_share[first],
          "params": config.eval.params,
          "value": values[first][config.eval.params],
          "values": values[first],
      },
      **task.summary_numbers(values),
  }


def of_params(
    config: ml_collections.ConfigDict, params: Any
) -> dict[str, float]:
  """Returns the numbers of a config's model with these parameters, by name.

  Args:
    config: Config of the run.
    params: Pytree of parameters, as the model has them.
  """
  task = registry.build(**fields.task_sections(config))
  with sections.named("data.test_split"):
    source = task.load(config.data.test_split, for_evaluation=True)
  found = outcomes_lib.collect(
      task,
      task.build_predictor(source),
      params,
      source,
      outcomes_lib.chosen_rows(source, config.eval.num_examples),
      batch_size=config.eval.batch_size,
  )
  numbers = task.overall(source, found)
  return {name: float(number.value) for name, number in numbers.items()}
