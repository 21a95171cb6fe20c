"""Evaluates what a run saved, overall and per class.

  python -m experiments.evaluate --workdir=runs/digits [--split=test]
    [--params=last|ema|ema_0.9999|polyak|...]

Needs the split's data and the run's folder; not the training data, unless that
is the split asked for.
"""

import pathlib

import jax
import ml_collections
from absl import flags

from experiments import (
    _averages,
    _build,
    _cli,
    _evaluation,
    _fields,
    _model,
    _workdir,
)
from jax_privacy import checkpoint, data

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.")
_SPLIT = flags.DEFINE_string(
    "split", None, "Split to evaluate on; by default the config's test split."
)
_PARAMS = flags.DEFINE_string(
    "params",
    None,
    "What parameters, by name: last, or an average that the run kept; by"
    " default the config's eval.params.",
)


def main() -> None:
  """Runs the command line."""
  with _cli.exit_on(ValueError, OSError, checkpoint.CheckpointError):
    workdir = _workdir.Workdir(pathlib.Path(_WORKDIR.value))
    stored = workdir.read_config()
    if stored is None:
      raise ValueError(f"workdir must hold a run, got {workdir.path}.")
    if "audit" in stored:
      raise ValueError(
          f"workdir must hold a run without canaries, got {workdir.path}, an"
          " audit's."
      )
    config = _fields.from_json(stored)
    split = _SPLIT.value or config.data.test_split
    source = _build.build_source(config, split, for_evaluation=True)
    model = _model.build_for_evaluation(config, source, jax.random.key(0))
    which = _which(config)
    step, params = _averages.restore(workdir.checkpoints, config, model.params)
  with _cli.exit_on(data.ImageError, OSError):
    accuracy = _evaluation.evaluate(
        model,
        params[which],
        source,
        batch_size=config.eval.batch_size,
        num_examples=config.eval.num_examples,
    )
  if split == config.data.train_split:
    print("These are training examples: the numbers are PRIVATE.")
  print(
      f"{which} parameters of step {step}, on {accuracy.num_examples} examples"
      f" of {split}"
  )
  print(f"accuracy {accuracy.overall:.2%}")
  for name, value in accuracy.per_class.items():
    print(f"  {name}: {value:.2%}")


def _which(config: ml_collections.ConfigDict) -> str:
  """Returns the name of the parameters to evaluate."""
  names = _averages.names(config)
  which = config.eval.params if _PARAMS.value is None else _PARAMS.value
  if which not in names:
    raise ValueError(
        f"params must be one of {', '.join(names)}, got {which!r}."
    )
  return which


if __name__ == "__main__":
  flags.mark_flags_as_required(["workdir"])
  _cli.run(main)
