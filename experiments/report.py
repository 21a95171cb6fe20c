"""Writes what runs reached, and what they cost, as one page.

  python -m experiments.report --workdir=runs/a [runs/b ...] --out=page.html
    [--public|--nopublic] [--audit=runs/audit] [--ledger=data.toml]

The page is one file, which asks for nothing from elsewhere. It has what was
trained, the privacy statement with every number of it recomputed, the log as
plots, results of all averages, and what the configs differ in. It also shows
what other commands left in a run's folder: DIR/evaluation.json of `evaluate
--json`, and DIR/samples of `generate --out`.

--public leaves out all that comes from the training data without noise: losses,
norms, clipped shares. It is the default where a run's seed was None.

A folder that is no run, or a file that is damaged, is left out: a line on
stderr, and one on the page, says so. All else is shown.
"""

import pathlib
import sys

from absl import flags

from experiments.reports import gather, output, page
from experiments.run import cli

_WORKDIR = flags.DEFINE_multi_string(
    "workdir", None, "Folders of runs; more may follow without a flag."
)
_OUT = flags.DEFINE_string("out", None, "File of the page, NAME.html.")
_PUBLIC = flags.DEFINE_bool(
    "public",
    None,
    "Whether to leave out what is private. By default true where the seed of a"
    " run was None.",
)
_AUDIT = flags.DEFINE_multi_string(
    "audit", [], "Folders of audits of the runs."
)
_LEDGER = flags.DEFINE_string(
    "ledger", None, "A data set's ledger: what it says of each run is shown."
)


def main() -> None:
  """Runs the command line."""
  with cli.exit_on(ValueError, OSError, ImportError):
    out = output.check(_OUT.value)
    made = gather.page(
        [pathlib.Path(path) for path in _WORKDIR.value],
        public=_PUBLIC.value,
        audits=[pathlib.Path(path) for path in _AUDIT.value],
        ledger=None if _LEDGER.value is None else pathlib.Path(_LEDGER.value),
    )
    output.write(out, page.html(made, title=gather.title(made)))
  for note in gather.notes(made):
    print(f"note: {note}", file=sys.stderr)
  kind = "for release" if made.is_public else "with private numbers"
  print(f"wrote {out}, {kind}: {len(made.runs)} runs")


if __name__ == "__main__":
  flags.mark_flags_as_required(["workdir", "out"])
  cli.run(main, rest="workdir")
