"""A run's model, outside of the run: what it predicts, and its guarantee.

  import experiments
  model = experiments.load("runs/digits")
  columns = model.predict(images)
  print(model.statement)

Invariant: a model predicts what its evaluation measured: the parameters that
the config chose beforehand, and the task's own predictor, with all that is done
to an input before the model. Nothing in the run's folder is touched, no code is
taken from it, and no training example is read.
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections
import numpy as np

from experiments.evaluation import saved
from experiments.plan import averages, fields, public_files
from experiments.release import guarantee as guarantee_lib
from experiments.release import signature as signature_lib
from experiments.run import summary as summary_lib
from experiments.run import workdir as workdir_lib
from experiments.tasks import registry
from experiments.tasks import task as task_lib
from jax_privacy import checkpoint
from jax_privacy.data import source as source_lib

FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class SavedModel:
  """A run's model.

  Attributes:
    config: The run's.
    task: Task that it learned.
    source: Whose description says what inputs are like. Where the model was
      loaded for a user's inputs, these; else one without examples.
    predictor: Predictor for examples of the source.
    params_name: Name of the run's parameters: "last", or an average.
    params: They themselves.
    step: Updates done.
    num_steps: Updates of a finished run.
    guarantee: Guarantee of the run; see `guarantee.of_run`.
  """

  config: ml_collections.ConfigDict
  task: task_lib.Task
  source: task_lib.Source
  predictor: task_lib.Predictor
  params_name: str
  params: Any
  step: int
  num_steps: int
  guarantee: Mapping[str, Any]

  @property
  def class_names(self) -> tuple[str, ...]:
    """Names of the classes; () for a task without classes."""
    return self.task.class_names(self.source)

  @property
  def statement(self) -> str:
    """What may be claimed of the model, and of its predictions."""
    return self.guarantee["statement"]

  @functools.cached_property
  def signature(self) -> signature_lib.Signature:
    """What the model reads of an example."""
    padding = self.source[np.array([-1])]
    return signature_lib.of(
        self.predictor.predict_fn, self.predictor.params, padding
    )

  @functools.cached_property
  def _call(self):
    return jax.jit(self.signature.call)

  def outputs(self, inputs: Any) -> Any:
    """Returns what the model itself gives, such as logits.

    Args:
      inputs: Inputs, as for `predict`.

    Raises:
      ValueError: If they are not as `signature.inputs` says.
    """
    return jax.device_get(self._call(self.params, self._checked(inputs)))

  def predict(self, inputs: Any) -> dict[str, np.ndarray]:
    """Returns predictions by column, as `experiments.predict` writes them.

    Args:
      inputs: An array with a leading axis of examples, as the source gives
        them, before anything is done to them: uint8 images, say. Where a model
        reads several arrays, a dict of them, by the names of
        `signature.inputs`.

    Returns:
      Columns [n] by name, such as each class's probability.

    Raises:
      ValueError: If inputs are not as `signature.inputs` says, or the task has
        no columns.
    """
    return self.task.columns(self.source, self.outputs(inputs))

  @functools.cached_property
  def exported(self) -> task_lib.Exported | None:
    """What the task puts before the predictor, for other programs."""
    return self.task.build_exported(self.source, self.predictor)

  @functools.cached_property
  def program_signature(self) -> signature_lib.Signature:
    """What an exported program reads of an input, of which it does more."""
    if self.exported is None:
      return self.signature
    return signature_lib.of(
        self.exported.predict_fn, self.predictor.params, self.exported.inputs
    )

  def predict_inputs(self, inputs: Any) -> dict[str, np.ndarray]:
    """Returns predictions by column for what `experiments.predict` reads.

    Args:
      inputs: Path of a file or a folder; of a table, also a frame.

    Returns:
      Columns [n] by name, a row an input, in their order.

    Raises:
      ValueError: If they cannot be read, or the task has no columns.
    """
    source = self.task.read_inputs(inputs, self.source)
    rows = source[np.arange(len(source))]
    return self.task.columns(source, self.outputs(self.signature.read(rows)))

  def metadata(self, *, of_program: bool = False) -> dict[str, Any]:
    """Returns what an exported file says of itself; all of it is public.

    Args:
      of_program: Whether the file is a program, with what is done to an input
        before the model, and not parameters alone.
    """
    interface, signature = self.task.interface(self.source), self.signature
    if of_program and self.exported is not None:
      interface = dict(self.exported.interface)
      signature = self.program_signature
    return {
        "format_version": FORMAT_VERSION,
        "name": self.config.name,
        "task": self.config.task.name,
        "model": self.config.model.name,
        "class_names": list(self.class_names),
        "data": self.task.describe(self.source),
        "inputs": {
            name: {"dtype": shape.dtype.name, "shape": list(shape.shape)}
            for name, shape in signature.inputs.items()
        },
        **({"interface": interface} if interface else {}),
        "params": self.params_name,
        "step": self.step,
        "num_steps": self.num_steps,
        "params_sha256": checkpoint.tree_sha256(self.params),
        "privacy": dict(self.guarantee),
        "versions": summary_lib.versions(),
    }

  def _checked(self, inputs: Any) -> Any:
    wanted = self.signature.inputs
    given = inputs if len(wanted) > 1 else {next(iter(wanted)): inputs}
    if not isinstance(given, Mapping) or set(given) != set(wanted):
      raise ValueError(
          f"inputs must be arrays by name, {', '.join(wanted)}, got"
          f" {type(inputs).__name__}."
      )
    arrays = {name: np.asarray(given[name]) for name in wanted}
    for name, array in arrays.items():
      shape, dtype = wanted[name].shape, wanted[name].dtype
      if array.shape[1:] != shape or array.dtype != dtype or not array.ndim:
        raise ValueError(
            f"inputs must have {name} of {dtype} [n, {str(list(shape))[1:]},"
            f" got {array.dtype} {list(array.shape)}."
        )
    if len({len(array) for array in arrays.values()}) > 1:
      raise ValueError("inputs must be of one number of examples, got others.")
    return signature_lib.plain(arrays)


def _described(folder, stored, config, task) -> task_lib.Source:
  """Returns a source without examples, from the run's folder if it can be."""
  if (description := folder.read_inputs()) is None:
    public_files.check(stored, task, folder=folder.path)
    return task.load(config.data.test_split, for_evaluation=True)
  with source_lib.named(str(folder.path / workdir_lib.INPUTS)):
    return task.from_description(description)


def load(
    workdir: str | os.PathLike,
    *,
    params: str | None = None,
    unfinished: bool = False,
    inputs: str | None = None,
) -> SavedModel:
  """Loads a run's model.

  Nothing but the folder is read, and inputs; of a task without an
  `input_description`, or a run of before there was one, the test split too.

  Args:
    workdir: The run's folder.
    params: Name of the parameters: "last" or an average that the run kept; by
      default those of the config's eval.params.
    unfinished: Whether a run that is not over will do. Its guarantee is for
      the steps it has begun.
    inputs: A user's file or folder, which becomes `source`; see
      `task.Task.read_inputs`. By default it is a source without examples.

  Returns:
    The model, with its parameters and its guarantee.

  Raises:
    ValueError: If the folder holds no run, or an audit's, or one that is not
      over; if there are no such parameters; if the test split is needed, and a
      public file of the run has changed; or if inputs cannot be read.
    CheckpointError: If there are checkpoints, and none can be read.
  """
  folder = workdir_lib.Workdir(pathlib.Path(workdir))
  stored = folder.read_config()
  if stored is None:
    raise ValueError(f"workdir must hold a run, got {folder.path}.")
  if "audit" in stored:
    raise ValueError(
        f"workdir must hold a run without canaries, got {folder.path}, an"
        " audit's."
    )
  config = fields.from_json(stored)
  name = config.eval.params if params is None else params
  if name not in (names := averages.names(config.train)):
    raise ValueError(f"params must be one of {', '.join(names)}, got {name!r}.")
  task = registry.build(**fields.task_sections(config))
  saved.warn_of_other_code(stored, config)
  source = _described(folder, stored, config, task)
  if inputs is not None:
    source = task.read_inputs(inputs, source)
  predictor = task.build_predictor(source)
  step, found, facts = averages.restore(
      folder.checkpoints, config.train, predictor.params
  )
  num_steps = facts.get("mechanism", {}).get("num_steps")
  if folder.read_summary() is None and not unfinished:
    raise ValueError(
        f"workdir must hold a finished run, got {folder.path}, which is at step"
        f" {step} of {num_steps}. Finish it, or say that an unfinished one will"
        " do (unfinished)."
    )
  begun = max(step, folder.read_steps_begun())
  return SavedModel(
      config=config,
      task=task,
      source=source,
      predictor=predictor,
      params_name=name,
      params=found[name],
      step=step,
      num_steps=num_steps,
      guarantee=guarantee_lib.of_run(
          config, facts, steps=begun, example_is=task.example_is()
      ),
  )
