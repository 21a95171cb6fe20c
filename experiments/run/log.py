"""Shows and records how a run gets on.

A bar on a terminal, plain lines elsewhere, and lines of metrics.jsonl. The
private numbers among them are marked as such: the loss, in all three, and those
of `train_metrics.py`, which metrics.jsonl alone has. The rate is computed from
the expected batch size, not from realised ones.
"""

import time
from collections.abc import Mapping
from typing import Any

import rich.console

import accounting
from accounting import claims
from experiments.plan import experiment as experiment_lib
from experiments.plan import not_private
from experiments.run import bar
from experiments.run import workdir as workdir_lib
from jax_privacy.data import bounded

_LINES_A_RUN = 20


class RunLog:
  """A context whose `record` is called after every step.

  Args:
    experiment: The run.
    workdir: Folder of metrics.jsonl.
    initial_step: Steps that were done before.
  """

  def __init__(
      self,
      experiment: experiment_lib.Experiment,
      workdir: workdir_lib.Workdir,
      *,
      initial_step: int,
  ):
    mechanism, dp = experiment.mechanism, experiment.config.dp
    self._dp = dp
    self._num_steps = mechanism.num_steps
    self._mechanism = mechanism
    self._workdir = workdir
    self._initial_step = initial_step
    # Steps that were begun and lost have been paid for all the same.
    self._steps_begun = workdir.read_steps_begun()
    self._logged = logged_steps(experiment)
    self._epsilons = _epsilons(
        mechanism, dp, {max(step, self._steps_begun) for step in self._logged}
    )
    metrics = workdir.read_metrics()
    self._seconds_before = metrics[-1]["train_seconds"] if metrics else 0.0
    self._start = time.monotonic()
    self._sizes, self._note = _batch_sizes(experiment), ""
    self._console = rich.console.Console(highlight=False, soft_wrap=True)
    self._bar = bar.StepBar(self._console)
    self._task = self._bar.add_task(
        "compiling", total=self._num_steps, completed=initial_step
    )

  def __enter__(self):
    if not self._dp.enabled:
      say(not_private.SENTENCE)
    sizes = ", ".join(map(str, self._sizes))
    if len(self._sizes) == 1:
      say(f"compiling the step, for batches padded to {sizes}")
    else:
      say(
          f"compiling the step; again for each size of padded batches ({sizes})"
          " when it is first met"
      )
    self._bar.start()
    return self

  def __exit__(self, *unused):
    self._bar.stop()

  def _expected(self, step: int) -> float:
    """Expected number of examples in the batches of the first `step` steps."""
    if not step:
      return 0.0
    begun = self._mechanism.with_num_steps(step)
    return begun.expected_epochs * begun.num_examples

  def train_seconds(self) -> float:
    """Returns seconds of training so far, those before a resume included."""
    return self._seconds_before + time.monotonic() - self._start

  def compiling(self, size: int) -> None:
    """Says that a step is compiled for a size of batches met just now.

    The size that a batch needs reveals its realised size, which is private.

    Args:
      size: Size of the padded batch.
    """
    if self._sizes == (size,):
      return  # The only one: it was said before the first step.
    place = "one more"
    if size in self._sizes:
      place = f"{self._sizes.index(size) + 1} of {len(self._sizes)}"
    text = f"compiling for batches of {size} ({place}; "
    if self._console.is_terminal:
      self._bar.update(self._task, description=f"{text}not for release)")
    else:
      self._console.print(f"{text}{bounded.PRIVATE})")

  def record(self, step: int, unreleased_metrics: Mapping[str, Any]) -> None:
    """Moves the bar; at every log_every-th step, and the last, logs more.

    Args:
      step: Number of steps done, this one included.
      unreleased_metrics: Metrics of the step that `loop.train` yields; the loss
        is read from the device when it is logged.
    """
    # In place of what was compiled for this step, if anything was.
    self._bar.update(self._task, completed=step, description=self._note)
    if step not in self._logged:
      return
    loss = float(unreleased_metrics["loss"])
    seconds = time.monotonic() - self._start
    rate = (self._expected(step) - self._expected(self._initial_step)) / seconds
    epsilon = self._epsilons[max(step, self._steps_begun)]
    self._workdir.append_metrics(
        {
            "step": step,
            "epsilon": epsilon,
            "examples_per_second": rate,
            "train_seconds": self._seconds_before + seconds,
            workdir_lib.UNRELEASED_METRICS: {
                **unreleased_metrics,
                "loss": loss,
            },
        }
    )
    spent = not_private.LABEL
    if epsilon is not None:
      spent = f"epsilon {claims.at_most(epsilon)}"
    if self._console.is_terminal:
      self._note = f"{spent}, loss {loss:.2f} (not for release)"
      self._bar.update(self._task, description=self._note)
    else:
      self._console.print(
          f"step {step}/{self._num_steps}: {spent},"
          f" {rate:.0f} examples/s, loss {loss:.3f} ({bounded.PRIVATE})"
      )


def say(text: str) -> None:
  """Prints what is being done, at once: a line of public numbers and names.

  Args:
    text: Line of public numbers and names.
  """
  print(text, flush=True)


def _batch_sizes(experiment: experiment_lib.Experiment) -> tuple[int, ...]:
  """Returns the sizes that steps are compiled for, all of them public."""
  size = experiment.config.physical_batch_size
  return experiment.dp_training.sampler.sizes if size is None else (size,)


def steps_between_lines(experiment: experiment_lib.Experiment) -> int:
  """Returns after how many steps `RunLog.record` logs more.

  Args:
    experiment: Run, as `plan.experiment.build` makes it.
  """
  num_steps = experiment.mechanism.num_steps
  return experiment.config.log_every or max(1, num_steps // _LINES_A_RUN)


def logged_steps(experiment: experiment_lib.Experiment) -> set[int]:
  """Returns after how many steps there is a line of the log.

  Args:
    experiment: Run, as `plan.experiment.build` makes it.
  """
  num_steps = experiment.mechanism.num_steps
  every = steps_between_lines(experiment)
  return {*range(every, num_steps + 1, every), num_steps}


def _epsilons(mechanism, dp, steps) -> dict[int, float | None]:
  """Returns the epsilon spent, by number of steps taken; None without noise."""
  if not dp.enabled:
    return dict.fromkeys(steps)
  steps = sorted(steps)
  epsilons = accounting.epsilon_curve(
      mechanism, steps=steps, delta=dp.delta, accountant=dp.accountant
  )
  return dict(zip(steps, map(float, epsilons), strict=True))
