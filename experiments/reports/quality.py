"""What a run reached: its averages, its evaluations, and what it draws.

Invariant: each number is one of a file, with its standard error where the file
has one; a number that is not defined is shown as such, and not left out.

>>> estimate({"value": 0.9639, "standard_error": 0.0098})
('0.9639', '0.0098')
>>> estimate({"value": None, "why_undefined": "no example"})
('undefined (no example)', '–')
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.reports import curves, markup
from experiments.reports import run_files as run_files_lib

_TEST = "test_"
_MAX_CONFUSION = 30
_MAX_BARS = 60
_GAP = ("largest_gap", "largest_gap_standard_error", "highest", "lowest")
_DISPARITY = ("absolute_disparity", "relative_disparity", "worst")
CONFUSION = "confusion"
CALIBRATION = "calibration"


def headline(run: run_files_lib.Run) -> tuple[str, float | None]:
  """Returns the name and the value of a run's result.

  Args:
    run: The run.
  """
  name = run_files_lib.get(run.summary, "headline", "metric")
  value = run_files_lib.get(run.summary, "headline", "value")
  if isinstance(name, str):
    return name, run_files_lib.number(value)
  accuracy = run_files_lib.number(run.summary.get("test_accuracy"))
  return ("accuracy" if accuracy is not None else ""), accuracy


def averages(run: run_files_lib.Run) -> markup.Markup:
  """Returns the table of all parameters that a run kept.

  Args:
    run: The run.
  """
  found = _by_metric(run.summary)
  names = sorted({name for values in found.values() for name in values})
  if not names:
    return markup.Markup("")
  chosen = run.summary.get("eval_params")
  rows = [
      [
          f"{name} (the result)" if name == chosen else name,
          *(_number(values.get(name)) for values in found.values()),
      ]
      for name in sorted(names, key=lambda name: name != chosen)
  ]
  count = run.summary.get("test_examples")
  on = f", on {count} test examples" if isinstance(count, int) else ""
  return markup.table(
      f"By parameters{on}", ["parameters", *found], rows, sortable=True
  )


def evaluations(
    run: run_files_lib.Run, prefix: str
) -> tuple[list[markup.Markup], dict[str, curves.Plot]]:
  """Returns what `experiments.evaluate` wrote.

  Args:
    run: The run.
    prefix: Beginning of the plots' identifiers.

  Returns:
    Parts of the page, and plots by identifier.
  """
  parts: list[markup.Markup] = []
  plots: dict[str, curves.Plot] = {}
  for file, record in run.evaluations.items():
    head = f"{file}: split {record.get('split')!s:.60}"
    is_private = run_files_lib.UNRELEASED in record
    if is_private:
      head += f" ({curves.PRIVATE})"
      record = {**record, **_mapping(record[run_files_lib.UNRELEASED])}
    parts.append(markup.Markup(f"<h3>{markup.escape(head)}</h3>"))
    last = run.summary.get("num_steps")
    if run.summary and record.get("step") != last:
      parts.append(
          markup.paragraph(
              f"It is of step {record.get('step')!s:.20}, not of the last.",
              kind="error",
          )
      )
    for params, sections in _mapping(record.get("params")).items():
      for title, content in _mapping(sections).items():
        content = _mapping(content)
        caption = f"{params} parameters: {title}"
        parts.append(_table(caption, content))
        parts += _below(caption, content)
        plot = _plot(caption, title, content, is_private)
        if plot is not None:
          name = f"{prefix}-{len(plots)}"
          plots[name] = plot
          parts.append(plot.card(name))
  return parts, plots


def samples(run: run_files_lib.Run) -> list[markup.Markup]:
  """Returns what a generative model drew.

  Args:
    run: The run.
  """
  if run.samples is None:
    return []
  found = run.samples
  parts = []
  if found.png:
    label = f"Images that {run.name} drew, a row for each class"
    parts.append(markup.picture(found.png, label))
  prompt = found.facts.get("prompt")
  for number, text in enumerate(found.texts, 1):
    title = f"Text {number}"
    title += f", after {prompt!r:.80}" if isinstance(prompt, str) else ""
    parts.append(markup.paragraph(title, kind="help"))
    parts.append(
        markup.Markup(
            '<pre class="wraps" tabindex="0">' f"{markup.escape(text)}</pre>"
        )
    )
  keys = ("params", "step", "seed", "temperature", "top_k", "top_p")
  rows = [(k, f"{found.facts[k]!s:.80}") for k in keys if k in found.facts]
  sampler = _mapping(found.facts.get("sampler"))
  rows += [(f"sampler {k}"[:60], f"{v!s:.80}") for k, v in sampler.items()]
  return [*parts, markup.facts("How they were drawn", rows)]


def estimate(record: Any) -> tuple[str, str]:
  """Returns a number and its standard error as texts.

  Args:
    record: Estimate, as evaluation writes it.
  """
  record = _mapping(record)
  value = run_files_lib.number(record.get("value"))
  error = run_files_lib.number(record.get("standard_error"))
  why = record.get("why_undefined", "no number")
  return (
      f"undefined ({why!s:.80})" if value is None else f"{value:.4g}",
      "–" if error is None else f"{error:.2g}",
  )


def _by_metric(summary: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
  """Returns values by metric, then by name of the parameters."""
  metric = run_files_lib.get(summary, "headline", "metric")
  values = run_files_lib.get(summary, "headline", "values")
  found = {str(metric): values} if isinstance(values, Mapping) else {}
  for key, value in summary.items():
    if key.startswith(_TEST) and isinstance(value, Mapping):
      name = key.removeprefix(_TEST).replace("_", " ")
      if value not in found.values():
        found[name] = value
  return found


def _table(caption: str, content: Mapping[str, Any]) -> markup.Markup:
  rows = []
  for name, record in _mapping(content.get("rows")).items():
    value, error = estimate(record)
    record = _mapping(record)
    number = run_files_lib.number
    rows.append(
        [
            str(name),
            markup.Number(value, number(record.get("value"))),
            markup.Number(error, number(record.get("standard_error"))),
            _number(record.get("num_examples")),
        ]
    )
  header = ["", "value", "standard error", "examples"]
  return markup.table(caption, header, rows, sortable=len(rows) > 2)


def _below(caption: str, content: Mapping[str, Any]) -> Iterator[markup.Markup]:
  """Yields the gaps, a confusion matrix, and notes."""
  for keys in (_DISPARITY, _GAP):
    rows = [
        (key.replace("_", " "), _plain(content[key]))
        for key in keys
        if key in content
    ]
    if rows:
      yield markup.facts(f"Disparity, {caption}", rows)
  if CONFUSION in content:
    yield _confusion(caption, content)
  notes = content.get("notes")
  if isinstance(notes, list):
    yield markup.items([f"{note!s:.300}" for note in notes], kind="notes")


def _confusion(caption: str, content: Mapping[str, Any]) -> markup.Markup:
  """Returns counts by right class and predicted class, shaded by row."""
  names = [str(name) for name in _mapping(content.get("rows"))]
  counts = content[CONFUSION]
  if not _is_matrix(counts, len(names)) or len(names) > _MAX_CONFUSION:
    text = f"The confusion matrix of {len(names)} classes is not shown."
    return markup.paragraph(text, kind="help")
  rows = []
  for name, row in zip(names, counts, strict=True):
    total = max(1, sum(row))
    cells = [markup.Number(str(n), n, n / total) for n in row]
    rows.append([name, *cells])
  return markup.folded(
      f"Confusion matrix, {caption}",
      markup.table(
          "Examples by right class (rows) and predicted class (columns)",
          ["right class", *names],
          rows,
      ),
  )


def _is_matrix(counts: Any, size: int) -> bool:
  """Whether it is a square of numbers of examples."""

  def is_row(row):
    return (
        isinstance(row, list)
        and len(row) == size
        and all(type(n) is int and 0 <= n < 2**53 for n in row)
    )

  return (
      isinstance(counts, list)
      and len(counts) == size
      and all(map(is_row, counts))
  )


def _plot(caption, title, content, is_private) -> curves.Plot | None:
  """Returns a plot of classes, groups or bins, with their errors."""
  rows = {
      str(name): _mapping(record)
      for name, record in _mapping(content.get("rows")).items()
  }
  number = run_files_lib.number
  values = [number(record.get("value")) for record in rows.values()]
  errors = [
      number(record.get("standard_error")) or 0.0 for record in rows.values()
  ]
  is_many = 2 < sum(v is not None for v in values) and len(rows) <= _MAX_BARS
  if not is_many or title == "overall":
    return None
  names, lines = (title, "value"), []
  x: Sequence[Any] = list(rows)
  if title == CALIBRATION:
    confidences = content.get("confidences")
    if not isinstance(confidences, list) or len(confidences) != len(rows):
      return None
    x = [number(each) for each in confidences]
    names = ("mean confidence", "share of right predictions")
    lines = [curves.Line("calibrated", [0.0, 1.0], [0.0, 1.0])]
  lines.append(curves.Line(title, x, values, errors, "markers"))
  return curves.Plot(caption, names, lines, is_private=is_private)


def _mapping(value: Any) -> Mapping[str, Any]:
  return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> markup.Number:
  found = run_files_lib.number(value)
  return markup.Number("–" if found is None else f"{found:.5g}", found)


def _plain(value: Any) -> str:
  found = run_files_lib.number(value)
  return f"{value!s:.80}" if found is None else f"{found:.4g}"
