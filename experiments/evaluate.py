"""Evaluates what a run saved, overall and per class.

  python -m experiments.evaluate --workdir=runs/digits [--split=test]
    [--params=ema|last]

Needs the split's data and the run's folder; not the training data, unless that
is the split asked for.
"""

import pathlib

import jax
from absl import flags

from experiments import (
    _build,
    _cli,
    _evaluation,
    _fields,
    _model,
    _workdir,
)
from jax_privacy import averaging, checkpoint, data

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.")
_SPLIT = flags.DEFINE_string(
    "split", None, "Split to evaluate on; by default the config's test split."
)
_PARAMS = flags.DEFINE_enum(
    "params", None, ["ema", "last"], "By default the config's eval.params."
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
    source = _build.build_source(config, split)
    model = _model.build_model(config, source, jax.random.key(0))
    which = _PARAMS.value or config.eval.params
    step, params = _restore(workdir, model, which)
  with _cli.exit_on(data.ImageError, OSError):
    accuracy = _evaluation.evaluate(
        model,
        params,
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


def _restore(workdir, model, which):
  """Returns the step and the last or the averaged parameters."""
  like = {"last": {"params": model.params}}
  ema = averaging.ema(0.0).init(model.params)
  like["ema"] = {"ema": ema}
  if not workdir.checkpoints.exists():
    raise ValueError(f"workdir must hold a checkpoint, got {workdir.path}.")
  with checkpoint.Checkpoints(
      workdir.checkpoints, read_only=True
  ) as checkpoints:
    restored = checkpoints.restore_latest(like[which])
  if restored is None:
    raise ValueError(f"workdir must hold a checkpoint, got {workdir.path}.")
  step, state = restored.step, restored.state
  return step, state["ema"].average if which == "ema" else state["params"]


if __name__ == "__main__":
  flags.mark_flags_as_required(["workdir"])
  _cli.run(main)
