"""A page about runs: one file that asks for nothing from elsewhere.

Invariant: all that comes from a run is escaped text, or JSON that is drawn as
text; the page's policy forbids it every request, and every script but its own.

>>> made = Page(runs=(), privacy=(), notes=("a folder is left out",))
>>> "a folder is left out" in html(made, title="Runs")
True
"""

import base64
import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from accounting import claims
from accounting.budget.page import assets
from configs import common
from experiments.plan import not_private, units
from experiments.reports import configs_table, curves, markup, quality
from experiments.reports import privacy as privacy_lib
from experiments.reports import run_files as run_files_lib

_STATIC = pathlib.Path(__file__).parent / "static"
_MIB = 2**20
_PRIVATE = (
    "This page holds numbers that come from the training data without noise,"
    " each marked as private: it is NOT FOR RELEASE. --public leaves them out."
)
_PUBLIC = (
    "Numbers that come from the training data without noise are left out of"
    " this page."
)


@dataclasses.dataclass(frozen=True)
class Page:
  """What a page shows.

  Attributes:
    runs: Runs, in order.
    privacy: Claims of each.
    ledger: Line of a ledger about each, by the run's name.
    notes: Lines about folders that are left out.
    is_public: Whether private numbers were left out.
    before: Sections before those of the runs, as markup.
    plots: Plots of these sections, by identifier.
  """

  runs: Sequence[run_files_lib.Run]
  privacy: Sequence[privacy_lib.Privacy]
  ledger: Mapping[str, str] = dataclasses.field(default_factory=dict)
  notes: Sequence[str] = ()
  is_public: bool = True
  before: Sequence[markup.Markup] = ()
  plots: Mapping[str, curves.Plot] = dataclasses.field(default_factory=dict)


def content(page: Page) -> dict[str, Any]:
  """Returns the sections of a page as markup, and what its plots draw.

  Args:
    page: Content of the page.
  """
  plots = dict(page.plots)
  body = markup.join(_body(page, plots))
  return {"body": body, "plots": {k: plot.data() for k, plot in plots.items()}}


def html(page: Page, *, title: str, refresh: bool = False) -> str:
  """Returns the whole page.

  Args:
    page: Content of the page.
    title: Title of the page.
    refresh: Whether it asks its own server for newer content.
  """
  made = content(page)
  is_drawn = bool(made["plots"]) or refresh
  style = f"{assets.text('base.css')}\n{_static('report.css')}"
  return _DOCUMENT.format(
      policy=policy(with_plotly=is_drawn, refresh=refresh),
      title=markup.escape(title),
      style=style,
      note=_PUBLIC if page.is_public else _PRIVATE,
      kind="help" if page.is_public else "error",
      body=made["body"],
      data=markup.script_json(made["plots"]),
      refresh=" data-refresh" if refresh else "",
      **_scripts(with_plotly=is_drawn),
  )


def policy(*, with_plotly: bool = True, refresh: bool = False) -> str:
  """Returns the page's policy: no request, and its own scripts alone.

  Args:
    with_plotly: Whether plotly.js is one of them.
    refresh: Whether it asks its own server for newer content.
  """
  digests = [
      base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
      for code in _scripts(with_plotly=with_plotly).values()
  ]
  own = " ".join(f"'sha256-{digest}'" for digest in digests)
  connect = "connect-src 'self'; " if refresh else ""
  return (
      f"default-src 'none'; script-src {own}; style-src 'unsafe-inline';"
      f" img-src data:; {connect}base-uri 'none'; form-action 'none'"
  )


def _scripts(*, with_plotly: bool) -> dict[str, str]:
  code = assets.text("figure.js").replace("export ", "")
  return {
      "plotly": _inlined(assets.plotly()) if with_plotly else "",
      "ours": _inlined(f"{{\n{code}\n{_static('report.js')}\n}}"),
  }


def _body(page: Page, plots: dict[str, curves.Plot]) -> Iterator[markup.Markup]:
  """Yields the sections, and adds their plots."""
  if page.notes:
    yield markup.section(
        "left-out", "Left out", [markup.items(page.notes, kind="warnings")]
    )
  yield from page.before
  pairs = list(zip(page.runs, page.privacy, strict=True))
  if not pairs:
    return
  yield _comparison(pairs)
  logs = curves.of_logs(page.runs)
  plots |= {f"log-{i}": plot for i, plot in enumerate(logs)}
  cards = [plot.card(f"log-{i}") for i, plot in enumerate(logs)]
  yield markup.Markup(f'<div class="plots">{markup.join(cards)}</div>')
  if len(pairs) > 1:
    yield _differences(page.runs)
  for number, (run, privacy) in enumerate(pairs):
    yield _of_run(run, privacy, page.ledger.get(run.name), number, plots)


def _comparison(pairs) -> markup.Markup:
  header = ("run", "task", "state", "epsilon", "delta", "result", "value")
  header += ("steps", "batch", "parameters", "examples/s", "seconds", "MiB")
  rows = [_row(run, privacy) for run, privacy in pairs]
  return markup.section(
      "runs",
      "The run" if len(pairs) == 1 else f"The {len(pairs)} runs",
      [
          markup.table(
              "What each reached, and under which guarantee",
              header,
              rows,
              sortable=len(rows) > 1,
          )
      ],
  )


def _row(run, privacy) -> list[markup.Cell]:
  facts, number = run.facts, run_files_lib.number
  metric, value = quality.headline(run)
  memory = number(facts.get("peak_memory_bytes"))
  steps = number(facts.get("num_steps"))
  if steps is None and run.metrics:
    steps = run.metrics[-1]["step"]
  delta = privacy.delta
  return [
      run.name,
      run.task or "–",
      _state(run),
      markup.Number(_epsilon(run, privacy), privacy.epsilon),
      markup.Number(
          "–" if delta is None else claims.at_most_short(delta), delta
      ),
      metric or "–",
      _count(value, 4),
      _count(steps),
      _count(number(facts.get("expected_batch_size"))),
      _count(number(facts.get("num_parameters")), 12),
      _count(number(facts.get("examples_per_second")), 4),
      _count(number(facts.get("train_seconds")), 4),
      _count(None if memory is None else memory / _MIB, 4),
  ]


def _epsilon(run, privacy) -> str:
  if not run.is_private:
    return not_private.LABEL
  text = privacy_lib.shown(privacy.epsilon)
  is_spent = not run.facts and privacy.epsilon is not None
  return f"{text} so far" if is_spent else text


def _state(run) -> str:
  if run.summary:
    return "finished"
  return "audit" if run.audit else "not over"


def _differences(runs) -> markup.Markup:
  found = configs_table.different({run.name: run.config for run in runs})
  rows = [
      [name, *map(configs_table.short, values)]
      for name, values in found.items()
  ]
  content = markup.table(
      "Fields that are not the same in all configs",
      ["field", *(run.name for run in runs)],
      rows,
  )
  if not rows:
    content = markup.paragraph("Their configs are the same.")
  return markup.section("differences", "What the configs differ in", [content])


def _of_run(run, privacy, ledger_line, number, plots) -> markup.Markup:
  """Returns all that is known of one run."""
  parts, found = quality.evaluations(run, f"evaluation-{number}")
  plots |= found
  content = [
      markup.items(run.notes, kind="warnings"),
      markup.paragraph(privacy.sentence, kind="claim-text"),
      markup.paragraph(ledger_line) if ledger_line else "",
      markup.items(privacy.warnings, kind="warnings"),
      markup.facts("What was trained", _trained(run)),
      quality.averages(run),
      *parts,
      *quality.samples(run),
      privacy_lib.audit_tables(run.audit) if run.audit else "",
      markup.facts("Throughput, memory and versions", _machine(run)),
  ]
  if privacy.statement:
    content.append(markup.folded("The privacy statement", privacy.statement))
  if run.config:
    content.append(markup.folded("The config", _config(run.config)))
  return markup.section(f"run-{number}", run.name, content)


def _trained(run) -> list[tuple[str, Any]]:
  get, config, facts = run_files_lib.get, run.config, run.facts
  unit = facts.get("unit") or get(config, "data", "unit") or units.EXAMPLE
  limit = facts.get("max_rows_per_unit")
  rows = [
      ("name", facts.get("name", config.get("name"))),
      ("task", run.task),
      ("what is protected", f"one {unit}"),
      ("rows of each, at most", limit),
      ("an example is", facts.get("example_is")),
      ("data", get(config, "data", "source")),
      ("split to train on", get(config, "data", "train_split")),
      ("split to test on", get(config, "data", "test_split")),
      ("examples, as stated", facts.get("num_examples")),
      ("model", get(config, "model", "name")),
      ("parameters", facts.get("num_parameters")),
      ("of them trained", facts.get("num_trained_parameters")),
      ("began with", get(facts, "restored_from", "path")),
      ("optimiser", get(config, "train", "optimizer")),
      ("learning rate", get(config, "train", "learning_rate")),
      ("expected batch size", facts.get("expected_batch_size")),
      ("steps", facts.get("num_steps")),
      ("views of an example", facts.get("num_views")),
      ("seed", facts.get("seed", config.get("seed"))),
  ]
  return [(name, _value(value)) for name, value in rows if value is not None]


def _machine(run) -> list[tuple[str, Any]]:
  facts = run.facts
  memory = run_files_lib.number(facts.get("peak_memory_bytes"))
  mesh = facts.get("mesh")
  versions = facts.get("versions")
  rows = [
      ("seconds of training", facts.get("train_seconds")),
      ("examples a second", facts.get("examples_per_second")),
      (
          "most memory of the process, MiB",
          None if memory is None else memory / _MIB,
      ),
      ("device", facts.get("device")),
      ("mesh", json.dumps(mesh) if mesh else None),
      ("sha256 of the parameters", facts.get("params_sha256")),
  ]
  if isinstance(versions, Mapping):
    rows += [(f"version of {k}", v) for k, v in versions.items()]
  return [(name, _value(value)) for name, value in rows if value is not None]


def _config(config: Mapping[str, Any]) -> markup.Markup:
  """Returns what is not the default, and the whole."""
  defaults = json.loads(common.base().to_json())
  rows = [
      [name, *map(configs_table.short, pair)]
      for name, pair in configs_table.not_default(config, defaults).items()
  ]
  text = json.dumps(config, indent=2, sort_keys=True)
  return markup.join(
      [
          markup.table(
              "Fields that are not the default",
              ["field", "value", "default"],
              rows,
          ),
          markup.Markup(f'<pre tabindex="0">{markup.escape(text)}</pre>'),
      ]
  )


def _count(value: float | None, digits: int = 6) -> markup.Number:
  return markup.Number("–" if value is None else f"{value:.{digits}g}", value)


def _value(value: Any) -> str:
  found = run_files_lib.number(value)
  if found is None or isinstance(value, int):
    return f"{value!s:.300}"
  return f"{found:.6g}"


def _static(name: str) -> str:
  return (_STATIC / name).read_text("utf-8")


def _inlined(code: str) -> str:
  """Returns a script that no text in it ends."""
  return code.replace("</script", "<\\/script").replace("<!--", "<\\!--")


# The scripts are at the end: all that is there can be read without them.
_DOCUMENT = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body{refresh}>
<a class="skip" href="#main">To the results</a>
<header><h1>{title}</h1><p class="{kind}">{note}</p></header>
<main id="main" tabindex="-1">{body}</main>
<script type="application/json" id="plots">{data}</script>
<script>{plotly}</script>
<script>{ours}</script>
</body>
</html>
"""
