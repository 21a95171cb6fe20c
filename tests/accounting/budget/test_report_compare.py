"""`dp-budget report` against the run's other files: the same, or refused."""

import json

import hypothesis
import pytest

from accounting import budget
from accounting.budget import compare
from tests.support import commands, fuzz, records

_SUMMARY = records.summary(
    name="small", generator="threefry", grid_scale=None, eval_params="ema"
)


def _folder(tmp_path, *, config=None, begun=50, **summary):
  records.write(tmp_path, "summary.json", _SUMMARY | summary)
  if begun is not None:
    records.write(tmp_path, "steps_begun.json", {"steps_begun": begun})
  if config is not None:
    records.write(tmp_path, "config.json", config)
  return str(tmp_path)


def test_says_what_was_compared_and_what_was_not(tmp_path, capsys):
  path = _folder(tmp_path, config=records.config())
  found = commands.answer(capsys, "report", path)
  assert {"seed", "delta", "l2_clip_norm", "num_steps"} < {
      *found["compared"]["config.json"]
  }
  assert found["compared"]["steps_begun.json"] == ["steps_begun"]
  assert set(found["not_compared"]) == {"noise_multiplier", "num_examples"}
  assert budget.main(["report", path]) == 0
  text = " ".join(capsys.readouterr().out.split())
  assert "The same in config.json: name, seed, delta, accountant," in text
  assert "num examples data.num_examples is None in config.json" in text


def test_the_unit_is_compared(tmp_path, capsys):
  persons = {"unit": "patient", "max_rows_per_unit": 8}
  config = records.config()
  config["data"] |= {"unit": "patient", "max_rows_per_unit": 8}
  path = _folder(tmp_path, config=config, **persons)
  found = commands.answer(capsys, "report", path)
  assert set(persons) < {*found["compared"]["config.json"]}
  for rows in ({"unit": "", "max_rows_per_unit": None}, {"unit": "hospital"}):
    config["data"] |= rows
    path = _folder(tmp_path, config=config, **persons)
    assert "unit" in commands.refused(capsys, "report", path)
  config["data"] |= {"unit": "", "max_rows_per_unit": None}
  of_rows = {"unit": "example", "max_rows_per_unit": None}
  path = _folder(tmp_path, config=config, **of_rows)
  found = commands.answer(capsys, "report", path)
  assert set(persons) < {*found["compared"]["config.json"]}


def test_missing_files_and_fields_are_listed(tmp_path, capsys):
  path = _folder(tmp_path, begun=None)
  found = commands.answer(capsys, "report", path)
  assert found["compared"] == {}
  assert found["not_compared"]["seed"] == "there is no config.json"
  assert found["not_compared"]["steps_begun"] == "there is no steps_begun.json"
  old = {"seed": 0, "dp": {"delta": 1e-4}, "train": 3}
  found = commands.answer(capsys, "report", _folder(tmp_path, config=old))
  assert found["compared"]["config.json"] == ["seed", "delta"]
  assert "dp.sampling is not in" in found["not_compared"]["sampling"]
  assert "train.num_steps is not" in found["not_compared"]["num_steps"]


@pytest.mark.parametrize(
    ("fact", "field", "value"),
    [
        ("name", "name", "large"),
        ("seed", "seed", 1),
        ("seed", "seed", None),
        ("seed", "seed", False),  # In Python False is 0.
        ("delta", "dp.delta", 1e-3),
        ("delta", "dp.delta", "1e-4"),
        ("accountant", "dp.accountant", "rdp"),
        ("epsilon_target", "dp.epsilon", 4.0),
        ("neighboring_relation", "dp.neighboring_relation", "replace"),
        ("noise_multiplier", "dp.noise_multiplier", 2.5),
        ("l2_clip_norm", "dp.l2_clip_norm", 0.5),
        ("sampling", "dp.sampling", "deterministic"),
        ("max_batch_size", "dp.max_batch_size", 200),
        ("grid_scale", "dp.grid_scale", 4096),
        ("generator", "dp.secure_random", True),
        ("num_examples", "data.num_examples", 999),
        ("expected_batch_size", "train.expected_batch_size", 99.0),
        ("num_steps", "train.num_steps", 49),
        ("num_steps", "train.num_steps", 51),
        ("num_steps", "train.num_steps", [50]),
        ("num_views", "augment.num_views", 2),
        ("eval_params", "eval.params", "last"),
    ],
)
def test_a_difference_is_refused_by_name(fact, field, value, tmp_path, capsys):
  path = _folder(tmp_path, config=records.config(**{field: value}))
  message = commands.refused(capsys, "report", path)
  assert f"{fact} must be as in" in message and field in message
  assert repr(_SUMMARY[fact]) in message
  if fact not in ("generator", "neighboring_relation"):
    assert repr(value) in message


@pytest.mark.parametrize(
    "changes",
    [
        {"dp.neighboring_relation": "add_or_remove"},  # An alias.
        {"dp.l2_clip_norm": 1},
        {"dp.noise_multiplier": 2.0, "train.num_steps": 60},  # Cut.
        {"dp.auto_tune": "num_steps", "train.num_steps": None},
        {"train.num_steps": None, "train.num_epochs": 5.0},
        {"dp.auto_tune": "batch_size", "train.expected_batch_size": 0.0},
    ],
)
def test_what_says_the_same_in_other_words_is_accepted(changes, tmp_path):
  path = _folder(tmp_path, config=records.config(**changes))
  assert budget.main(["report", path, "--json"]) == 0


def test_epochs_are_compared_as_steps(tmp_path, capsys):
  changes = {"train.num_steps": None, "train.num_epochs": 6.0}
  path = _folder(tmp_path, config=records.config(**changes))
  message = commands.refused(capsys, "report", path)
  assert "states 50, config.json's train.num_epochs, in steps, is 60" in message


@pytest.mark.parametrize(
    ("begun", "match"),
    [
        (60, "every step that was begun: summary.json states 50, steps_begun"),
        (49, "summary.json states 50, steps_begun.json's is 49"),
        (-1, "steps_begun.json must hold a number of steps"),
        (True, "steps_begun.json must hold a number of steps"),
        ("50", "steps_begun.json must hold a number of steps"),
    ],
)
def test_epsilon_counts_the_steps_begun(begun, match, tmp_path, capsys):
  assert match in commands.refused(
      capsys, "report", _folder(tmp_path, begun=begun)
  )


@pytest.mark.parametrize("name", ["config.json", "steps_begun.json"])
@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 9999, '{"a": NaN}'])
def test_a_broken_file_is_refused(name, content, tmp_path, capsys):
  path = _folder(tmp_path)
  records.write(tmp_path, name, content)
  assert name in commands.refused(capsys, "report", path)


@fuzz.SHORT
@hypothesis.given(
    field=fuzz.st.sampled_from(
        [
            *compare._FIELDS.values(),
            "dp",
            "train",
            "train.num_steps",
            "train.num_epochs",
            "dp.auto_tune",
            "train.batch_size_schedule",
        ]
    ),
    value=fuzz.JSON,
)
def test_any_config_is_compared_or_refused(tmp_path, field, value):
  text = json.dumps(records.config(**{"train.num_steps": None, field: value}))
  records.write(tmp_path, "config.json", text)
  try:
    compare.with_files(tmp_path, _SUMMARY)
  except ValueError as error:
    fuzz.assert_clear(error)
