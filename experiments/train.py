"""Trains what a config describes, under a stated (epsilon, delta).

  python -m experiments.train --config=configs/digits_cnn.py:epsilon=3.0
    --workdir=runs/digits [--config.train.learning_rate=0.5 ...]

Writes DIR/config.json, DIR/inputs.json (what predicting needs to know),
DIR/metrics.jsonl, DIR/checkpoints and, once the run is over, DIR/summary.json.
The same command on an unfinished DIR goes on from the last checkpoint, to the
same bits; on a finished one it prints the result again. SIGTERM or Ctrl-C
saves, says "to be continued" and exits 0.

`--show`, in place of --workdir, prints every field with its meaning, and what
the run would be: its guarantee, batches, parameters and memory. It trains
and writes nothing. Memory is counted without activations; `--show=memory`
compiles a step, and says what it needs.

`--continue_from=OTHER_DIR` begins with another run's parameters, on the same
data, and states the epsilon of both together: model.restore.same_data.

`--ledger=FILE` books the whole run in a data set's ledger (`dp-budget ledger`)
before its first step, and settles it at the end. A run that does not fit is not
begun; one that is killed stays booked at its full price, and the same command
goes on with the same booking.

`--config.mesh.data=4` splits batches over four devices. Several processes run
one training if each gets the address of the first:
`--coordinator_address=HOST:PORT --num_processes=2 --process_id=0`, and
`--process_id=1`. See docs/meshes.md.
"""

import contextlib
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import ml_collections
from absl import flags

from accounting import claims
from experiments.evaluation import final
from experiments.plan import averages, not_private
from experiments.plan import experiment as experiment_lib
from experiments.run import cli, devices, loop, preview, resume, signals
from experiments.run import ledger as ledger_lib
from experiments.run import log as log_lib
from experiments.run import summary as summary_lib
from experiments.run import workdir as workdir_lib
from jax_privacy import checkpoint, data, sharding

_SAVES_A_RUN = 10
_SECONDS_BETWEEN_SAVES = 600.0

_CONFIG = cli.define_config("A recipe: configs/NAME.py[:key=value,...].")
_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.")
_SHOW = cli.define_show()
_CONTINUE_FROM = flags.DEFINE_string(
    "continue_from",
    None,
    "A run's folder: begin with its parameters, on the same data. Both"
    " guarantees compose.",
)
_LEDGER = flags.DEFINE_string(
    "ledger",
    None,
    "A data set's ledger: the run is booked in it, whole, before its first"
    " step, and is not begun if it does not fit.",
)
_VISIBLE_TO = flags.DEFINE_string(
    "visible_to",
    "whoever gets the model",
    "Who may see the model, for --ledger. It counts whoever that is.",
)
devices.define_flags()


def main() -> None:
  """Runs the command line.

  Raises:
    ValueError: If neither --workdir nor --show is given.
  """
  with contextlib.ExitStack() as stack:
    with cli.exit_on(ValueError, OSError, RuntimeError):
      config = _CONFIG.value
      if _CONTINUE_FROM.value is not None:
        _continue_from(config, _CONTINUE_FROM.value)
      devices.start(config)
      if _SHOW.value:
        preview.show_fields(config)
        with_memory = _SHOW.value == "memory"
        preview.show_run(experiment_lib.build(config), with_memory=with_memory)
        return
      if _WORKDIR.value is None:
        raise ValueError("--workdir must be given, or --show, got neither.")
    # After JAX has put its own handler of SIGTERM in place.
    stop = stack.enter_context(signals.StopSignals())
    stack.enter_context(devices.only_primary_speaks())
    ledger = None
    if _LEDGER.value is not None:
      path = pathlib.Path(_LEDGER.value)
      ledger = ledger_lib.RunLedger(path, visible_to=_VISIBLE_TO.value)
    with cli.exit_on(ValueError, OSError):
      workdir = devices.workdir(_WORKDIR.value)
      workdir.check(config)
      summary = workdir.read_summary()
      if summary is None:
        experiment = experiment_lib.build(config, say=log_lib.say)
        if ledger is not None:
          ledger.check(experiment)
    if summary is None:
      # An example is decoded when it is drawn; a disk fills up when it does.
      with cli.exit_on(
          data.ExampleError,
          OSError,
          checkpoint.CheckpointError,
          workdir_lib.WorkdirError,
      ):
        summary = run(experiment, workdir, stop=stop, ledger=ledger)
    if summary is not None and ledger is not None:
      with cli.exit_on(OSError, workdir_lib.WorkdirError):
        ledger.settle(summary, workdir)
    if summary is not None:
      with cli.exit_on(ValueError):  # One that was read from the folder.
        summary_lib.show(summary)


def _continue_from(config: ml_collections.ConfigDict, path: str) -> None:
  """Sets the fields that make a run go on from another, on the same data."""
  restore = config.model.restore
  if restore.path not in (None, path):
    raise ValueError(
        "model.restore.path must be None with --continue_from, got"
        f" {restore.path}."
    )
  restore.path, restore.format, restore.same_data = path, "run", True


def run(
    experiment: experiment_lib.Experiment,
    workdir: workdir_lib.Workdir,
    *,
    stop: signals.StopSignals | None = None,
    ledger: ledger_lib.RunLedger | None = None,
) -> dict[str, Any] | None:
  """Trains from the last checkpoint, or from the start.

  Args:
    experiment: The run.
    workdir: Its folder, which is claimed for as long as it trains.
    stop: Signals, asked after each step; None for a run that no signal stops.
    ledger: Ledger in which the run is booked before its first step.

  Returns:
    The summary, which is also in the folder; None if a signal stopped the run.
  """
  experiment, state, train_seconds = fit(
      experiment, workdir, stop=stop, ledger=ledger
  )
  if int(state.step) < experiment.mechanism.num_steps:
    return None
  log_lib.say(f"testing on split {experiment.config.data.test_split!r}")
  # Whole, on one device: a mesh is for training.
  params = averages.by_name(*sharding.to_host((state.params, state.averages)))
  summary = summary_lib.summarise(
      experiment,
      params,
      num_steps=int(state.step),
      test_numbers=final.of_run(experiment, params),
      train_seconds=train_seconds,
  )
  workdir.write_summary(summary)
  return summary


def fit(
    experiment: experiment_lib.Experiment,
    workdir: workdir_lib.Workdir,
    *,
    stop: signals.StopSignals | None = None,
    ledger: ledger_lib.RunLedger | None = None,
    build_fn: Callable[..., experiment_lib.Experiment] = experiment_lib.build,
) -> tuple[experiment_lib.Experiment, loop.TrainState, float]:
  """Does the training of `run`, and sums nothing up.

  Args:
    experiment: The run.
    workdir: Its folder, which is claimed for as long as it trains.
    stop: Signals, as in `run`.
    ledger: Ledger, as in `run`.
    build_fn: `build_fn(config, run_key=...)` makes the experiment again, for a
      resumed run whose key the checkpoint alone knows.

  Returns:
    The experiment that was run, its last state, and seconds of training. If a
    signal stopped it, the state's step is not yet the last.
  """
  with (
      workdir.claimed(
          experiment.config,
          imported=experiment.imported,
          files=experiment.task.public_files(),
      ),
      checkpoint.Checkpoints(workdir.checkpoints) as checkpoints,
  ):
    experiment, state = resume.start(
        experiment, workdir, checkpoints, build_fn=build_fn
    )
    workdir.write_inputs(
        experiment.task.input_description(experiment.test_source)
    )
    step, num_steps = int(state.step), experiment.mechanism.num_steps
    begun_before = workdir.read_steps_begun()
    workdir.keep_metrics_until(step)
    experiment.task.prepare(experiment.row_source)
    if ledger is not None:
      ledger.book(experiment, workdir)
    facts, is_due = resume.facts(experiment), _save_times(experiment)
    with log_lib.RunLog(experiment, workdir, initial_step=step) as log:
      steps = _steps(experiment, state, workdir, on_new_size=log.compiling)
      for new_state, unreleased_metrics in steps:
        state, step = new_state, step + 1
        log.record(step, unreleased_metrics)
        # Agreed on: processes that do not save or stop together wait forever.
        stopping = devices.any_process(stop is not None and stop.requested)
        due = devices.any_process(is_due(step))
        if stopping or step == num_steps or due:
          checkpoints.save(step, state._asdict(), facts=facts)
        if stopping:
          break
    checkpoints.wait()
    if step < num_steps:
      workdir.write_steps_begun(max(step, begun_before), after_step=step)
      _say_to_be_continued(experiment, workdir, step)
  return experiment, state, log.train_seconds()


def _steps(
    experiment: experiment_lib.Experiment,
    state: loop.TrainState,
    workdir: workdir_lib.Workdir,
    *,
    on_new_size: Callable[[int], None],
) -> Iterator[tuple[loop.TrainState, dict[str, Any]]]:
  """Yields from the loop; steps are written down before they are taken.

  In blocks, so that it costs one small file a line of the log: after a kill,
  up to a block too many count as taken.
  """
  num_steps = experiment.mechanism.num_steps
  block = log_lib.steps_between_lines(experiment)
  begun = workdir.read_steps_begun()
  updates = loop.train(experiment, state, on_new_size=on_new_size)
  for step in range(int(state.step), num_steps):
    if step >= begun:
      begun = min(num_steps, (step // block + 1) * block)
      workdir.write_steps_begun(begun, after_step=step)
    yield next(updates)


def _save_times(experiment):
  """Returns `is_due(step)`: by steps, and by the clock if steps are slow."""
  num_steps = experiment.mechanism.num_steps
  every = experiment.config.save_every or max(1, num_steps // _SAVES_A_RUN)
  last = time.monotonic()

  def is_due(step):
    nonlocal last
    now = time.monotonic()
    if step % every and now - last < _SECONDS_BETWEEN_SAVES:
      return False
    last = now
    return True

  return is_due


def _say_to_be_continued(experiment, workdir, step) -> None:
  begun, spent = workdir.read_steps_begun(), f"{not_private.LABEL}."
  if experiment.config.dp.enabled:
    epsilon = resume.epsilon_spent(experiment, begun)
    spent = (
        f"Spent so far, by {begun} steps: ({claims.at_most(epsilon)},"
        f" {claims.at_most_short(experiment.config.dp.delta)})-DP."
    )
  print(
      f"to be continued: saved after step {step} of"
      f" {experiment.mechanism.num_steps}. {spent} The same command goes on."
  )


if __name__ == "__main__":
  flags.mark_flag_as_required("config")
  cli.run(main)
