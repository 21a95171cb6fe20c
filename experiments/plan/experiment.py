"""Turns a config into the objects of a run: the only place that reads it.

The invariant: sampler, noise and accountant come from one `Mechanism`, and
nothing is computed from the training data but what goes through it; what the
model must know of them comes from the source's description, sizes from the
stated number.

Every mistake in a config is a ValueError here, before any training.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import ml_collections
import numpy as np
import optax

import accounting
from experiments.plan import (
    averages,
    clipping,
    continued,
    fields,
    not_private,
    placement,
    public_files,
    restore,
    splits,
    trainable,
    units,
)
from experiments.plan import mechanism as mechanism_lib
from experiments.plan import mesh as mesh_lib
from experiments.plan import optimizer as optimizer_lib
from experiments.tasks import registry, sections
from experiments.tasks import task as task_lib
from jax_privacy import averaging, dp_sgd, root_key


class Canaries(Protocol):
  """What the loop asks of an audit's canaries; see `audits/canaries.py`."""

  def selected(self, step: int) -> np.ndarray | None:
    """Returns which take part behind the clipping, bool, or None for none.

    Args:
      step: Number of the step.
    """

  def insert(self, clipped_sum: Any, selected: jax.Array) -> Any:
    """Adds those to a clipped sum.

    Args:
      clipped_sum: Sum of clipped gradients.
      selected: Booleans [num_canaries]: the canaries that take part.

    Returns:
      The sum with the selected canaries, of the same structure.
    """


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
  """All that the training loop needs.

  Attributes:
    config: Config that the run was built from.
    mechanism: Description of what the run releases.
    schedule_steps: Number of steps that learning-rate schedules span; see
      `mechanism.Plan`.
    task: Task that is learnt.
    train_source: Private examples: rows, or units of rows.
    row_source: The same as rows, which the task knows.
    test_source: Examples that are not part of the guarantee.
    model: Initial parameters, and the loss of one example.
    predictor: The same parameters, for what evaluation sees of the test split.
    partition: Partition of the parameters into trained and frozen.
    dp_training: Sampler, gradient function and optimiser, of trained
      parameters; the gradient function's last argument is the frozen ones.
    averagings: Averagings of parameters, by name; see `averages.py`.
    run_key: Key that all randomness of the run is derived from.
    dp_key: Derived from it; keys batches and noise.
    augment_key: Derived from it; keys the views of each example.
    mesh: Devices that batches and state are split over; None for one.
    restored_from: Origin of the first parameters, as `restore.initial_params`
      says it; None if they are fresh.
    imported: Facts of the own code that it is made of; see `imported.facts`.
    canaries: Canaries that an audit adds to each clipped sum; None in any other
      run.
  """

  config: ml_collections.ConfigDict
  mechanism: accounting.Mechanism
  schedule_steps: int
  task: task_lib.Task
  train_source: task_lib.Source
  row_source: task_lib.Source
  test_source: task_lib.Source
  model: task_lib.Model
  predictor: task_lib.Predictor
  partition: trainable.Partition
  dp_training: dp_sgd.PrivateTraining
  averagings: Mapping[str, averaging.Averaging]
  run_key: root_key.RootKey
  dp_key: root_key.RootKey
  augment_key: jax.Array
  mesh: jax.sharding.Mesh | None = None
  restored_from: Mapping[str, Any] | None = None
  imported: Mapping[str, Any] | None = None
  canaries: Canaries | None = None


def build(
    config: ml_collections.ConfigDict,
    *,
    run_key: root_key.RootKey | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Experiment:
  """Builds a run.

  Args:
    config: Config with the fields of `configs.common.base`.
    run_key: Randomness of a run to go on with; None to make it from the seed.
    say: Function that is called with what is done next, in words.

  Returns:
    The run: all that training and evaluation need.

  Raises:
    ValueError: If a field breaks its rule; the text names it.
  """
  fields.check(config)
  say(f"reading data: {config.data.source}")
  own = fields.find_own(config)  # Before any data are read.
  task = registry.build(**fields.task_sections(config))
  public_files.check_continued(config.model, task)
  row_source, test_source = splits.load(task, config.data)
  if run_key is None:
    run_key = make_run_key(config.seed)
  train_source = units.group(
      config.data, row_source, test_source, run_key=run_key
  )
  say("finding noise and steps for the privacy budget")
  mechanism, schedule_steps = mechanism_lib.build_plan(
      config.dp, config.train, train_source.num_examples
  )
  _check_physical_batch_size(config.physical_batch_size, mechanism)
  dp_key = run_key.child("private")
  say(f"building the model: {config.model.name}")
  model = task.build_model(row_source, run_key.prng_key("parameters"))
  with sections.named("model.restore"):
    params, restored_from = restore.initial_params(config.model, model.params)
    if restored_from is not None and config.model.restore.same_data:
      not_private.refuse(config.dp.enabled, "continue a run on the same data")
      continued.check_seed(config.seed, restored_from["seeds"])
      continued.epsilon(restored_from, mechanism, delta=config.dp.delta)
  model = dataclasses.replace(model, params=params)
  predictor = task.build_predictor(test_source, model)
  _check_predictor(predictor, model)
  model = units.lift(config.data, model)
  placement.on_device(config.data, train_source)  # Refuses what cannot be.
  partition = trainable.build(config.train, model.params)
  trained, _ = partition.split(model.params)
  optimizer = optimizer_lib.build_optimizer(
      config.train, schedule_steps, trained
  )
  mesh = mesh_lib.make_mesh(
      config.mesh, physical_batch_size=config.physical_batch_size
  )
  return Experiment(
      config=config,
      mechanism=mechanism,
      schedule_steps=schedule_steps,
      task=task,
      train_source=train_source,
      row_source=row_source,
      test_source=test_source,
      model=model,
      predictor=predictor,
      partition=partition,
      dp_training=build_dp_training(
          config.dp,
          model.loss_fn,
          optimizer,
          mechanism,
          key=dp_key,
          mesh=mesh,
          with_norms=config.train_metrics,
      ),
      averagings=averages.build(config.train, num_steps=mechanism.num_steps),
      run_key=run_key,
      dp_key=dp_key,
      augment_key=run_key.prng_key("augmentation"),
      mesh=mesh,
      restored_from=restored_from,
      imported=own,
  )


def build_dp_training(
    dp_config: ml_collections.ConfigDict,
    loss_fn: Callable[..., jax.Array],
    optimizer: optax.GradientTransformation,
    mechanism: accounting.Mechanism,
    *,
    key: root_key.RootKey,
    mesh: jax.sharding.Mesh | None,
    with_norms: bool,
) -> dp_sgd.PrivateTraining:
  """Returns sampler, gradient function and optimiser of one mechanism.

  The gradient function is called with what is trained, a batch, its examples'
  keys, and what is frozen, if anything is: that is no part of what it
  differentiates.

  Args:
    dp_config: A config's section.
    loss_fn: Loss of one example; see `task.Model`.
    optimizer: Optimiser of trained parameters.
    mechanism: Description of what the run releases.
    key: Key of batches and noise.
    mesh: Devices that batches are split over; None for one.
    with_norms: Whether to give gradients' norms, and what the optimiser sees.

  Raises:
    ValueError: If a field breaks its rule; the text names it.
  """

  def split_loss_fn(trained, example, key, frozen=None):
    return loss_fn(trainable.merge(trained, frozen), example, key)

  if not dp_config.enabled:
    return not_private.build(
        split_loss_fn,
        optimizer,
        mechanism,
        key=key,
        secure_random=dp_config.secure_random,
        mesh=mesh,
    )
  if with_norms:
    optimizer = optimizer_lib.showing(optimizer)
  return dp_sgd.make_private(
      split_loss_fn,
      optimizer,
      mechanism,
      l2_clip_norm=dp_config.l2_clip_norm,
      clipping=clipping.build(dp_config),
      key=key,
      secure_random=dp_config.secure_random,
      grid_scale=dp_config.grid_scale,
      mesh=mesh,
      rescale_to_unit_norm=dp_config.rescale_to_unit_norm,
      batch_argnums=(1, 2),
      keep_batch_dim=False,
      return_values=True,
      return_grad_norms=with_norms,
  )


def make_run_key(seed: int | None) -> root_key.RootKey:
  """Returns the root of a seed, or a fresh one for None.

  Args:
    seed: Integer in [0, 2^128), or None for the system's bits.
  """
  if seed is None:
    words = root_key.RootKey.fresh().words()
    return root_key.RootKey.from_words(mesh_lib.from_primary(words))
  return root_key.RootKey.from_seed(seed)


def _check_predictor(predictor, model) -> None:
  """Checks that what was trained is what is evaluated.

  Raises:
    ValueError: If the two have other parameters.
  """
  theirs, mine = (
      jax.tree.map(lambda x: (x.shape, x.dtype), params)
      for params in (predictor.params, model.params)
  )
  if theirs != mine:
    raise ValueError(
        "build_predictor must return the parameters of build_model, by"
        " structure, shape and dtype, got others."
    )


def _check_physical_batch_size(size: int | None, mechanism) -> None:
  if size is not None and size > mechanism.num_examples:
    raise ValueError(
        "physical_batch_size must be at most the number of examples,"
        f" {mechanism.num_examples}, got {size}."
    )
