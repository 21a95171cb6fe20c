"""`experiments.schema` drafts from public rows, and says so."""

from jax_privacy.data.tables import schema as schema_lib
from tests.support import launch


def _draft(rows, out):
  return launch.command("experiments.schema", f"--rows={rows}", f"--out={out}")


def test_a_schema_is_drafted_and_never_overwrites(tmp_path):
  out = tmp_path / "new" / "people.toml"  # README's own runs/ is not there.
  rows = "tests/support/people.csv"
  process = _draft(rows, out)
  assert process.returncode == 0, process.stderr
  assert "5 columns" in process.stdout and "must be" not in process.stderr
  assert "safe only if its rows are public" in process.stdout
  schema = schema_lib.read(out)
  assert schema.target("income").label_names == ("high", "low")
  assert schema.columns["age"].bounds == (29.0, 63.0)
  assert "which must be PUBLIC" in out.read_text()
  before = out.read_text()
  process = _draft(rows, out)
  assert process.returncode == 2
  assert f"out must be a new file, got {out}" in process.stderr
  assert len(process.stderr.splitlines()) == 1
  assert out.read_text() == before


def test_what_cannot_be_read_ends_in_one_line(tmp_path):
  process = _draft(tmp_path / "no.csv", tmp_path / "out.toml")
  assert process.returncode == 2
  (line,) = process.stderr.splitlines()
  assert "no.csv must be a table, got no regular file" in line
  assert not (tmp_path / "out.toml").exists()
