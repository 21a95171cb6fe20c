"""Builds a config's optimiser, which sees noised gradients only.

So whatever it does is post-processing, and costs no privacy. The order, on
trained parameters only (`trainable.py`):

  noised gradient -> adaptive gradient clipping (train.agc_clipping)
    -> the optax optimiser of train.optimizer, with the learning rate lr(t)
    -> weight decay: the update becomes u - lr(t) train.weight_decay params
    -> params + update

The weight decay is decoupled, as in AdamW: it passes through no momentum and no
second moment, and is multiplied by the learning rate. For SGD without momentum
it is the gradient of weight_decay |params|^2 / 2, added after the noise, which
is what De et al.'s code does; that code adds it before the optimiser, so that
with momentum it differs from this. weight_decay_on says of which parameters:
"all", as there, or "matrices", those of two axes or more (no biases, gains, or
norms' scales).
"""

import inspect
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import optax

from experiments.plan import schedules
from experiments.tasks import sections
from jax_privacy import agc, post_processing

WEIGHT_DECAY_ON = ("all", "matrices")
_OWN_DECAY = ("weight_decay", "weight_decay_rate")


def build_optimizer(
    train_config: ml_collections.ConfigDict, num_steps: int, trained: Any
) -> optax.GradientTransformation:
  """Returns the optimiser of a run of `num_steps` updates.

  Args:
    train_config: A config's section.
    num_steps: Number of updates.
    trained: The parameters that it will be given: arrays or shapes.

  Raises:
    ValueError: If a field breaks its rule; the text names it.
  """
  if not 0 < train_config.learning_rate < math.inf:
    raise ValueError(
        "train.learning_rate must be positive and finite, got"
        f" {train_config.learning_rate}."
    )
  schedule = schedules.build(
      train_config.schedule,
      train_config.schedule_options.to_dict(),
      learning_rate=train_config.learning_rate,
      num_steps=num_steps,
  )
  steps = [_agc(train_config, trained), _named(train_config, schedule)]
  steps.append(_weight_decay(train_config, schedule))
  return _as_optax_runs(optax.chain(*[s for s in steps if s is not None]))


class Shown(NamedTuple):
  """What `showing` returns in place of updates.

  Attributes:
    updates: The updates.
    noised: The gradient that they were made of: noised, never the clipped one.
  """

  updates: Any
  noised: Any


def showing(
    optimizer: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
  """Returns the optimiser, whose updates come with what reached it.

  Its state is the given one's. `update` returns `Shown` in place of
  updates. It takes either a gradient or, behind another that shows, `Shown`,
  and then hands on what reached the first.

  Args:
    optimizer: An optax optimiser.
  """
  optimizer = optax.with_extra_args_support(optimizer)

  def update(updates, state, params=None, **extra_args):
    is_shown = isinstance(updates, Shown)
    shown = updates if is_shown else Shown(updates, updates)
    updates, state = optimizer.update(
        shown.updates, state, params, **extra_args
    )
    return shown._replace(updates=updates), state

  return optax.GradientTransformationExtraArgs(optimizer.init, update)


def _agc(train_config, trained) -> optax.GradientTransformation | None:
  clipping, exclude = train_config.agc_clipping, agc.FINAL_LAYER
  if clipping is None:
    return None
  if not 0 < clipping < math.inf:
    raise ValueError(f"train.agc_clipping must be positive, got {clipping}.")
  paths = [
      jax.tree_util.keystr(path, simple=True, separator=".")
      for path, _ in jax.tree_util.tree_leaves_with_path(trained)
  ]
  is_final = [re.search(exclude, path) is not None for path in paths]
  if all(is_final):
    raise ValueError(
        "train.agc_clipping must be None where only the final layer is trained,"
        f" which it leaves out, got {clipping}."
    )
  if train_config.train_only is not None and not any(is_final):
    exclude = None  # The final layer is frozen.
  with sections.named("train.agc_clipping"):
    optimizer = agc.adaptive_grad_clip(clipping=clipping, exclude=exclude)
    jax.eval_shape(optimizer.init, trained)
  return optimizer


def _named(
    train_config, schedule: optax.Schedule
) -> optax.GradientTransformation:
  """Returns the optax optimiser of that name."""
  make = _find(train_config.optimizer)
  if make is None:
    raise ValueError(
        "train.optimizer must be the name of an optax optimiser, got"
        f" {train_config.optimizer!r:.100}."
    )
  options = train_config.optimizer_options.to_dict()
  # A number where it is one: some optimisers take no schedule.
  is_constant = train_config.schedule == "constant"
  rate = train_config.learning_rate if is_constant else schedule
  try:
    optimizer = make(learning_rate=rate, **options)
  except (TypeError, ValueError) as error:
    raise ValueError(
        f"train.optimizer_options must fit optax.{train_config.optimizer}, got"
        f" {options} ({error})."
    ) from error
  post_processing.check(
      optimizer,
      {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)},
      name=f"train.optimizer, {train_config.optimizer} with {options},",
  )
  return optimizer


def _find(name: str) -> Callable[..., optax.GradientTransformation] | None:
  """Returns the function of that name, if optax calls it an optimiser."""
  if name.startswith(("_", "scale_")):
    return None
  make = getattr(optax, name, None)
  if not callable(make) or isinstance(make, type):
    return None
  is_optimizer = "learning_rate" in inspect.signature(make).parameters
  return make if is_optimizer else None


def _as_optax_runs(optimizer):
  """Allows for what optax does: Adam fails where promotion is strict."""

  def init(params):
    with jax.numpy_dtype_promotion("standard"):
      return optimizer.init(params)

  def update(updates, state, params=None):
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    ):
      return optimizer.update(updates, state, params)

  return optax.GradientTransformation(init, update)


def _weight_decay(
    train_config, schedule
) -> optax.GradientTransformation | None:
  if train_config.weight_decay_on not in WEIGHT_DECAY_ON:
    raise ValueError(
        f"train.weight_decay_on must be one of {', '.join(WEIGHT_DECAY_ON)},"
        f" got {train_config.weight_decay_on!r:.100}."
    )
  rate = train_config.weight_decay
  if not 0 <= rate < math.inf:
    raise ValueError(f"train.weight_decay must be at least 0, got {rate}.")
  if not rate:
    return None
  _check_one_decay(train_config)
  mask = _matrices if train_config.weight_decay_on == "matrices" else None
  return optax.add_decayed_weights(lambda t: -rate * schedule(t), mask)


def _matrices(params):
  return jax.tree.map(lambda p: p.ndim > 1, params)


def _check_one_decay(train_config) -> None:
  """Refuses two weight decays, one of which would be a default unseen."""
  parameters = inspect.signature(
      getattr(optax, train_config.optimizer)
  ).parameters
  for name in _OWN_DECAY:
    if name in parameters:
      own = train_config.optimizer_options.get(name, parameters[name].default)
      if own:
        raise ValueError(
            "train.weight_decay must be 0.0 with another weight decay, got"
            f" {train_config.weight_decay} with {name} = {own} of"
            f" optax.{train_config.optimizer} (train.optimizer_options sets"
            " it)."
        )
