"""Shows and records how a run gets on.

A bar on a terminal, plain lines elsewhere, and lines of metrics.jsonl. The
private numbers among them are marked as such: the loss, in all three, and those
of `_train_metrics.py`, which metrics.jsonl alone has. The rate is told from the
expected batch size, not from realised ones.
"""

import time
from collections.abc import Mapping
from typing import Any

import rich.console
import rich.progress

import accounting
from accounting import claims
from experiments import _build, _workdir

_LINES_A_RUN = 20


class RunLog:
  """A context whose `record` is called after every step.

  Args:
    experiment: The run.
    workdir: Where metrics.jsonl stands.
    initial_step: Steps that were done before.
  """

  def __init__(
      self,
      experiment: _build.Experiment,
      workdir: _workdir.Workdir,
      *,
      initial_step: int,
  ):
    mechanism, dp = experiment.mechanism, experiment.config.dp
    self._num_steps = mechanism.num_steps
    self._mechanism = mechanism
    self._workdir = workdir
    self._initial_step = initial_step
    # Steps that were begun and lost have been paid for all the same.
    self._steps_begun = workdir.read_steps_begun()
    self._told = told_steps(experiment)
    self._epsilons = _epsilons(
        mechanism, dp, {max(step, self._steps_begun) for step in self._told}
    )
    metrics = workdir.read_metrics()
    self._seconds_before = metrics[-1]["train_seconds"] if metrics else 0.0
    self._start = time.monotonic()
    self._console = rich.console.Console(highlight=False, soft_wrap=True)
    self._bar = rich.progress.Progress(
        rich.progress.MofNCompleteColumn(),
        rich.progress.BarColumn(),
        rich.progress.TimeRemainingColumn(),
        rich.progress.TextColumn("{task.description}"),
        console=self._console,
        disable=not self._console.is_terminal,
    )
    self._task = self._bar.add_task(
        "compiling", total=self._num_steps, completed=initial_step
    )

  def __enter__(self):
    self._bar.start()
    return self

  def __exit__(self, *unused):
    self._bar.stop()

  def _expected(self, step: int) -> float:
    """Expected number of examples in the batches of the first so many steps."""
    if not step:
      return 0.0
    begun = self._mechanism.with_num_steps(step)
    return begun.expected_epochs * begun.num_examples

  def train_seconds(self) -> float:
    """Returns seconds of training so far, those before a resume included."""
    return self._seconds_before + time.monotonic() - self._start

  def record(self, step: int, private: Mapping[str, Any]) -> None:
    """Moves the bar; at every log_every-th step, and the last, tells more.

    Args:
      step: Steps done, this one included.
      private: What `_loop.train` tells of it; the loss is read from the device
        when told.
    """
    self._bar.update(self._task, completed=step)
    if step not in self._told:
      return
    loss = float(private["loss"])
    seconds = time.monotonic() - self._start
    rate = (self._expected(step) - self._expected(self._initial_step)) / seconds
    epsilon = self._epsilons[max(step, self._steps_begun)]
    self._workdir.append_metrics(
        {
            "step": step,
            "epsilon": epsilon,
            "examples_per_second": rate,
            "train_seconds": self._seconds_before + seconds,
            _workdir.PRIVATE: {**private, "loss": loss},
        }
    )
    spent = claims.at_most(epsilon)
    if self._console.is_terminal:
      text = f"epsilon {spent}, loss {loss:.2f} (not for release)"
      self._bar.update(self._task, description=text)
    else:
      self._console.print(
          f"step {step}/{self._num_steps}: epsilon {spent},"
          f" {rate:.0f} examples/s, loss {loss:.3f} (private, not for release)"
      )


def steps_between_lines(experiment: _build.Experiment) -> int:
  """Returns after how many steps `RunLog.record` tells more."""
  num_steps = experiment.mechanism.num_steps
  return experiment.config.log_every or max(1, num_steps // _LINES_A_RUN)


def told_steps(experiment: _build.Experiment) -> set[int]:
  """Returns after how many steps there is a line of the log."""
  num_steps = experiment.mechanism.num_steps
  every = steps_between_lines(experiment)
  return {*range(every, num_steps + 1, every), num_steps}


def _epsilons(mechanism, dp, steps) -> dict[int, float]:
  """Returns the epsilon spent, by number of steps taken."""
  steps = sorted(steps)
  epsilons = accounting.epsilon_curve(
      mechanism, steps=steps, delta=dp.delta, accountant=dp.accountant
  )
  return dict(zip(steps, map(float, epsilons), strict=True))
