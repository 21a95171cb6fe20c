"""docs/tables.md: its schema is one. `test_readme` runs its commands."""

import re

from experiments.tasks.tables import loss
from jax_privacy import models
from jax_privacy.data import tables
from jax_privacy.data.tables import schema as schema_lib
from tests.support import launch

_PAGE = (launch.ROOT / "docs/tables.md").read_text(encoding="utf-8")


def _blocks(language):
  return re.findall(rf"```{language}\n(.*?)```", _PAGE, flags=re.DOTALL)


def test_it_has_commands_to_run():
  (commands,) = _blocks("bash")
  assert commands.count("\n") == 5


def test_its_schema_is_one():
  (text,) = _blocks("toml")
  schema = schema_lib.parse(text)
  assert list(schema.columns) == ["age", "joined", "job", "income"]
  assert schema.target("income").kind == "binary"
  kinds = {"number": tables.Number, "date": tables.Date}
  for name, kind in (kinds | {"category": tables.Category}).items():
    assert f"| `{name}` |" in _PAGE
    assert any(type(column) is kind for column in schema.columns.values())


def test_it_names_all_models_losses_and_sources():
  names = (*models.table_names(), *tables.names(), *loss.NAMES)
  assert all(f"`{name}`" in _PAGE for name in names if name != "table")
