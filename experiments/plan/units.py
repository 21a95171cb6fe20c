"""Makes all rows of a person, or of another privacy unit, one example.

`data.unit` names the column of a source that says whose each row is. The run
then samples, clips and counts units; the task still sees rows, one at a time.

The invariant: what trains, `UnitSource` and the loss of `over_rows`, comes from
here for every task, and a unit with rows in the test split is refused.

>>> import types
>>> import numpy as np
>>> from jax_privacy import privacy_unit
>>> class Rows:
...   def __len__(self):
...     return 3
...   def __getitem__(self, indices):
...     return {"x": np.array([0.5, 1.5, 2.5, 0.0])[indices]}
>>> people = privacy_unit.group(
...     ["al", "bo", "al"], num_units=2, max_rows_per_unit=2, key=0)
>>> source = UnitSource(Rows(), people)
>>> source[np.array([0, -1])]["rows"]["x"].tolist()
[[0.5, 2.5], [0.0, 0.0]]
>>> source.num_examples
2
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections
import numpy as np

from experiments.tasks import sections
from experiments.tasks import task as task_lib
from jax_privacy import privacy_unit, root_key, unit_ids
from jax_privacy.data import bounded
from jax_privacy.data import source as source_lib

EXAMPLE = "example"
MAX_NAME = 60
# Rows that one unit may have in a batch; each costs memory and time.
MAX_ROWS = 2**16


@dataclasses.dataclass(frozen=True, eq=False)
class UnitSource:
  """Units in place of a source's rows; see `task.Source`.

  Attributes:
    rows: The source of rows.
    grouping: Whose each row is.
  """

  rows: task_lib.Source
  grouping: privacy_unit.Grouping

  @property
  def num_examples(self) -> int:
    """The stated number of units."""
    return self.grouping.num_units

  @property
  def in_memory(self) -> bool:
    """Whether reading decodes nothing."""
    return getattr(self.rows, "in_memory", False)

  def __len__(self) -> int:
    return len(self.grouping)

  def __getitem__(self, indices: np.ndarray) -> task_lib.Batch:
    """Returns units, as `privacy_unit.over_rows` takes them."""
    source_lib.check_indices(indices, length=len(self))
    numbers = self.grouping.rows(indices)
    rows = self.rows[numbers.reshape(-1)]
    return {
        "rows": jax.tree.map(
            lambda x: x.reshape(*numbers.shape, *x.shape[1:]), rows
        ),
        "is_real": numbers >= 0,
    }

  def alone(self, rows: task_lib.Batch) -> task_lib.Batch:
    """Returns rows that are not the source's as units of one row each.

    Args:
      rows: Batch of rows, each array [n, ...].
    """
    num_slots = self.grouping.max_rows_per_unit
    size = len(jax.tree.leaves(rows)[0])
    blank = self[np.full(size, -1)]

    def put(slots, values):
      slots = slots.copy()
      slots[:, 0] = values
      return slots

    is_real = np.zeros((size, num_slots), bool)
    is_real[:, 0] = True
    return {
        "rows": jax.tree.map(put, blank["rows"], rows),
        "is_real": is_real,
    }


def check(data_config: ml_collections.ConfigDict) -> None:
  """Checks the fields of a section that are about units.

  Args:
    data_config: The section `data` of a config.

  Raises:
    ValueError: If one breaks its rule.
  """
  unit, limit = data_config.unit, data_config.max_rows_per_unit
  if not unit:
    if limit is not None:
      rule = "None without a data.unit"
      raise ValueError(f"data.max_rows_per_unit must be {rule}, got {limit}.")
    return
  if unit != unit.strip() or not unit.isprintable() or len(unit) > MAX_NAME:
    rule = f"a column's name, printable, of at most {MAX_NAME} characters"
    raise ValueError(f"data.unit must be {rule}, got {unit[:MAX_NAME]!r}.")
  if limit is None or not 1 <= limit <= MAX_ROWS:
    rule = f"in [1, {MAX_ROWS}] with data.unit {unit!r}: state it"
    raise ValueError(f"data.max_rows_per_unit must be {rule}, got {limit}.")


def group(
    data_config: ml_collections.ConfigDict,
    rows: task_lib.Source,
    test_rows: task_lib.Source,
    *,
    run_key: root_key.RootKey,
) -> task_lib.Source:
  """Groups a training split's rows by unit.

  Args:
    data_config: A config's section.
    rows: The training split.
    test_rows: The test split, in which no unit of the training split may be:
      what evaluation says of a unit's rows is released.
    run_key: Chooses the rows of units that have too many.

  Returns:
    Units; or the rows, where `data.unit` is "".

  Raises:
    ValueError: If the column is missing or holds what is no id, there are not
      `num_examples` units, or one is in both splits.
  """
  unit = data_config.unit
  if not unit:
    return rows
  with sections.named(f"data.unit {unit!r}{_of_file(data_config)}"):
    ids, test_ids = (_column(source, unit) for source in (rows, test_rows))
    grouping = privacy_unit.group(
        ids,
        num_units=data_config.num_examples,
        max_rows_per_unit=data_config.max_rows_per_unit,
        key=run_key,
    )
  if data_config.num_examples is None:
    raise ValueError(
        f"data.num_examples must be the stated number of units, each a {unit},"
        f" got None: this split has {len(grouping)} ({bounded.PRIVATE},"
        " unless you state it)."
    )
  with sections.named("data.test_split"):
    shared = unit_ids.num_shared(ids, test_ids)
  if shared:
    raise ValueError(
        f"data.test_split must hold rows of no {unit} of the training split"
        " (what evaluation gives is released, and not protected), got"
        f" {shared} with rows in both ({bounded.PRIVATE})."
    )
  return UnitSource(rows, grouping)


def _of_file(data_config) -> str:
  path = data_config.options.get("path")
  return f" of {path}" if isinstance(path, str) else ""


def _column(source: Any, name: str) -> np.ndarray:
  if not hasattr(source, "column"):
    raise ValueError("the source must have columns, got none.")
  return source.column(name)


def lift(
    data_config: ml_collections.ConfigDict, model: task_lib.Model
) -> task_lib.Model:
  """Returns the model with the loss of an example, the mean over its rows.

  Args:
    data_config: A config's section; without a `unit`, an example is a row.
    model: Model with the loss of a row.
  """
  if not data_config.unit:
    return model
  loss_fn = privacy_unit.over_rows(
      model.loss_fn, keep_batch_dim=False, prng_argnum=2
  )
  return dataclasses.replace(model, loss_fn=loss_fn)


def facts(data_config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Returns what the guarantee is for, for a run's records.

  Args:
    data_config: The section `data` of a config.
  """
  return {
      "unit": data_config.unit or EXAMPLE,
      "max_rows_per_unit": data_config.max_rows_per_unit,
  }


def of(record: Mapping[str, Any]) -> str:
  """Returns what the guarantee of a record is for, also of an older one.

  Args:
    record: A summary, or an audit.
  """
  return record.get("unit", EXAMPLE)


def alone(source: task_lib.Source, rows: task_lib.Batch) -> task_lib.Batch:
  """Returns rows that are not a source's as examples of one row each.

  Args:
    source: Source of the training examples: rows, or units.
    rows: A batch such as `task.input_canaries` makes.
  """
  return source.alone(rows) if isinstance(source, UnitSource) else rows
