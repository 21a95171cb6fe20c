"""Plots of a run's log against its steps, and of what it was evaluated on.

Invariant: a plot shows numbers that a file holds, and its table has the same;
of a run that is read for the public no private number is here to be shown.

>>> line = Line("a run", [5, 10], [0.5, 1.25])
>>> Plot("epsilon", ("steps", "epsilon"), [line]).label
'epsilon against steps: a run from 0.5 at 5 to 1.25 at 10'
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from accounting import claims
from experiments.reports import markup
from experiments.reports import run_files as run_files_lib

PRIVATE = "private, not for release"
_MAX_ROWS = 200
_MAX_LINES = 100
_QUANTILES = "grad_norm_quantiles"


class Line(NamedTuple):
  """A line of a plot.

  Attributes:
    name: Name of the line.
    x: Places of its points.
    y: Heights of its points; None for none there.
    errors: Standard errors of `y`, or None.
    mode: Name of how plotly.js draws it: "lines", "markers"; None for a line.
    share: Number in [0, 1] that the line is coloured by, or None.
    texts: Texts of its points, or None.
  """

  name: str
  x: Sequence[Any]
  y: Sequence[float | None]
  errors: Sequence[float] | None = None
  mode: str | None = None
  share: float | None = None
  texts: Sequence[str] | None = None


@dataclasses.dataclass(frozen=True)
class Plot:
  """Lines over the same axes.

  Attributes:
    title: Title of the plot.
    names: Titles of both axes.
    lines: The lines.
    is_private: Whether it is of numbers that are not for release.
    is_bound: Whether heights are upper bounds, and rounded up.
    range: Ends of the axis of heights, or None.
    has_table: Whether its numbers are shown as a table, too.
  """

  title: str
  names: tuple[str, str]
  lines: Sequence[Line]
  is_private: bool = False
  is_bound: bool = False
  range: tuple[float, float] | None = None
  has_table: bool = True

  @property
  def label(self) -> str:
    """What the plot shows, for who does not see it."""
    each = [self._words(line) for line in self.lines[:_MAX_LINES]]
    return f"{self.names[1]} against {self.names[0]}: {'; '.join(each)}"

  def card(self, name: str) -> markup.Markup:
    """Returns the plot's place and its numbers.

    Args:
      name: Identifier of the plot.
    """
    mark = f" ({PRIVATE})" if self.is_private else ""
    rows = [
        [line.name, _cell(x), *self._heights(line, at, y)]
        for line in self.lines
        for at, (x, y) in enumerate(zip(line.x, line.y, strict=True))
    ]
    shown = rows[:: max(1, -(-len(rows) // _MAX_ROWS))]
    cut = "" if shown == rows else f" (every {-(-len(rows) // _MAX_ROWS)}th)"
    has_errors = any(line.errors for line in self.lines)
    header = ["of", *self.names, *(["standard error"] if has_errors else [])]
    table = markup.table(f"{self.title}{cut}", header, shown)
    return markup.section(
        f"{name}-card",
        f"{self.title[:1].upper()}{self.title[1:]}{mark}",
        [
            markup.plot(name, self.label),
            markup.folded("The numbers", table) if self.has_table else "",
        ],
    )

  def data(self) -> dict[str, Any]:
    """Returns what the page's script draws."""
    return {
        "names": list(self.names),
        "range": self.range,
        "lines": [
            {k: v for k, v in line._asdict().items() if v is not None}
            for line in self.lines[:_MAX_LINES]
        ],
    }

  def _text(self, y: float) -> str:
    return claims.at_most(y) if self.is_bound else f"{y:.5g}"

  def _words(self, line: Line) -> str:
    pairs = zip(line.x, line.y, strict=True)
    known = [(x, self._text(y)) for x, y in pairs if y is not None]
    if not known:
      return f"{line.name} without a number"
    (x0, y0), (x1, y1) = known[0], known[-1]
    if len(known) == 1:
      return f"{line.name} {y0} at {x0}"
    return f"{line.name} from {y0} at {x0} to {y1} at {x1}"

  def _heights(self, line: Line, at: int, y: float | None):
    text = "–" if y is None else self._text(y)
    cells: list[markup.Cell] = [markup.Number(text, y)]
    if any(each.errors for each in self.lines):
      cells.append(_cell(line.errors[at] if line.errors else None))
    return cells


def of_logs(runs: Sequence[run_files_lib.Run]) -> list[Plot]:
  """Returns the plots of all logs, several runs over each other.

  Args:
    runs: Runs, by the same rule of what is private.
  """
  plots = [
      _of_all(runs, "epsilon", _public("epsilon"), is_bound=True),
      *_losses(runs),
      _of_all(runs, "clipped fraction", _unreleased("clipped_fraction")),
      _of_all(runs, "signal to noise", _unreleased("signal_to_noise")),
      *map(_norms, runs),
      _of_all(runs, "examples per second", _public("examples_per_second")),
  ]
  return [plot for plot in plots if plot.lines]


def _losses(runs) -> list[Plot]:
  """Losses of different tasks are not on one axis."""
  tasks = list(dict.fromkeys(run.task for run in runs))
  plots = []
  for task in tasks:
    name = "loss" if len(tasks) == 1 else f"loss, {task or 'of no known task'}"
    of_task = [run for run in runs if run.task == task]
    plots.append(_of_all(of_task, name, _unreleased("loss")))
  return plots


def _of_all(
    runs, name: str, value: "_Value", *, is_bound: bool = False
) -> Plot:
  lines = [_line(run.name, run.metrics, value.fn) for run in runs]
  lines = [line for line in lines if any(y is not None for y in line.y)]
  return Plot(
      f"{name} against steps",
      ("steps", name),
      lines,
      is_private=value.is_private,
      is_bound=is_bound,
  )


def _norms(run) -> Plot:
  """Quantiles of the norms before clipping, with the clip norm."""
  found = [
      run_files_lib.get(line, run_files_lib.UNRELEASED, _QUANTILES)
      for line in run.metrics
  ]
  keys = sorted(
      {k for each in found if isinstance(each, Mapping) for k in each}
  )
  lines = [
      _line(f"quantile {key}", run.metrics, _unreleased(_QUANTILES, key).fn)
      for key in keys[:_MAX_LINES]
  ]
  clip = run_files_lib.number(
      run_files_lib.get(run.config, "dp", "l2_clip_norm")
  )
  if lines and clip is not None:
    steps = lines[0].x
    lines.append(Line("clip norm", steps, [clip] * len(steps)))
  return Plot(
      f"gradient norms of {run.name}", ("steps", "norm"), lines, is_private=True
  )


def _line(name, metrics, value_fn) -> Line:
  points = [
      (line["step"], run_files_lib.number(value_fn(line))) for line in metrics
  ]
  return Line(name, [x for x, _ in points], [y for _, y in points])


class _Value(NamedTuple):
  """Reads a number of a line of the log, and knows whether it is private."""

  fn: Callable[[Mapping[str, Any]], Any]
  is_private: bool


def _public(key: str) -> _Value:
  return _Value(lambda line: line.get(key), False)


def _unreleased(*keys: str) -> _Value:
  keys = (run_files_lib.UNRELEASED, *keys)
  return _Value(lambda line: run_files_lib.get(line, *keys), True)


def _cell(value: Any) -> markup.Cell:
  if value is None:
    return markup.Number("–", None)
  if isinstance(value, str):
    return value
  return markup.Number(f"{value:.5g}", float(value))
