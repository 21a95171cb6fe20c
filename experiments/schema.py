"""Drafts a schema of a table from PUBLIC rows that you name.

  python -m experiments.schema --rows=PUBLIC.csv --out=people.schema.toml

The rows must be public: published ones, a data dictionary's examples, or rows
that you made up. Bounds and categories that are read off private rows are a
release without noise, which no epsilon counts. Check each line of what is
written: state bounds and categories from what anyone may know of the columns.
"""

import pathlib

from absl import flags

from experiments.run import cli
from jax_privacy.data import tables
from jax_privacy.data.tables import files
from jax_privacy.data.tables import schema as schema_lib

_ROWS = flags.DEFINE_string(
    "rows", None, "A .csv, .csv.gz or .parquet file of PUBLIC rows."
)
_OUT = flags.DEFINE_string("out", None, "The schema to write, a .toml file.")


def main() -> None:
  """Runs the command line.

  Raises:
    ValueError: If the file to write is there already.
  """
  with cli.exit_on(ValueError, OSError, ImportError):
    path, out = _ROWS.value, pathlib.Path(_OUT.value)
    if out.exists():
      raise ValueError(f"out must be a new file, got {out}, which is there.")
    columns = files.column_names(path)
    schema, left_out = tables.draft_schema(
        files.read_file(path, columns=columns)
    )
    comments = [
        f"Drafted by experiments.schema from {path}, which must be PUBLIC.",
        "Check every line: bounds and categories are to be what anyone may",
        "know of a column. A column that is not here is not read.",
        "A class written as a number is drafted as a number: state it as",
        'kind = "category", values = [0, 1, 2]. See docs/tables.md.',
        *(f"Left out: {name!r} ({why})" for name, why in left_out.items()),
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    with open(out, "x", encoding="utf-8") as file:  # Never over another.
      file.write(schema_lib.to_toml(schema, comments=comments))
  print(f"{out}: {len(schema.columns)} columns from {path}")
  for name, why in left_out.items():
    print(f"left out: {name!r} ({why})")
  print(
      f"These bounds and categories come from {path}: they are safe only if its"
      " rows are public. Check them."
  )


if __name__ == "__main__":
  flags.mark_flags_as_required(["rows", "out"])
  cli.run(main)
