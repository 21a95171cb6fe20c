"""The contract of a task, and how a task reads its sections."""

import doctest

import pytest

from configs import common
from experiments.tasks import parts, sections, task


@pytest.mark.parametrize("module", [parts, sections, task])
def test_doctests(module):
  assert (
      doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)[0] == 0
  )


def test_a_section_as_in_base_is_one_that_no_task_uses():
  config = common.base()
  for name in ("augment", "loss", "model", "data"):
    sections.check_unused(name, config[name], task="table")


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("names", ("flip",), r"augment.names must be \(\) for task 'table'"),
        ("options", {"pad": 4}, "augment.options must be {} for task 'table'"),
        ("num_views", 2, "augment.num_views must be 1 for task 'table'"),
    ],
)
def test_a_field_without_effect_is_refused(field, value, message):
  section = common.base().augment
  with section.unlocked():
    section[field] = value
  with pytest.raises(ValueError, match=message):
    sections.check_unused("augment", section, task="table")
  others = [name for name in section if name != field]
  sections.check_unused("augment", section, task="table", fields=others)
