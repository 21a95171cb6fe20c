"""Turns a config into the objects of a run: the only place that reads it.

The invariant: sampler, noise and accountant come from one `Mechanism`, and
nothing is computed from the training data but what goes through it; shapes and
label names come from the source's description, sizes from the stated number.

Every mistake in a config is a ValueError here, before any training.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from flax import nnx

import accounting
from experiments import _devices, _fields
from jax_privacy import augmult, averaging, data, dp_sgd, models, root_key
from jax_privacy.data import augment


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
  """A model as a pure function of standardised images.

  Attributes:
    apply_fn: `apply_fn(params, images, keys=None)` giving logits; images float,
      a key per image for what is dropped in training, None in evaluation.
    standardise_fn: uint8 images to what `apply_fn` takes.
    params: Initial parameters.
  """

  apply_fn: Callable[..., jax.Array]
  standardise_fn: Callable[[jax.Array], jax.Array]
  params: Any


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
    train_source: Private examples.
    test_source: Examples that are not part of the guarantee.
    model: See `Model`.
    private: Sampler, gradient function and optimiser.
    ema: The averaging of parameters.
    run_key: What all randomness of the run is derived from.
    private_key: Derived from it; keys batches and noise.
    augment_key: Derived from it; keys the views of each example.
    mesh: What batches and state are split over; None for one device.
    canaries: What an audit adds to each clipped sum; None in any other run.
  """

  config: ml_collections.ConfigDict
  mechanism: accounting.Mechanism
  train_source: data.Source
  test_source: data.Source
  model: Model
  private: dp_sgd.PrivateTraining
  ema: averaging.Averaging
  run_key: root_key.RootKey
  private_key: root_key.RootKey
  augment_key: jax.Array
  mesh: jax.sharding.Mesh | None = None
  canaries: Canaries | None = None


def build(
    config: ml_collections.ConfigDict,
    *,
    run_key: root_key.RootKey | None = None,
) -> Experiment:
  """Builds a run.

  Args:
    config: As `configs.common.base` describes.
    run_key: To go on with a run's randomness; None to make it from the seed.

  Raises:
    ValueError: If a field breaks its rule; the text names it.
  """
  _fields.check(config)
  with _fields.named("data.train_split"):
    train_source = build_source(
        config, config.data.train_split, num_examples=config.data.num_examples
    )
  with _fields.named("data.test_split"):
    test_source = build_source(config, config.data.test_split)
  if train_source.label_names != test_source.label_names:
    raise ValueError(
        "data.test_split must have the training split's labels, got"
        f" {test_source.label_names} for {train_source.label_names}."
    )
  if train_source.image_shape != test_source.image_shape:
    raise ValueError(
        "data.test_split must have images of the training split's shape, got"
        f" {test_source.image_shape} for {train_source.image_shape}."
    )
  mechanism = build_mechanism(config, train_source.num_examples)
  _check_physical_batch_size(config, mechanism)
  if run_key is None:
    run_key = make_run_key(config)
  with _fields.named("train.ema_decay"):
    ema = averaging.ema(config.train.ema_decay)
  private_key = run_key.child("private")
  model = build_model(config, train_source, run_key.prng_key("parameters"))
  loss_fn = build_loss(config, model)
  optimizer = build_optimizer(config, mechanism.num_steps)
  return Experiment(
      config=config,
      mechanism=mechanism,
      train_source=train_source,
      test_source=test_source,
      model=model,
      private=build_private(
          config, loss_fn, optimizer, mechanism, key=private_key
      ),
      ema=ema,
      run_key=run_key,
      private_key=private_key,
      augment_key=run_key.prng_key("augmentation"),
      mesh=_devices.make_mesh(config),
  )


def build_source(
    config: ml_collections.ConfigDict,
    split: str,
    *,
    num_examples: int | None = None,
) -> data.Source:
  """Loads a split; one that is accounted with has a stated `num_examples`."""
  taken = ("name", "split", "num_examples")
  options = _fields.options("data.options", config.data.options, taken=taken)
  return data.load(
      config.data.source, split=split, num_examples=num_examples, **options
  )


def build_mechanism(
    config: ml_collections.ConfigDict, num_examples: int
) -> accounting.Mechanism:
  """Returns the mechanism, with noise or steps found from a target epsilon.

  Args:
    config: Of dp.epsilon and dp.noise_multiplier, at least one is given. With
      epsilon alone, the least noise that meets it is found; with both, the run
      is cut to the most steps that fit.
    num_examples: The stated size of the training data.

  Raises:
    ValueError: If a field breaks its rule, or not even one step fits.
  """
  dp = config.dp
  mechanism = accounting.Mechanism.for_batch_size(
      expected_batch_size=config.train.expected_batch_size,
      num_examples=num_examples,
      num_steps=1,
      noise_multiplier=(
          1.0 if dp.noise_multiplier is None else dp.noise_multiplier
      ),
      sampling=dp.sampling,
      max_batch_size=dp.max_batch_size,
      neighboring_relation=dp.neighboring_relation,
  )
  mechanism = dataclasses.replace(
      mechanism, num_steps=_num_steps(config, mechanism.sampling_prob)
  )
  if dp.delta is None:
    raise ValueError("dp.delta must be given, got None.")
  budget = {"delta": dp.delta, "accountant": dp.accountant}
  if dp.noise_multiplier is None and dp.epsilon is None:
    raise ValueError(
        "dp.epsilon or dp.noise_multiplier must be given, got None for both."
    )
  if dp.noise_multiplier is None:
    return accounting.calibrate_noise(mechanism, epsilon=dp.epsilon, **budget)
  epsilon = accounting.epsilon(mechanism, **budget)
  if dp.epsilon is None and not math.isfinite(epsilon):
    raise ValueError(
        "dp.noise_multiplier must be large enough for a finite epsilon, got"
        f" {dp.noise_multiplier}."
    )
  if dp.epsilon is None or epsilon <= dp.epsilon:
    return mechanism
  return accounting.calibrate_num_steps(mechanism, epsilon=dp.epsilon, **budget)


def build_model(
    config: ml_collections.ConfigDict, source: data.Source, key: jax.Array
) -> Model:
  """Builds the model for a source's images and labels, initialised by key."""
  taken = ("name", "rngs", "num_classes", "image_shape")
  options = _fields.options("model.options", config.model.options, taken=taken)
  with _fields.named("model.options"):
    module = models.build(
        config.model.name,
        rngs=nnx.Rngs(key),
        num_classes=source.num_classes,
        image_shape=source.image_shape,
        **options,
    )
  apply_fn, params = models.functional(module)

  def standardise_fn(images):
    return augment.standardise(
        images, mean=config.data.mean, std=config.data.std
    )

  # Wrong constants are found now, not in the middle of a traced step.
  jax.eval_shape(standardise_fn, jnp.zeros((1, *source.image_shape), jnp.uint8))
  return Model(apply_fn=apply_fn, standardise_fn=standardise_fn, params=params)


def build_loss(
    config: ml_collections.ConfigDict, model: Model
) -> Callable[..., jax.Array]:
  """Returns `loss_fn(params, image, label, key)` of one uint8 image."""
  names = tuple(config.augment.names)
  options = _fields.options(
      "augment.options", config.augment.options, taken=("names",)
  )
  with _fields.named("augment"):  # Options without a name are refused too.
    augment_fn = augment.build(names, **options)
  views_loss_fn = augmult.augmult(
      model.apply_fn,
      augmult.mean_over_views(optax.softmax_cross_entropy_with_integer_labels),
      augment_fn=augment_fn if names else None,
      num_views=config.augment.num_views,
      forward_takes_keys=True,
  )

  def loss_fn(params, image, label, key):
    loss, _ = views_loss_fn(params, model.standardise_fn(image), label, key)
    return loss

  return loss_fn


def build_private(
    config: ml_collections.ConfigDict,
    loss_fn: Callable[..., jax.Array],
    optimizer: optax.GradientTransformation,
    mechanism: accounting.Mechanism,
    *,
    key: root_key.RootKey,
) -> dp_sgd.PrivateTraining:
  """Returns sampler, gradient function and optimiser of one mechanism."""
  return dp_sgd.make_private(
      loss_fn,
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
  )


def build_optimizer(
    config: ml_collections.ConfigDict, num_steps: int
) -> optax.GradientTransformation:
  """Returns the optax optimiser of that name, with its learning rate."""
  train = config.train
  make = getattr(optax, train.optimizer, None)
  if not callable(make):
    raise ValueError(
        "train.optimizer must be the name of an optax optimiser, got"
        f" {train.optimizer!r}."
    )
  if not 0 < train.learning_rate < math.inf:
    raise ValueError(
        "train.learning_rate must be positive and finite, got"
        f" {train.learning_rate}."
    )
  schedules = {
      "constant": optax.constant_schedule(train.learning_rate),
      "cosine": optax.cosine_decay_schedule(train.learning_rate, num_steps),
      "linear": optax.linear_schedule(train.learning_rate, 0.0, num_steps),
  }
  if train.schedule not in schedules:
    raise ValueError(
        f"train.schedule must be one of {sorted(schedules)}, got"
        f" {train.schedule!r}."
    )
  options = train.optimizer_options.to_dict()
  try:
    return make(learning_rate=schedules[train.schedule], **options)
  except TypeError as error:
    raise ValueError(
        f"train.optimizer_options must fit optax.{train.optimizer}, got"
        f" {options} ({error})."
    ) from error


def _check_physical_batch_size(config, mechanism) -> None:
  size = config.train.physical_batch_size
  if size is not None and size > mechanism.num_examples:
    raise ValueError(
        "train.physical_batch_size must be at most the number of examples,"
        f" {mechanism.num_examples}, got {size}."
    )


def _num_steps(config, sampling_prob: float) -> int:
  train = config.train
  if (train.num_steps is None) == (train.num_epochs is None):
    raise ValueError(
        "Exactly one of train.num_steps and train.num_epochs must be given,"
        f" got {train.num_steps} and {train.num_epochs}."
    )
  if train.num_steps is not None:
    return train.num_steps
  return accounting.steps_for_epochs(
      num_epochs=train.num_epochs, sampling_prob=sampling_prob
  )


def make_run_key(config: ml_collections.ConfigDict) -> root_key.RootKey:
  """Returns the root of config.seed, or a fresh one for None."""
  if config.seed is None:
    words = root_key.RootKey.fresh().words()
    return root_key.RootKey.from_words(_devices.from_primary(words))
  return root_key.RootKey.from_seed(config.seed)
