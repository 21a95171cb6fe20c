"""The contract of a task: all that a run must know of what it learns.

A task is one file in this folder, and one line in `registry.py`. Its sections
of the config become a data source, a model, the loss of one example and metrics
(see `parts.py`). Loop, audit, evaluation and report call its methods alone.

Invariant: an example is any pytree of NumPy arrays, and a batch is the same
pytree with a leading axis. Only the task knows what the leaves mean, so no file
of plan/, run/, evaluation/ or audits/ reads one by its name.

>>> class Unfinished(Task):
...   metrics = {"loss": "loss"}
>>> sorted(Unfinished.__abstractmethods__)[:4]
['build_model', 'build_predictor', 'describe', 'load']
"""

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import jax
import ml_collections
import numpy as np

from experiments.metrics import estimate as estimate_lib
from experiments.tasks import released, sections
from experiments.tasks.parts import Batch as Batch
from experiments.tasks.parts import Exported as Exported
from experiments.tasks.parts import Generator as Generator
from experiments.tasks.parts import ImageGenerator as ImageGenerator
from experiments.tasks.parts import InputCanaries as InputCanaries
from experiments.tasks.parts import Model as Model
from experiments.tasks.parts import Predictor as Predictor
from experiments.tasks.parts import Section as Section
from experiments.tasks.parts import Source as Source
from experiments.tasks.parts import left_out as left_out
from experiments.tasks.parts import take as take


class Task(released.Released, abc.ABC):
  """A kind of learning. Subclass it; what has no default must be written.

  The constructor checks the task's sections. It reads no file and makes no
  array: JAX's devices may not be chosen yet.

  Args:
    task_config: The section `task`: `name`, and the task's own `options`.
    data_config: The section `data`.
    model_config: The section `model`; `restore` is not the task's.
    augment_config: The section `augment`.
    loss_config: The section `loss`.
    eval_config: The section `eval`; `labels` alone is the task's.

  Raises:
    ValueError: If a field breaks its rule; the text names it.

  Attributes:
    metrics: Names for people of each number of `overall`, by name. A summary
      begins with the first, and groups are compared by it.
    standard_errors: Text that says what the standard errors are.
    unused: Names of fields without effect, by section; None for all of it. Each
      must be as in `configs.common.base`.
  """

  metrics: ClassVar[Mapping[str, str]]
  standard_errors: ClassVar[str] = "those of means; of differences, paired"
  unused: ClassVar[Mapping[str, Sequence[str] | None]] = {}

  def __init__(
      self,
      task_config: ml_collections.ConfigDict,
      *,
      data_config: ml_collections.ConfigDict,
      model_config: ml_collections.ConfigDict,
      augment_config: ml_collections.ConfigDict,
      loss_config: ml_collections.ConfigDict,
      eval_config: ml_collections.ConfigDict,
  ):
    self.name: str = task_config.name
    self.task_config = task_config
    self.data_config = data_config
    self.model_config = model_config
    self.augment_config = augment_config
    self.loss_config = loss_config
    self.eval_config = eval_config
    for name, fields in self.unused.items():
      section = getattr(self, f"{name}_config")
      sections.check_unused(name, section, task=self.name, fields=fields)

  # --- The data ---

  @abc.abstractmethod
  def load(
      self,
      split: str,
      *,
      num_examples: int | None = None,
      for_evaluation: bool = False,
  ) -> Source:
    """Loads a split of `data.source`.

    Args:
      split: Its name.
      num_examples: The stated number of examples, `data.num_examples`, of the
        split to train on; else None. A source may have a published one.
      for_evaluation: Whether `data.test_options` apply.

    Returns:
      The split.

    Raises:
      ValueError: If a field breaks its rule, or the data are malformed.
    """

  def check_splits(self, train_source: Source, test_source: Source) -> None:
    """Checks that a training and a test split are a pair.

    That they share no example by their names was checked before.

    Args:
      train_source: The training split.
      test_source: The test split, loaded for evaluation.

    Raises:
      ValueError: If they are not, as of other labels.
    """
    del train_source, test_source

  @abc.abstractmethod
  def describe(self, source: Source) -> dict[str, Any]:
    """Returns what makes the training data those data, for JSON.

    It is public: names and shapes from the config or the source's description,
    nothing that is computed from examples. A run resumes only if it is the
    same.

    Args:
      source: The training split.
    """

  def example_is(self) -> str:
    """Returns what one example is, for the statement: "a ..."; by default "".

    It is public: from the config alone.
    """
    return ""

  def public_files(self) -> dict[str, str]:
    """Returns the SHA-256 of public files that the run rests on.

    A run keeps to their contents: it goes on, and is evaluated, exported and
    predicts, with these alone. By default there are none. Private data are no
    such file: their digest would be a release.

    Returns:
      Digests, hexadecimal, by the config's field that names the file, such as
      "data.options.schema".

    Raises:
      ValueError: If a file cannot be read.
    """
    return {}

  def prepare(self, source: Source) -> None:
    """Does what is done once, before the first training example is read.

    Args:
      source: The training split.

    Raises:
      ExampleError: If an example cannot be used; its text says it is private.
    """
    del source

  # --- What is learnt ---

  @abc.abstractmethod
  def build_model(self, source: Source, key: jax.Array) -> Model:
    """Builds the model and its loss.

    Args:
      source: The training split. Its description is read, and no example.
      key: Key of the initial parameters.

    Returns:
      The model.

    Raises:
      ValueError: If a field breaks its rule.
    """

  @abc.abstractmethod
  def build_predictor(
      self, source: Source, model: Model | None = None
  ) -> Predictor:
    """Builds what predicts for the examples of a source.

    Args:
      source: Loaded for evaluation. Its description is read, and no example.
      model: Model of `build_model`, where there is one: what both share need
        not be built again.

    Returns:
      The predictor.

    Raises:
      ValueError: If a field breaks its rule.
    """

  # --- Evaluation ---

  @abc.abstractmethod
  def outcomes(self, source: Source, batch: Batch, outputs: Any) -> Any:
    """Returns what is kept of a batch for the metrics.

    Keep little: it is kept for every example of the split.

    Args:
      source: Source of the examples.
      batch: Real examples, no padding; NumPy arrays.
      outputs: `Predictor.predict_fn`'s, for these rows; NumPy arrays.

    Returns:
      A pytree of NumPy arrays with the batch's leading axis.
    """

  @abc.abstractmethod
  def overall(
      self, source: Source, outcomes: Any
  ) -> dict[str, estimate_lib.Estimate]:
    """Returns the numbers of all these examples together, by name.

    Args:
      source: Source of the examples.
      outcomes: Outcomes of at least one example.

    Returns:
      Estimates by names of `metrics`, in that order; each with its standard
      error.
    """

  def tables(self, source: Source, outcomes: Any) -> Sequence[Section]:
    """Returns further tables, such as one of each class; by default none.

    Args:
      source: Source that was evaluated.
      outcomes: Outcomes of evaluation on the source.
    """
    del source, outcomes
    return ()

  def group_metric(
      self, source: Source, outcomes: Any
  ) -> Callable[[np.ndarray], estimate_lib.Estimate]:
    """Returns `of_rows(rows)`, the number that groups are compared by.

    By default it is the first of `overall` on those rows; of no rows, it is
    undefined.

    Args:
      source: Source of the examples.
      outcomes: Outcomes of all examples; `rows` are positions in it.
    """
    first = next(iter(self.metrics))

    def of_rows(rows):
      if not len(rows):
        return estimate_lib.undefined(0, why="no example")
      return self.overall(source, take(outcomes, rows))[first]

    return of_rows

  def check_twin(self, source: Source, twin_source: Source) -> None:
    """Checks that a twin, another run of this task, is of the same targets.

    By default what `describe` says of both must be the same.

    Args:
      source: This run's.
      twin_source: The twin's, of as many examples.

    Raises:
      ValueError: If they differ.
    """
    theirs, mine = self.describe(twin_source), self.describe(source)
    if theirs != mine:
      raise ValueError(f"twin must be of data like {mine}, got {theirs}.")

  def targets(self, outcomes: Any) -> np.ndarray:
    """Returns what the examples themselves say, [n, ...]: labels, targets.

    A twin's must be equal. By default there is no twin.

    Args:
      outcomes: Outcomes of evaluation on the source.

    Raises:
      ValueError: If outcomes do not hold them.
    """
    raise ValueError(f"twin must be none for task {self.name!r}, got one.")

  def read_twin(self, path: str, source: Source, rows: np.ndarray) -> Any:
    """Returns outcomes of another program's predictions, from a file.

    Args:
      path: The file's.
      source: The examples that it must be of, all of them in order.
      rows: Indices of the outcomes to return.

    Raises:
      ValueError: If there is no such file for this task, or it is malformed.
    """
    raise ValueError(
        f"twin must be a run's folder for task {self.name!r}, got {path}."
    )

  def summary_numbers(
      self, values: Mapping[str, Mapping[str, float | None]]
  ) -> dict[str, Any]:
    """Returns what summary.json holds of the test split's numbers.

    Args:
      values: Numbers by metric, and by name of the parameters ("last", "ema",
        ...); None for what is undefined.
    """
    return {f"test_{metric}": dict(of) for metric, of in values.items()}

  # --- Audits ---

  def input_canaries(
      self,
      train_source: Source,
      test_source: Source,
      predictor: Predictor,
      *,
      num_canaries: int,
      seed: int,
  ) -> InputCanaries:
    """Makes examples for an audit by membership; by default there are none.

    Other kinds of canaries need nothing from a task: they are gradients, or
    padding of `train_source` with a loss of the audit's own.

    Args:
      train_source: Source whose shapes and dtypes the rows must have.
      test_source: Loaded for evaluation: examples that were not trained on.
      predictor: Predictor for examples of it.
      num_canaries: Number of canaries.
      seed: Seed of what is drawn: the same seed, the same rows.

    Returns:
      The examples, and which of their rows are canaries.

    Raises:
      ValueError: If there are none, or too few.
    """
    raise ValueError(
        "canary must be 'dirac', 'random_direction' or 'clipped' for task"
        f" {self.name!r}, which has no 'input' canaries, got 'input'."
    )

  def text_canaries(
      self,
      train_source: Source,
      test_source: Source,
      predictor: Predictor,
      *,
      num_canaries: int,
      num_references: int,
      seed: int,
  ) -> InputCanaries:
    """Makes random strings for an audit by exposure; by default there are none.

    Args:
      train_source: Source whose shapes and dtypes the rows must have.
      test_source: Loaded for evaluation: examples that were not trained on.
      predictor: Predictor for examples of it.
      num_canaries: Number of canaries.
      num_references: Number of strings that are drawn alike, for their ranks.
      seed: Seed of what is drawn: the same seed, the same rows.

    Returns:
      The strings, how each is scored, and the references.

    Raises:
      ValueError: If there are none.
    """
    raise ValueError(
        "canary must be 'dirac', 'random_direction', 'clipped' or 'input' for"
        f" task {self.name!r}, which has no 'text' canaries, got 'text'."
    )
