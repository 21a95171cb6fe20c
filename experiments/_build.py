"""Turns a config into the objects of a run: the only place that reads it.

The invariant: sampler, noise and accountant come from one `Mechanism`, and
nothing is computed from the training data but what goes through it; shapes and
label names come from the source's description, sizes from the stated number.

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
from experiments import (
    _averages,
    _devices,
    _evaluation,
    _features,
    _fields,
    _loss,
    _mechanism,
    _model,
    _optimizer,
    _placement,
    _restore,
    _train_metrics,
    _trainable,
)
from jax_privacy import averaging, data, dp_sgd, root_key


class Canaries(Protocol):
  """What the loop asks of an audit's canaries; `_canaries.py` has them."""

  def selected(self, step: int) -> np.ndarray | None:
    """Returns which take part behind the clipping, bool, or None for none."""

  def insert(self, clipped_sum: Any, selected: jax.Array) -> Any:
    """Adds those to a clipped sum."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
  """All that the training loop needs.

  Attributes:
    config: As given.
    mechanism: What the run releases.
    schedule_steps: What learning-rate schedules span; see `_mechanism.Plan`.
    train_source: Private examples.
    test_source: Examples that are not part of the guarantee.
    model: See `_model.Model`.
    test_model: The same parameters, for what evaluation sees of test images.
    partition: Which parameters are trained.
    private: Sampler, gradient function and optimiser, of trained parameters;
      the gradient function's last argument is the frozen ones.
    averagings: Of parameters, by name; see `_averages.py`.
    run_key: What all randomness of the run is derived from.
    private_key: Derived from it; keys batches and noise.
    augment_key: Derived from it; keys the views of each example.
    mesh: What batches and state are split over; None for one device.
    restored_from: What the first parameters are, as `_restore.restore` says
      it; None if they are fresh.
    canaries: What an audit adds to each clipped sum; None in any other run.
  """

  config: ml_collections.ConfigDict
  mechanism: accounting.Mechanism
  schedule_steps: int
  train_source: data.Source
  test_source: data.Source
  model: _model.Model
  test_model: _model.Model
  partition: _trainable.Partition
  private: dp_sgd.PrivateTraining
  averagings: Mapping[str, averaging.Averaging]
  run_key: root_key.RootKey
  private_key: root_key.RootKey
  augment_key: jax.Array
  mesh: jax.sharding.Mesh | None = None
  restored_from: Mapping[str, Any] | None = None
  canaries: Canaries | None = None


def build(
    config: ml_collections.ConfigDict,
    *,
    run_key: root_key.RootKey | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Experiment:
  """Builds a run.

  Args:
    config: As `configs.common.base` describes.
    run_key: To go on with a run's randomness; None to make it from the seed.
    say: Is called with what is done next, in words; by default nobody is.

  Raises:
    ValueError: If a field breaks its rule; the text names it.
  """
  _fields.check(config)
  say(f"reading data: {config.data.source}")
  train_source, test_source = _load_splits(config)
  say("finding noise and steps for the privacy budget")
  mechanism, schedule_steps = _mechanism.build_plan(
      config, train_source.num_examples
  )
  _check_physical_batch_size(config, mechanism)
  if run_key is None:
    run_key = make_run_key(config)
  private_key = run_key.child("private")
  say(f"building the model: {config.model.name}")
  model = _model.build_model(
      config, train_source, run_key.prng_key("parameters")
  )
  with _fields.named("model.restore"):
    params, restored_from = _restore.restore(config, model.params)
  model = dataclasses.replace(model, params=params)
  test_model = _model.for_evaluation(
      config, model, train_source=train_source, test_source=test_source
  )
  _placement.on_device(config, train_source)  # Refuses what cannot be.
  loss_fn = _loss.build_loss(config, model)
  partition = _trainable.build(config, model.params)
  trained, _ = partition.split(model.params)
  optimizer = _optimizer.build_optimizer(config, schedule_steps, trained)
  return Experiment(
      config=config,
      mechanism=mechanism,
      schedule_steps=schedule_steps,
      train_source=train_source,
      test_source=test_source,
      model=model,
      test_model=test_model,
      partition=partition,
      private=build_private(
          config, loss_fn, optimizer, mechanism, key=private_key
      ),
      averagings=_averages.build(config, num_steps=mechanism.num_steps),
      run_key=run_key,
      private_key=private_key,
      augment_key=run_key.prng_key("augmentation"),
      mesh=_devices.make_mesh(config),
      restored_from=restored_from,
  )


def _load_splits(
    config: ml_collections.ConfigDict,
) -> tuple[data.Source, data.Source]:
  """Loads the training and the test split, and checks that they are a pair."""
  if _evaluation.share_examples(
      config.data.test_split, config.data.train_split
  ):
    raise ValueError(
        "data.test_split must share no example with data.train_split,"
        f" {config.data.train_split!r} (what it gives is released), got"
        f" {config.data.test_split!r}."
    )
  with _fields.named("data.train_split"):
    train_source = build_source(
        config, config.data.train_split, num_examples=config.data.num_examples
    )
  with _fields.named("data.test_split"):
    test_source = build_source(
        config, config.data.test_split, for_evaluation=True
    )
  with _fields.named("eval.labels"):
    _evaluation.reported(test_source, config.eval.labels)
  if train_source.label_names != test_source.label_names:
    raise ValueError(
        "data.test_split must have the training split's labels, got"
        f" {test_source.label_names} for {train_source.label_names}."
    )
  same_shape = train_source.image_shape == test_source.image_shape
  if not same_shape and not config.data.test_options:
    raise ValueError(
        "data.test_split must have images of the training split's shape where"
        f" no data.test_options say theirs, got {test_source.image_shape} for"
        f" {train_source.image_shape}."
    )
  if train_source.is_multi_label != test_source.is_multi_label:
    raise ValueError(
        "data.test_split must have as many labels an example as the training"
        " split, got several for one of them alone."
    )
  _loss.check_labels(config, train_source)
  return train_source, test_source


def build_source(
    config: ml_collections.ConfigDict,
    split: str,
    *,
    num_examples: int | None = None,
    for_evaluation: bool = False,
) -> data.Source:
  """Loads a split.

  Args:
    config: Of the run.
    split: Its name.
    num_examples: Stated, for one that is accounted with.
    for_evaluation: Whether to read it with `data.test_options`.

  Raises:
    ValueError: If a field breaks its rule.
  """
  taken = ("name", "split", "num_examples")
  options = _fields.options("data.options", config.data.options, taken=taken)
  if for_evaluation:
    options |= _fields.options(
        "data.test_options", config.data.test_options, taken=taken
    )
    options.pop("crop_size", None)  # For `_augment`.
  source = data.load(
      config.data.source, split=split, num_examples=num_examples, **options
  )
  return _features.extract(config, source)


def build_private(
    config: ml_collections.ConfigDict,
    loss_fn: Callable[..., jax.Array],
    optimizer: optax.GradientTransformation,
    mechanism: accounting.Mechanism,
    *,
    key: root_key.RootKey,
) -> dp_sgd.PrivateTraining:
  """Returns sampler, gradient function and optimiser of one mechanism.

  The gradient function is called with what is trained, a batch's images, labels
  and keys, and what is frozen, if anything is: that is no part of what it
  differentiates.
  """

  def split_loss_fn(trained, image, label, key, frozen=None):
    return loss_fn(_trainable.merge(trained, frozen), image, label, key)

  if config.train_metrics:
    optimizer = _train_metrics.showing(optimizer)
  return dp_sgd.make_private(
      split_loss_fn,
      optimizer,
      mechanism,
      l2_clip_norm=config.dp.l2_clip_norm,
      key=key,
      secure_random=config.dp.secure_random,
      grid_scale=config.dp.grid_scale,
      mesh=_devices.make_mesh(config),
      rescale_to_unit_norm=config.dp.rescale_to_unit_norm,
      batch_argnums=(1, 2, 3),
      keep_batch_dim=False,
      return_values=True,
      return_grad_norms=config.train_metrics,
  )


def make_run_key(config: ml_collections.ConfigDict) -> root_key.RootKey:
  """Returns the root of config.seed, or a fresh one for None."""
  if config.seed is None:
    words = root_key.RootKey.fresh().words()
    return root_key.RootKey.from_words(_devices.from_primary(words))
  return root_key.RootKey.from_seed(config.seed)


def _check_physical_batch_size(config, mechanism) -> None:
  size = config.physical_batch_size
  if size is not None and size > mechanism.num_examples:
    raise ValueError(
        "physical_batch_size must be at most the number of examples,"
        f" {mechanism.num_examples}, got {size}."
    )
