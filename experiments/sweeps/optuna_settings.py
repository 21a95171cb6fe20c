"""Settings by Optuna's samplers, from the results of earlier runs.

Invariant: the setting of a run is a function of the seed, its number, and the
results of the rounds before its own: a sweep that is killed and resumed asks
for the same settings.

>>> sorted(SAMPLERS)
['gp', 'tpe']
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.sweeps import space as space_lib
from jax_privacy import _extras

# They look at earlier results alone; others keep notes of their own.
SAMPLERS = {"tpe": "TPESampler", "gp": "GPSampler"}


def ask(
    space: space_lib.Space,
    method: str,
    earlier: Sequence[tuple[Mapping[str, Any], float | None]],
    *,
    seed: int,
    number: int,
    is_max: bool,
) -> space_lib.Setting:
  """Returns the setting of a run.

  Args:
    space: Fields that vary.
    method: Name of the sampler; see `SAMPLERS`.
    earlier: Settings and results of the runs of earlier rounds; None for one
      that failed.
    seed: Seed of the sweep's settings.
    number: Number of the run.
    is_max: Whether the largest result is the best.

  Raises:
    ImportError: If Optuna is missing; the text names the extra.
  """
  with _extras.needed("sweep"):
    import optuna
  optuna.logging.set_verbosity(optuna.logging.WARNING)
  own = int(np.random.default_rng([seed, number]).integers(2**31))
  sampler = getattr(optuna.samplers, SAMPLERS[method])(seed=own)
  study = optuna.create_study(
      direction="maximize" if is_max else "minimize", sampler=sampler
  )
  laws = {name: _law(optuna, each) for name, each in space.items()}
  for setting, score in earlier:
    if score is None:
      continue
    study.add_trial(
        optuna.trial.create_trial(
            params={k: _asked(space[k], v) for k, v in setting.items()},
            distributions=laws,
            value=score,
        )
    )
  found = study.ask(laws).params
  return {name: _given(space[name], found[name]) for name in space}


def _law(optuna, dimension: space_lib.Choice | space_lib.Range):
  if isinstance(dimension, space_lib.Choice):
    # By their positions: a value may be a list, which Optuna does not keep.
    positions = list(range(len(dimension.values)))
    return optuna.distributions.CategoricalDistribution(positions)
  kind = optuna.distributions.FloatDistribution
  if dimension.is_int:
    kind = optuna.distributions.IntDistribution
  return kind(dimension.low, dimension.high, log=dimension.is_log)


def _asked(dimension, value: Any) -> Any:
  if isinstance(dimension, space_lib.Choice):
    return dimension.values.index(value)
  return value


def _given(dimension, value: Any) -> Any:
  if isinstance(dimension, space_lib.Choice):
    return dimension.values[value]
  return value
