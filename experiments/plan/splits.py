"""Loads the training and the test split of a task's data.

The invariant: the test split shares no example with the training split.
"""

import ml_collections

from experiments.tasks import sections
from experiments.tasks import task as task_lib
from jax_privacy.data import source as source_lib


def load(
    task: task_lib.Task, data_config: ml_collections.ConfigDict
) -> tuple[task_lib.Source, task_lib.Source]:
  """Loads the training and the test split, and checks that they are a pair.

  Args:
    task: Task of the run.
    data_config: A config's section.

  Returns:
    The training split and the test split.

  Raises:
    ValueError: If a field breaks its rule; the text names it.
  """
  if share_examples(data_config.test_split, data_config.train_split):
    raise ValueError(
        "data.test_split must share no example with data.train_split,"
        f" {data_config.train_split!r} (what it gives is released), got"
        f" {data_config.test_split!r}."
    )
  with sections.named("data.train_split"):
    # With a unit, the stated number is one of units, not of rows.
    stated = None if data_config.unit else data_config.num_examples
    train_source = task.load(data_config.train_split, num_examples=stated)
  with sections.named("data.test_split"):
    test_source = task.load(data_config.test_split, for_evaluation=True)
  task.check_splits(train_source, test_source)
  return train_source, test_source


def share_examples(split: str, other: str) -> bool:
  """Returns whether two splits of a data set have examples in common.

  Args:
    split: A name, such as "test", or several joined by "+" as in "train+valid",
      which is also written "train_valid".
    other: Another.
  """
  return bool(source_lib.split_parts(split) & source_lib.split_parts(other))
