"""What a run shows while it trains: the bar, and the sizes it compiles for."""

import io
import re
import types

import pytest
import rich.console

import accounting
from experiments.run import bar as bar_lib
from experiments.run import log as log_lib
from experiments.run import workdir as workdir_lib

_NOTE = "epsilon 2.093, loss 0.15 (not for release)"


def _console(width, *, terminal=True):
  return rich.console.Console(
      width=width,
      force_terminal=terminal,
      color_system=None,
      highlight=False,
      soft_wrap=True,
      file=io.StringIO(),
  )


def _bar_lines(width, *, note=_NOTE):
  """The lines of a bar in the middle of a run of 113 steps, 4 a second."""
  now = iter(range(10**6))
  console = _console(width)
  bar = bar_lib.StepBar(console)
  bar.get_time = lambda: next(now) / 4
  task = bar.add_task(note, total=113)
  for step in range(58):
    bar.update(task, completed=step)
  console.print(bar.get_renderable())
  return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [44, 60, 80, 100, 200])
def test_the_bar_keeps_its_numbers(width):
  lines = _bar_lines(width)
  text = "\n".join(lines)
  assert lines[0].startswith("step 57/113, 0:") and " left" in text
  assert "steps/s" in lines[0] and _NOTE in text
  # Room for "^C", which a terminal would else break the line for.
  assert all(len(line.rstrip()) <= width - 2 for line in lines)
  assert len(lines) == (2 if width < 90 else 1)
  assert ("━" in text) == (width >= 60)
  # The time so far, where there is plenty of room.
  has_time = re.search(r"steps/s, \d:\d\d so far", text) is not None
  assert has_time == (width in (80, 200)) or width == 100


@pytest.mark.parametrize("width", [10, 20, 30])
def test_a_narrow_bar_breaks_lines_and_cuts_none(width):
  text = "".join("".join(_bar_lines(width)).split())
  assert text.startswith("step57/113,0:") and "steps/s" in text
  assert text.endswith("".join(_NOTE.split()))


@pytest.mark.parametrize(
    "seconds, text", [(0, "0:00"), (75, "1:15"), (3675, "1:01:15")]
)
def test_time_left_is_a_clock(seconds, text):
  assert bar_lib._clock(seconds) == text


def test_slow_steps_are_told_in_seconds():
  assert (
      bar_lib._speed(0.05) == "20.0 s/step"
      and bar_lib._speed(4) == "4.0 steps/s"
  )


def _experiment(sizes=(20, 27, 37), physical_batch_size=None):
  mechanism = accounting.Mechanism(
      num_examples=64, noise_multiplier=2.0, sampling_prob=0.25, num_steps=4
  )
  dp = types.SimpleNamespace(enabled=True, delta=1e-3, accountant="rdp")
  return types.SimpleNamespace(
      mechanism=mechanism,
      config=types.SimpleNamespace(
          dp=dp, log_every=1, physical_batch_size=physical_batch_size
      ),
      dp_training=types.SimpleNamespace(
          sampler=types.SimpleNamespace(sizes=sizes)
      ),
  )


def _printed(capsys, tmp_path, experiment, sizes):
  with log_lib.RunLog(
      experiment, workdir_lib.Workdir(tmp_path), initial_step=0
  ) as log:
    for size in sizes:
      log.compiling(size)
  # Before 14.3, rich ends with an empty line.
  return [x for x in capsys.readouterr().out.splitlines() if x]


def test_sizes_are_announced_and_those_met_are_marked_private(capsys, tmp_path):
  first, *met = _printed(capsys, tmp_path, _experiment(), [27, 20, 74])
  assert first == (
      "compiling the step; again for each size of padded batches (20, 27, 37)"
      " when it is first met"
  )
  assert met == [
      "compiling for batches of 27 (2 of 3; private, not for release)",
      "compiling for batches of 20 (1 of 3; private, not for release)",
      "compiling for batches of 74 (one more; private, not for release)",
  ]


def test_one_size_is_announced_before_the_first_step(capsys, tmp_path):
  """A line when it is first met would tell that batches before were empty."""
  experiment = _experiment(physical_batch_size=8)
  assert _printed(capsys, tmp_path, experiment, [8]) == [
      "compiling the step, for batches padded to 8"
  ]
