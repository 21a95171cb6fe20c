"""Trains what a config describes, under a stated (epsilon, delta).

  python -m experiments.train --config=configs/digits_cnn.py:epsilon=3.0
    --workdir=runs/digits [--config.train.learning_rate=0.5 ...]

Writes DIR/config.json, DIR/metrics.jsonl, DIR/checkpoints and, once the run is
over, DIR/summary.json. The same command on an unfinished DIR goes on from the
last checkpoint; on a finished one it prints the result again.
"""

import pathlib
from collections.abc import Callable
from typing import Any

from absl import flags
from ml_collections import config_flags

from experiments import _build, _cli, _log, _loop, _summary, _workdir
from jax_privacy import checkpoint, data, root_key

_SAVES_A_RUN = 10

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "A recipe: configs/NAME.py[:key=value,...]."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.")


def main() -> None:
  """Runs the command line."""
  with _cli.exit_on(ValueError, OSError):
    config = _CONFIG.value
    workdir = _workdir.Workdir(pathlib.Path(_WORKDIR.value))
    workdir.check(config)
    summary = workdir.read_summary()
    if summary is None:
      experiment = _build.build(config)
      workdir.claim(config)
  if summary is None:
    # An image is decoded when it is drawn, and a disk fills up when it does.
    with _cli.exit_on(data.ImageError, OSError):
      summary = run(experiment, workdir)
  _summary.show(summary)


def run(
    experiment: _build.Experiment, workdir: _workdir.Workdir
) -> dict[str, Any]:
  """Trains from the last checkpoint, or from the start.

  Args:
    experiment: The run.
    workdir: Its folder, claimed.

  Returns:
    The summary, which is also in the folder.
  """
  experiment, state, train_seconds = fit(experiment, workdir)
  summary = _summary.summarise(experiment, state, train_seconds=train_seconds)
  workdir.write_summary(summary)
  return summary


def fit(
    experiment: _build.Experiment,
    workdir: _workdir.Workdir,
    *,
    build_fn: Callable[..., _build.Experiment] = _build.build,
) -> tuple[_build.Experiment, _loop.TrainState, float]:
  """Does the training of `run`, and sums nothing up.

  Args:
    experiment: The run.
    workdir: Its folder, claimed.
    build_fn: `build_fn(config, run_key=...)` makes the experiment again, for a
      resumed run whose key the checkpoint alone knows.

  Returns:
    The experiment that was run, its last state, and seconds of training.
  """
  num_steps = experiment.mechanism.num_steps
  every = experiment.config.save_every or max(1, num_steps // _SAVES_A_RUN)
  with checkpoint.Checkpoints(workdir.checkpoints) as checkpoints:
    experiment, start = _resume(experiment, checkpoints, build_fn)
    state, step = start, int(start.step)
    workdir.keep_metrics_until(step)
    with _log.RunLog(experiment, workdir, initial_step=step) as log:
      for state, loss in _loop.train(experiment, start):
        step += 1
        log.record(step, loss)
        if step % every == 0 or step == num_steps:
          checkpoints.save(step, state._asdict())
  return experiment, state, log.train_seconds()


def _resume(experiment, checkpoints, build_fn):
  """Returns the experiment and state to go on with."""
  state = _loop.init_state(experiment)
  restored = checkpoints.restore_latest(state._asdict())
  if restored is None:
    return experiment, state
  state = _loop.TrainState(**restored[1])
  if experiment.config.seed is None:
    # What it began with, known to the checkpoint alone.
    run_key = root_key.RootKey.from_words(state.run_key)
    experiment = build_fn(experiment.config, run_key=run_key)
  return experiment, state


if __name__ == "__main__":
  flags.mark_flags_as_required(["config", "workdir"])
  _cli.run(main)
