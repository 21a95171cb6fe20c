"""One bar on a terminal: step, time left, speed, time so far, and a note.

The invariant: numbers come first and are never cut; the bar takes what room is
left, or none, and the time so far is shown where there is plenty. Some columns
stay free at the right end, where a terminal echoes "^C": a full line would
break there, and leave a second bar.
"""

import rich.console
import rich.progress
import rich.progress_bar
import rich.table
import rich.text

_FREE_COLUMNS = 4
_MIN_BAR = 6


class StepBar(rich.progress.Progress):
  """A `rich.progress.Progress` of one task, whose description is the note.

  Args:
    console: Console to draw on; one that is no terminal shows nothing.
  """

  def __init__(self, console: rich.console.Console):
    super().__init__(console=console, disable=not console.is_terminal)

  def get_renderables(self):
    """Yields one line, or two where the note does not fit."""
    for task in self.tasks:
      yield from _lines(task, self.console.width - _FREE_COLUMNS)


def _lines(task, width):
  head, note = _head(task), task.description
  is_one = not note or _room(width, head, note) >= _MIN_BAR
  shown = note if is_one else ""
  longer = f"{head}, {_clock(task.elapsed or 0.0)} so far"
  if _room(width, longer, shown) >= 2 * _MIN_BAR:
    head = longer
  yield _line(task, width, head, shown)
  if not is_one:
    yield rich.text.Text(note)


def _room(width, *texts) -> int:
  return width - sum(len(text) + 1 for text in texts if text)


def _line(task, width, head, note):
  room = _room(width, head, note)
  if room < _MIN_BAR:
    return rich.text.Text(head)
  bar = rich.progress_bar.ProgressBar(
      total=task.total, completed=task.completed, width=room
  )
  grid = rich.table.Table.grid(padding=(0, 1, 0, 0))
  grid.add_row(rich.text.Text(head), bar, rich.text.Text(note))
  return grid


def _head(task) -> str:
  parts = [f"step {int(task.completed)}/{int(task.total)}"]
  if task.time_remaining is not None:
    parts.append(f"{_clock(task.time_remaining)} left")
  if task.speed:
    parts.append(_speed(task.speed))
  return ", ".join(parts)


def _clock(seconds: float) -> str:
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  if hours:
    return f"{hours}:{minutes:02}:{seconds:02}"
  return f"{minutes}:{seconds:02}"


def _speed(steps_per_second: float) -> str:
  if steps_per_second >= 1:
    return f"{steps_per_second:.1f} steps/s"
  return f"{1 / steps_per_second:.1f} s/step"
