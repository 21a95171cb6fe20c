"""Reads several runs for one page.

Invariant: a folder that cannot be read is named in the page's notes, and keeps
no other from being shown; where one run's seed was kept secret, the page is
public unless its reader says otherwise.

>>> import pathlib
>>> page([pathlib.Path("nowhere")])
Traceback (most recent call last):
ValueError: workdir must be a run's folder, with config.json or summary.json \
in it, got 'nowhere'.
"""

import pathlib
from collections.abc import Iterator, Sequence

from experiments.reports import page as page_lib
from experiments.reports import privacy as privacy_lib
from experiments.reports import run_files as run_files_lib

_MAX_RUNS = 500


def page(
    paths: Sequence[pathlib.Path],
    *,
    public: bool | None = None,
    audits: Sequence[pathlib.Path] = (),
    ledger: pathlib.Path | None = None,
) -> page_lib.Page:
  """Returns what a page shows of some runs.

  Args:
    paths: Folders of the runs.
    public: Whether to leave out what is private; None for where a run's seed
      was None, or is not known.
    audits: Folders of audits of the runs.
    ledger: File of a data set's ledger, or None.

  Raises:
    ValueError: If none of the folders is a run's, or they are too many.
    OSError: If the ledger cannot be read.
  """
  paths = list(dict.fromkeys(paths))
  if len(paths) > _MAX_RUNS:
    raise ValueError(
        f"workdir must be at most {_MAX_RUNS} folders, got {len(paths)}."
    )
  if public is None:
    found = filter(run_files_lib.is_run, paths)
    public = any(map(run_files_lib.seed_is_secret, found))
  runs, notes, error = [], [], None
  for path, name in zip(paths, _names(paths), strict=True):
    try:
      runs.append(run_files_lib.read(path, public=public, name=name))
    except (ValueError, OSError) as failure:
      error = error or failure
      notes.append(f"{name} is left out: {' '.join(str(failure).split())}")
  if not runs:
    raise error or ValueError("workdir must be a folder at least, got none.")
  lines = {}
  if ledger is not None:
    lines = {run.name: privacy_lib.ledger_line(run, ledger) for run in runs}
  return page_lib.Page(
      runs=tuple(runs),
      privacy=tuple(privacy_lib.of(run, audits=audits) for run in runs),
      ledger=lines,
      notes=tuple(notes),
      is_public=public,
  )


def title(made: page_lib.Page) -> str:
  """Returns the title of a page.

  Args:
    made: Page, as `page` returns it.
  """
  if len(made.runs) == 1:
    return f"Training report: {made.runs[0].name}"
  return f"Training report: {len(made.runs)} runs"


def notes(made: page_lib.Page) -> Iterator[str]:
  """Yields what could not be shown, a line each.

  Args:
    made: Page, as `page` returns it.
  """
  yield from made.notes
  for run in made.runs:
    for note in run.notes:
      yield f"{run.name}: {note}"


def _names(paths: Sequence[pathlib.Path]) -> list[str]:
  """Returns names of folders: their last parts, as many as tell them apart."""
  for count in range(1, 1 + max((len(p.parts) for p in paths), default=1)):
    names = ["/".join(path.absolute().parts[-count:]) for path in paths]
    if len(set(names)) == len(names):
      return names
  return [str(path) for path in paths]
