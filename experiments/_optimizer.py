"""Builds a config's optimiser, which sees noised gradients only.

So whatever it does is post-processing, and costs no privacy.
"""

import math

import ml_collections
import optax


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
