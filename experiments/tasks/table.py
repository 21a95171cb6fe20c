"""The task of tables: rows of numbers and categories, and one target column.

Invariant: what the model sees of a row is scaled by the bounds that the schema
states, and so is the target of a regression; a prediction never leaves these.
Nothing is kept of a row but its target and the model's outputs.

>>> Table.metrics_of(is_class=False)["mae"]
'MAE'
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.metrics import accuracies, probabilities, regression, roc
from experiments.metrics import estimate as estimate_lib
from experiments.tasks import classification, imported, modules, sections
from experiments.tasks import task as task_lib
from experiments.tasks.tables import exported
from experiments.tasks.tables import loss as loss_lib
from jax_privacy import _validate, models, regression_losses
from jax_privacy.data import tables as tables_lib

_OF_CLASSES = {
    "accuracy": "accuracy",
    "log_loss": "log loss",
    "auc": "AUC",
    "brier": "Brier score",
    "calibration_error": (f"calibration error, {probabilities.NUM_BINS} bins"),
}
_OF_NUMBERS = {"rmse": "RMSE", "mae": "MAE", "r2": "R2"}


class Outcomes(NamedTuple):
  """What a model made of rows.

  Attributes:
    targets: Classes, int32 [num_examples]; or float64, in the column's units.
    outputs: Logits, float32 [num_examples, num_outputs]; or predictions,
      float64 [num_examples], in the column's units.
  """

  targets: np.ndarray
  outputs: np.ndarray


class Table(task_lib.Task):
  """Rows of a table: class, binary or regression targets.

  Args:
    task_config: Section of the task; see `task.Task`.
    **section_configs: Other sections by name; see `task.Task`.

  Raises:
    ValueError: If a field breaks its rule; the text names it.
  """

  metrics: Mapping[str, str]
  unused = {
      "task": ("options",),
      "data": ("mean", "std", "features"),
      "augment": None,
      "loss": ("label_smoothing", "invariance_weight"),
      "eval": ("labels",),
  }

  def __init__(self, task_config, **section_configs):
    super().__init__(task_config, **section_configs)
    sections.check_choice(
        "data.source", self.data_config.source, tables_lib.names()
    )
    sections.check_choice(
        "model.name", self.model_config.name, models.table_names()
    )
    self._schemas: dict[str, tables_lib.Schema] = {}
    loss_name = self.loss_config.name
    if loss_name not in loss_lib.NAMES and not imported.is_own(loss_name):
      raise ValueError(
          f"loss.name must be one of {', '.join(loss_lib.NAMES)}, or"
          f" {imported.FORM} of own code, for task {self.name!r}, got"
          f" {loss_name!r:.100}."
      )
    self._own_loss_fn, self._of_classes = loss_lib.of_own_code(loss_name)
    self.metrics = self.metrics_of(is_class=self._of_classes)
    special = "the delta method's for RMSE and R2"
    if self._of_classes:
      special = "DeLong's for AUC"
    self.standard_errors = f"those of means; {special}; of differences, paired"

  @staticmethod
  def metrics_of(*, is_class: bool) -> Mapping[str, str]:
    """Returns the names of the metrics of classes, or of numbers.

    Args:
      is_class: Whether the target is a class.
    """
    return _OF_CLASSES if is_class else _OF_NUMBERS

  def load(self, split, *, num_examples=None, for_evaluation=False):
    """See `task.Task`."""
    taken = ("name", "split", "num_examples")
    options = sections.options(
        "data.options", self.data_config.options, taken=taken
    )
    if for_evaluation:
      options |= sections.options(
          "data.test_options", self.data_config.test_options, taken=taken
      )
    options = self._with_schema(options)
    name = imported.resolve(
        "data.source",
        self.data_config.source,
        takes=("split", "num_examples"),
        what="a function that loads a source of a table",
    )
    source = tables_lib.load(
        name, split=split, num_examples=num_examples, **options
    )
    self._check_target(source.target)
    return source

  def public_files(self) -> dict[str, str]:
    """Returns the digest of what a schema's file states; see `task.Task`."""
    return {
        f"data.{section}.schema": tables_lib.schema_sha256(self._schema(path))
        for section in ("options", "test_options")
        if (path := self._schema_path(self.data_config[section])) is not None
    }

  def check_splits(self, train_source, test_source):
    """See `task.Task`: both are of the same columns."""
    ours, theirs = train_source.describe(), test_source.describe()
    for name, value in ours.items():
      if theirs[name] != value:
        raise ValueError(
            f"data.test_split must have the training split's {name}, got"
            f" {_validate.shown(theirs[name])} for {_validate.shown(value)}."
        )

  def describe(self, source) -> dict[str, Any]:
    """See `task.Task`."""
    return source.describe()

  def build_model(self, source, key) -> task_lib.Model:
    """See `task.Task`."""
    apply_fn, params = models.functional(self._module(source, key))
    example_loss_fn = self._loss_fn(source)

    def loss_fn(params, example, key):
      target = example["target"]
      row = {k: jnp.expand_dims(example[k], 0) for k in _inputs(example)}
      keys = jnp.expand_dims(key, 0)
      return example_loss_fn(apply_fn(params, row, keys)[0], target)

    return task_lib.Model(params=params, loss_fn=loss_fn)

  def build_predictor(self, source, model=None) -> task_lib.Predictor:
    """See `task.Task`; outputs are logits, or numbers in the target's units."""
    module = nnx.eval_shape(lambda: self._module(source, 0))
    apply_fn, params = models.functional(module)
    to_units = None if self._of_classes else self._to_units(source)

    def predict_fn(params, batch):
      outputs = apply_fn(params, {k: batch[k] for k in _inputs(batch)})
      return outputs if to_units is None else to_units(outputs[:, 0])

    return task_lib.Predictor(params=params, predict_fn=predict_fn)

  def outcomes(self, source, batch, outputs) -> Outcomes:
    """See `task.Task`."""
    if self._of_classes:
      return Outcomes(batch["target"], np.asarray(outputs, np.float32))
    return Outcomes(
        batch["target"].astype(np.float64), np.asarray(outputs, np.float64)
    )

  def overall(self, source, outcomes) -> dict[str, estimate_lib.Estimate]:
    """See `task.Task`."""
    if not self._of_classes:
      return {k: getattr(regression, k)(*outcomes) for k in self.metrics}
    labels, logits = outcomes.targets, loss_lib.logits_of(outcomes.outputs)
    probs = probabilities.softmax(logits)
    return {
        "accuracy": accuracies.accuracy(accuracies.ranks(labels, logits)),
        "log_loss": probabilities.log_loss(labels, probs),
        "auc": _area(labels, probs),
        "brier": probabilities.brier(labels, probs),
        "calibration_error": probabilities.calibration_error(labels, probs),
    }

  def tables(self, source, outcomes) -> list[task_lib.Section]:
    """See `task.Task`: one, of classes, where there are classes."""
    if not self._of_classes:
      return []
    ranks = accuracies.ranks(
        outcomes.targets, loss_lib.logits_of(outcomes.outputs)
    )
    return [
        classification.by_class(source.label_names, outcomes.targets, ranks)
    ]

  def targets(self, outcomes) -> np.ndarray:
    """See `task.Task`."""
    return outcomes.targets

  def summary_numbers(self, values) -> dict[str, Any]:
    """See `task.Task`; accuracies keep the names that summaries have."""
    if not self._of_classes:
      return super().summary_numbers(values)
    accuracy = values["accuracy"]
    others = {k: v for k, v in values.items() if k != "accuracy"}
    return {
        "test_accuracy": accuracy[self.eval_config.params],
        "test_accuracy_ema": accuracy["ema"],
        "test_accuracies": dict(accuracy),
        **super().summary_numbers(others),
    }

  def input_canaries(
      self, train_source, test_source, predictor, *, num_canaries, seed
  ) -> task_lib.InputCanaries:
    """See `task.Task`: test rows with wrong classes, or the far bound."""
    del train_source
    if num_canaries > len(test_source):
      raise ValueError(
          "num_canaries must be at most the number of test rows for 'input'"
          f" canaries, {len(test_source)}, got {num_canaries}."
      )
    chosen = np.arange(num_canaries) * len(test_source) // num_canaries
    rows = test_source[chosen]
    rows["target"] = loss_lib.wrong(rows["target"], test_source.target, seed)
    losses_fn = jax.vmap(
        loss_lib.class_loss if self._of_classes else loss_lib.squared
    )

    def of_batch(params, batch):
      return losses_fn(predictor.predict_fn(params, batch), batch["target"])

    return task_lib.InputCanaries(rows, of_batch)

  def input_description(self, source):
    """See `task.Task`: the schema, and which columns are what."""
    encoder = getattr(source, "encoder", None)
    return None if encoder is None else encoder.to_dict()

  def from_description(self, description):
    """See `task.Task`."""
    encoder = tables_lib.Encoder.from_dict(description)
    self._check_target(encoder.target)
    return tables_lib.TableInputs(encoder)

  def read_inputs(self, path, like):
    """See `task.Task`: rows of a file without the target."""
    encoder = getattr(like, "encoder", None)
    if encoder is None:
      raise ValueError(
          "input must be none for a data.source without an `encoder`, which"
          f" reads no rows of users, got {path}."
      )
    return tables_lib.read_inputs(path, encoder)

  def build_exported(self, source, predictor):
    """See `task.Task`: the schema's encoding is inside."""
    encoder = getattr(source, "encoder", None)
    if encoder is None:
      return None

    return exported.build(encoder, predictor, outputs=self._meaning(source))

  def class_names(self, source) -> tuple[str, ...]:
    """See `task.Task`; none for a target of numbers."""
    return tuple(source.label_names) if self._of_classes else ()

  def columns(self, source, outputs) -> dict[str, np.ndarray]:
    """See `task.Task`: the class and each one's probability, or the number."""
    if not self._of_classes:
      return {source.target.name: np.asarray(outputs)}
    probs = probabilities.softmax(loss_lib.logits_of(np.asarray(outputs)))
    names = np.array(source.target.label_names)
    each = {f"probability of {k}": probs[:, i] for i, k in enumerate(names)}
    return {source.target.name: names[probs.argmax(axis=1)], **each}

  def interface(self, source) -> dict[str, Any]:
    """See `task.Task`; without an encoder, what outputs mean alone."""
    encoder = getattr(source, "encoder", None)
    inputs = {} if encoder is None else encoder.describe()
    return {**inputs, "outputs": self._meaning(source)}

  def _meaning(self, source) -> dict[str, Any]:
    """Returns what outputs mean, for JSON."""
    if not self._of_classes:
      low, high = source.target.column.bounds
      meaning = f"the number, within [{low:g}, {high:g}]"
    elif self._num_outputs(source) == 1:
      meaning = (
          "one logit: the probability of the second class is 1 / (1 +"
          " exp(-logit))"
      )
    else:
      meaning = "a logit each class; softmax gives their probabilities"
    return {
        "target": source.target.name,
        "meaning": meaning,
        "class_names": list(self.class_names(source)),
    }

  def _num_outputs(self, source) -> int:
    return source.num_classes if source.target.kind == "class" else 1

  def _with_schema(self, options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns options with the schema itself for its file's path."""
    if (path := self._schema_path(options)) is None:
      return dict(options)
    return {**options, "schema": self._schema(path)}

  def _schema_path(self, options: Mapping[str, Any]) -> str | None:
    path = options.get("schema")
    is_file = self.data_config.source == "table" and isinstance(path, str)
    return path if is_file else None

  def _schema(self, path: str) -> tables_lib.Schema:
    # Read once: what is recorded is what rows are encoded by.
    if path not in self._schemas:
      self._schemas[path] = tables_lib.read_schema(path)
    return self._schemas[path]

  def _check_target(self, target: tables_lib.Target) -> None:
    if (target.kind == "regression") == self._of_classes:
      valid, own = regression_losses.NAMES, loss_lib.OWN_NUMBER
      if not self._of_classes:
        valid, own = (loss_lib.CLASSES,), loss_lib.OWN_CLASS
      raise ValueError(
          f"loss.name must be one of {', '.join(valid)}, or a function of"
          f" {' and '.join(own)}, for target {target.name!r}, a {target.kind}"
          f" target, got {self.loss_config.name!r}."
      )
    lower = None if self._of_classes else target.column.bounds[0]
    if self.loss_config.name == "poisson" and lower < 0:
      raise ValueError(
          f"bounds of target {target.name!r} must be at least 0 for"
          f" loss.name = 'poisson', got {lower:g}."
      )

  def _module(self, source, key) -> nnx.Module:
    return modules.build(
        self.model_config,
        key=key,
        what="a model of tables",
        num_outputs=self._num_outputs(source),
        num_numbers=len(source.number_names),
        category_sizes=source.category_sizes,
    )

  def _loss_fn(self, source):
    """Returns `loss_fn(outputs, target)` of one row's outputs, a vector."""
    own = self._own_loss_fn
    if self._of_classes:
      return loss_lib.of_classes(own)
    return loss_lib.of_numbers(self.loss_config.name, own, source.target)

  def _to_units(self, source):
    """Returns `to_units(outputs)`, within the target's bounds."""
    low, high = source.target.column.bounds
    _, to_units = loss_lib.scaling(self.loss_config.name, source.target)
    return lambda outputs: jnp.clip(to_units(outputs), low, high)


def _inputs(batch) -> tuple[str, ...]:
  return tuple(name for name in batch if name != "target")


def _area(labels, probs) -> estimate_lib.Estimate:
  """Of two classes, the second's; of more, the mean of each against others."""
  if probs.shape[1] == 2:
    return roc.auc(labels, probs[:, 1])._replace(num_positive=None)
  return roc.macro(
      [roc.auc(labels == i, probs[:, i]) for i in range(probs.shape[1])]
  )
