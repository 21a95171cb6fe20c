"""The averages of parameters that a run keeps, by name.

"last" names the parameters themselves, "ema" their moving average with the
first of train.ema_decays, "ema_0.9999" that with another one, and "polyak"
their uniform mean from train.polyak_start on.

The invariant: the names of a config are the names in its checkpoints and in its
summary, and each gives parameters of the whole model.

>>> from configs import common
>>> config = common.base().train
>>> config.ema_decays = (0.999, 0.9999)
>>> config.polyak_start = 0.5
>>> names(config)
('last', 'ema', 'ema_0.9999', 'polyak')
"""

import math
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import ml_collections

from experiments.plan import trainable
from jax_privacy import averaging, checkpoint

LAST = "last"
EMA = "ema"


def names(train_config: ml_collections.ConfigDict) -> tuple[str, ...]:
  """Returns what parameters there are at the end of a run.

  Args:
    train_config: The section `train` of a config.

  Raises:
    ValueError: If train.ema_decays breaks its rule.
  """
  polyak = () if train_config.polyak_start is None else ("polyak",)
  return (LAST, *_decays(train_config), *polyak)


def build(
    train_config: ml_collections.ConfigDict, *, num_steps: int
) -> dict[str, averaging.Averaging]:
  """Returns the averagings of a run of `num_steps` updates, by name.

  Args:
    train_config: The section `train` of a config.
    num_steps: Number of updates.

  Raises:
    ValueError: If a field breaks its rule; the text names it.
  """
  averagings = {
      name: averaging.ema(decay)
      for name, decay in _decays(train_config).items()
  }
  start = train_config.polyak_start
  if start is not None:
    if not 0 <= start < 1:
      raise ValueError(f"train.polyak_start must be in [0, 1), got {start}.")
    # However short the run, its last update is in the mean.
    start_step = min(round(start * num_steps), num_steps - 1)
    averagings["polyak"] = averaging.polyak(start_step=start_step)
  return averagings


def by_name(
    params: Any, averages: Mapping[str, averaging.AverageState]
) -> dict[str, Any]:
  """Returns the parameters of a state by name, the last ones first.

  Args:
    params: All of them.
    averages: Averages of what is trained; what is frozen is its own average.
  """
  whole = {
      name: trainable.merge(state.average, params)
      for name, state in averages.items()
  }
  return {LAST: params} | whole


class Restored(NamedTuple):
  """What a run saved last.

  Attributes:
    step: Updates done.
    params: Parameters of the whole model, by name.
    facts: Facts of a checkpoint; see `resume.facts`.
  """

  step: int
  params: dict[str, Any]
  facts: dict[str, Any]


def restore(
    path: pathlib.Path, train_config: ml_collections.ConfigDict, params: Any
) -> Restored:
  """Reads parameters from the newest checkpoint of a run.

  Args:
    path: The folder of its checkpoints; nothing in it is touched.
    train_config: The section of the run's config.
    params: Parameters of its model, of which structure and shapes are read.

  Returns:
    The newest parameters, with their step and their facts.

  Raises:
    ValueError: If there is none, or it is of another model, or was saved with
      other averages.
    CheckpointError: If there are checkpoints, and none can be read.
  """
  if not path.exists():
    raise ValueError(f"workdir must hold a checkpoint, got {path} without.")
  # How many steps there were changes no structure.
  averagings = build(train_config, num_steps=1)
  # On one device, whatever mesh it was saved from.
  params = jax.tree.map(_on_first_device, params)
  trained, _ = trainable.build(train_config, params).split(params)
  like = {
      "params": params,
      "averages": {
          name: jax.tree.map(
              _on_first_device, jax.eval_shape(average.init, trained)
          )
          for name, average in averagings.items()
      },
  }
  with checkpoint.Checkpoints(path, read_only=True) as checkpoints:
    restored = checkpoints.restore_latest(like)
  if restored is None:
    raise ValueError(f"workdir must hold a checkpoint, got {path} without.")
  return Restored(restored.step, by_name(**restored.state), restored.facts)


def _on_first_device(x) -> jax.ShapeDtypeStruct:
  sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)


def _decays(train_config) -> dict[str, float]:
  """Returns the decays of moving averages, by name."""
  decays = tuple(train_config.ema_decays)
  for decay in decays:
    is_number = isinstance(decay, float | int) and not isinstance(decay, bool)
    if not (is_number and math.isfinite(decay) and 0 <= decay < 1):
      raise ValueError(
          f"train.ema_decays must be decays in [0, 1), got {decay!r:.100}."
      )
  if not decays or len(set(decays)) < len(decays):
    raise ValueError(
        "train.ema_decays must be at least one decay, and none twice, got"
        f" {decays!s:.100}."
    )
  first, *others = map(float, decays)
  return {EMA: first} | {f"{EMA}_{decay!r}": decay for decay in others}
