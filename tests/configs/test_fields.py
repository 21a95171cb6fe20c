"""Every field of a config is written down: in its entry, and in docs."""

import re

import pytest

from accounting import accountants, samplers
from accounting import mechanism as accounting_mechanism
from configs import common, fields
from experiments.plan import fields as plan_fields
from experiments.plan import mechanism, optimizer, schedules
from experiments.tasks import registry
from jax_privacy import losses, regression_losses
from tests.support import launch


def test_the_page_is_what_the_entries_give():
  page = (launch.ROOT / "docs" / "config.md").read_text(encoding="utf-8")
  assert page == fields.page(), "python -m configs.fields > docs/config.md"


def test_the_table_has_every_field_of_a_config():
  names = [name for name, _, _ in plan_fields.leaves(common.base())]
  assert sorted(row.name for row in fields.table()) == sorted(names)
  page = fields.page()
  assert all(f"\n| `{name}` |" in page for name in names)
  for row in fields.table():
    # A cell is one line, and holds no other cell.
    assert not set(row.meaning + row.rule + row.value) & set("|\n"), row


@pytest.mark.parametrize(
    "planted, message",
    [
        (0.5, "toy.dropout must be a Field(default, meaning, rule), got 0.5"),
        ({}, "toy.dropout must be a Field(default, meaning, rule), got {}"),
        (fields.Field(0.5, "", "In [0, 1)."), "toy.dropout must have a mean"),
        (fields.Field(0.5, "Share.", ""), "toy.dropout must have a meaning"),
        (fields.Field(None, "Share.", "Any."), "toy.dropout must have a type"),
    ],
)
def test_a_field_without_its_entry_is_named(planted, message, monkeypatch):
  monkeypatch.setitem(fields.FIELDS, "toy", {"dropout": planted})
  with pytest.raises(TypeError, match=re.escape(message)):
    common.base()


def test_a_new_entry_reaches_config_and_table(monkeypatch):
  entry = fields.Field(None, "Share of units.", "In [0, 1).", float)
  monkeypatch.setitem(fields.FIELDS, "toy", {"dropout": entry})
  assert common.base().toy.dropout is None
  row = fields.Row("toy.dropout", "number", "None", *entry[1:3])
  assert fields.table()[-1] == row
  assert fields.page().endswith("| Share of units. | In [0, 1). |\n")


def test_the_table_takes_the_values_of_a_run():
  rows = fields.table({"dp.epsilon": 3.0, "model.name": "linear"})
  values = {row.name: row.value for row in rows}
  assert values["dp.epsilon"] == "3.0" and values["model.name"] == '"linear"'
  assert values["dp.accountant"] == '"pld"'
  with pytest.raises(ValueError, match="must be of fields, got 'dp.epslon'"):
    fields.table({"dp.epslon": 3.0})


def test_configs_share_no_default():
  common.base().data.options.unlock().update(image_size=3)
  assert not common.base().data.options


# A rule's list of names is the list that the check has.
_CHOICES = {
    "task.name": registry.names(),
    "model.restore.format": plan_fields.FORMATS,
    "loss.name": (*losses.names(), *regression_losses.NAMES),
    "dp.accountant": accountants.names(),
    "dp.neighboring_relation": accounting_mechanism.NEIGHBORING_RELATIONS,
    "dp.auto_tune": mechanism.AUTO_TUNE,
    "dp.sampling": samplers.names(),
    "train.weight_decay_on": optimizer.WEIGHT_DECAY_ON,
    "train.schedule": schedules.names(),
}


@pytest.mark.parametrize("name", _CHOICES)
def test_rules_list_what_is_checked(name):
  rule = dict(fields.leaves())[name].rule
  listed = re.split(r"[;.]|, (?:or|each) ", rule.removeprefix("One of "))[0]
  listed = listed.split(", ")
  if "warmup_" in rule:
    listed += [f"warmup_{each}" for each in listed]
  assert sorted(listed) == sorted(_CHOICES[name])
