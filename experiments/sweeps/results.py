"""What a sweep found: its table, its winner, its page.

Invariant: where the best of a random number of runs is released, what is for
others names the winner alone: not its number, not how many there were.

>>> from experiments.sweeps import runner
>>> outcomes = [runner.Outcome(0, "finished", score=0.5, metric="accuracy"),
...             runner.Outcome(1, "failed", error="it ended with code 1"),
...             runner.Outcome(2, "finished", score=0.75, metric="accuracy")]
>>> best(outcomes, goal="auto").number
2
>>> best_so_far(outcomes, is_max=True)
[0.5, 0.5, 0.75]
"""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.reports import curves, gather, markup, output
from experiments.reports import page as page_lib
from experiments.sweeps import cost as cost_lib
from experiments.sweeps import plan as plan_lib
from experiments.sweeps import runner
from jax_privacy import _owner_only

PAGE, PRIVATE_PAGE, WINNER = "page.html", "private.html", "winner.py"
_MAX_REPORTED = 30
_CHOSEN = (
    "It was chosen by its result on the test split: that result flatters it."
)
_WINNER = '''"""{title}

{lines}

  python -m experiments.train --config={name} --workdir=DIR
"""

import json

from experiments.plan import fields

_CONFIG = r"""
{config}
"""


def get_config():
  """Returns the config of the winner."""
  return fields.from_json(json.loads(_CONFIG))
'''


def is_max(outcomes: Sequence[runner.Outcome], goal: str) -> bool:
  """Returns whether the largest result wins.

  Args:
    outcomes: Outcomes of the runs.
    goal: Name of the goal: "auto" asks whether the result is a share.
  """
  if goal != "auto":
    return goal == "max"
  known = [each.is_share for each in outcomes if each.score is not None]
  return known[0] if known else True


def best(
    outcomes: Sequence[runner.Outcome], *, goal: str
) -> runner.Outcome | None:
  """Returns the winner; the first of equals, or None if no run has a result.

  Args:
    outcomes: Outcomes of the runs.
    goal: Name of the goal.
  """
  known = [
      each
      for each in outcomes
      if each.score is not None and math.isfinite(each.score)
  ]
  sign = 1 if is_max(outcomes, goal) else -1
  return max(known, key=lambda each: sign * each.score, default=None)


def best_so_far(
    outcomes: Sequence[runner.Outcome], *, is_max: bool
) -> list[float | None]:
  """Returns the best result of the first runs, for each number of them.

  Args:
    outcomes: Outcomes of the runs.
    is_max: Whether the largest result wins.
  """
  found, held = [], None
  for each in outcomes:
    if each.score is not None and math.isfinite(each.score):
      pick = max if is_max else min
      held = each.score if held is None else pick(held, each.score)
    found.append(held)
  return found


def lines(
    plan: plan_lib.Plan, outcomes: Sequence[runner.Outcome]
) -> Iterator[str]:
  """Yields the table of all runs, as text.

  Args:
    plan: Plan of the sweep.
    outcomes: Outcomes of its runs.
  """
  for each in outcomes:
    setting = plan.settings[each.number] if _has(plan, each) else {}
    words = ", ".join(f"{name}={value}" for name, value in setting.items())
    yield f"run {each.number:03}: {words}: {_state(each)}"


def write_winner(
    folder: pathlib.Path,
    config: Mapping[str, Any],
    *,
    setting: Mapping[str, Any],
    cost: cost_lib.Cost,
) -> pathlib.Path:
  """Writes the winner's config, as a recipe of its own.

  Args:
    folder: Folder of the sweep.
    config: Config of the winner, as JSON.
    setting: Setting of the winner.
    cost: Cost of the sweep.

  Returns:
    The file.

  Raises:
    OSError: If the disk is full.
  """
  path = folder / WINNER
  said = [f"  {name} = {value!r}" for name, value in setting.items()]
  text = _WINNER.format(
      title="The settings that won a sweep.",
      lines=_plain("\n".join([*said, "", cost.sentence, _CHOSEN])),
      name=path.name,
      config=_plain(json.dumps(config, indent=2, sort_keys=True)),
  )
  partial = path.with_name(f"{path.name}.partial")
  with _owner_only.open_text(partial, "w") as file:
    file.write(text)
  os.replace(partial, path)
  return path


def write_pages(
    folder: pathlib.Path,
    plan: plan_lib.Plan,
    outcomes: Sequence[runner.Outcome],
    cost: cost_lib.Cost,
) -> list[pathlib.Path]:
  """Writes the page of the sweep; where the best is released, one for others.

  Args:
    folder: Folder of the sweep.
    plan: Plan of the sweep.
    outcomes: Outcomes of its runs.
    cost: Cost of the sweep.

  Returns:
    The files.

  Raises:
    OSError: If the disk is full.
  """
  is_best = plan.accounting == cost_lib.BEST
  path = folder / (PRIVATE_PAGE if is_best else PAGE)
  output.write(path, _whole(folder, plan, outcomes, cost))
  if not is_best:
    return [path]
  winner = best(outcomes, goal=plan.goal)
  others = folder / PAGE
  if winner is None or any(each.state == "waiting" for each in outcomes):
    others.unlink(missing_ok=True)
    return [path]
  content = [
      markup.paragraph(cost.sentence, kind="claim-text"),
      markup.paragraph(_CHOSEN),
      markup.facts("The winner", _winner_rows(plan, winner)),
  ]
  made = page_lib.Page(
      runs=(),
      privacy=(),
      before=[markup.section("sweep", "The sweep", content)],
  )
  output.write(others, page_lib.html(made, title="Sweep: the best run"))
  return [path, others]


def _whole(folder, plan, outcomes, cost) -> str:
  """Returns the page of all runs."""
  finished = [each for each in outcomes if each.state == "finished"]
  made = page_lib.Page(runs=(), privacy=())
  if finished and len(finished) <= _MAX_REPORTED:
    made = gather.page([runner.folder(folder, n.number) for n in finished])
  plots = _plots(plan, outcomes)
  cards = markup.join(plot.card(name) for name, plot in plots.items())
  section = markup.section("sweep", "The sweep", _told(plan, outcomes, cost))
  places = markup.Markup(f'<div class="plots">{cards}</div>')
  made = dataclasses.replace(made, before=(section, places), plots=plots)
  if plan.accounting == cost_lib.BEST:
    made = dataclasses.replace(made, is_public=False)
  name = plan.config.get("name") or folder.absolute().name
  return page_lib.html(made, title=f"Sweep: {name}")


def _told(plan, outcomes, cost) -> Iterator[markup.Markup]:
  """Yields the claim, the winner, and the table."""
  if plan.accounting == cost_lib.BEST:
    text = "This page is NOT FOR RELEASE: page.html is."
    yield markup.paragraph(text, kind="error")
  yield markup.paragraph(cost.sentence, kind="claim-text")
  failed = [each for each in outcomes if each.state == "failed"]
  yield markup.items(
      [f"run {each.number:03} failed: {each.error}" for each in failed],
      kind="warnings",
  )
  winner = best(outcomes, goal=plan.goal)
  if winner is not None:
    yield markup.paragraph(_CHOSEN)
    yield markup.facts("The winner", _winner_rows(plan, winner))
  names = list(plan.space)
  rows = [_row(plan, each, names) for each in outcomes]
  header = ["run", *names, "state", "result", "seconds"]
  yield markup.table("All runs", header, rows, sortable=len(rows) > 1)


def _winner_rows(plan, winner) -> list[tuple[str, Any]]:
  setting = plan.settings[winner.number]
  rows = [(name, _value(value)) for name, value in setting.items()]
  return [*rows, (winner.metric, f"{winner.score:.5g}")]


def _row(plan, each, names) -> list[markup.Cell]:
  setting = plan.settings[each.number] if _has(plan, each) else {}
  cells: list[markup.Cell] = [f"{each.number:03}"]
  for name in names:
    value = setting.get(name, "–")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    text = _value(value)
    cells.append(markup.Number(text, float(value)) if is_number else text)
  score, seconds = each.score, each.seconds
  return [
      *cells,
      each.state,
      markup.Number("–" if score is None else f"{score:.5g}", score),
      markup.Number("–" if seconds is None else f"{seconds:.4g}", seconds),
  ]


def _plots(plan, outcomes) -> dict[str, curves.Plot]:
  known = [each for each in outcomes if each.score is not None]
  if not known:
    return {}
  metric, is_up = known[0].metric, is_max(outcomes, plan.goal)
  counts = [each.number + 1 for each in outcomes]
  held = best_so_far(outcomes, is_max=is_up)
  scores = [each.score for each in outcomes]
  return {
      "sweep-best": curves.Plot(
          "best so far",
          ("runs", metric),
          [
              curves.Line("best so far", counts, held),
              curves.Line("each run", counts, scores, mode="markers"),
          ],
      ),
      "sweep-parallel": _parallel(plan, known, metric),
  }


def _parallel(plan, known, metric) -> curves.Plot:
  """Returns each run as a line over its fields and its result."""
  space = plan_lib.space_of(plan)
  scores = [each.score for each in known]
  low, high = min(scores), max(scores)
  lines = []
  for each in known:
    setting = plan.settings[each.number]
    share = (each.score - low) / (high - low) if high > low else 1.0
    shares = [space[name].share(value) for name, value in setting.items()]
    texts = [f"{name}: {_value(value)}" for name, value in setting.items()]
    lines.append(
        curves.Line(
            f"run {each.number:03}",
            [*setting, metric],
            [*shares, share],
            share=share,
            texts=[*texts, f"{metric}: {each.score:.5g}"],
        )
    )
  return curves.Plot(
      "parallel coordinates",
      ("field", "from lowest to highest"),
      lines,
      has_table=False,
  )


def _has(plan, each) -> bool:
  return each.number < len(plan.settings)


def _state(each) -> str:
  if each.state == "finished" and each.score is not None:
    return f"{each.metric} {each.score:.5g}"
  return f"{each.state}{': ' if each.error else ''}{each.error}"


def _value(value: Any) -> str:
  return f"{value:.6g}" if isinstance(value, float) else f"{value!s:.100}"


def _plain(text: str) -> str:
  """Returns a text that ends no string of a program: it may hold any name."""
  return text.encode("ascii", "backslashreplace").decode().replace('"""', "'''")
