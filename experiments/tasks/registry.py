"""Finds a task by its name in a config.

Invariant: this table is the only list of tasks. To add one, write its file and
add its line here; nothing of plan/, run/, evaluation/ or audits/ changes.

>>> names()
('classification', 'diffusion', 'language', 'multi_label', 'table')
"""

import ml_collections

from experiments.tasks import (
    classification,
    diffusion,
    imported,
    language,
    multi_label,
    own_metrics,
    sections,
    table,
)
from experiments.tasks import task as task_lib

TASKS: dict[str, type[task_lib.Task]] = {
    "classification": classification.Classification,
    "diffusion": diffusion.Diffusion,
    "language": language.Language,
    "multi_label": multi_label.MultiLabel,
    "table": table.Table,
}


def names() -> tuple[str, ...]:
  """Returns the names of all tasks, sorted."""
  return tuple(sorted(TASKS))


def build(
    task_config: ml_collections.ConfigDict,
    **section_configs: ml_collections.ConfigDict,
) -> task_lib.Task:
  """Builds the task that `task.name` names.

  Args:
    task_config: The section `task`.
    **section_configs: Other sections by name; see `task.Task`.

  Returns:
    The task.

  Raises:
    ValueError: If there is no such task, or a field breaks its rule.
  """
  sections.check_choice("task.name", task_config.name, names())
  make = TASKS.get(task_config.name) or _own(task_config.name)
  return own_metrics.add(make(task_config, **section_configs))


def _own(name: str) -> type[task_lib.Task]:
  found = imported.resolve(
      "task.name",
      name,
      takes=("task_config",),
      what="a class of experiments.tasks.task.Task",
  )
  if not (isinstance(found, type) and issubclass(found, task_lib.Task)):
    raise ValueError(
        "task.name must name a class of experiments.tasks.task.Task, got"
        f" {name!r}, which is none."
    )
  if missing := sorted(found.__abstractmethods__):
    raise ValueError(
        f"task.name must name a class that defines {', '.join(missing)}, got"
        f" {name!r}, which does not."
    )
  return found
