"""`data.unit`: all rows of a person are one example, through the launcher."""

import json
import re

import jax
import numpy as np
import pytest

from configs import families, table
from experiments.audits import audit as audit_lib
from experiments.audits import canaries, replay
from experiments.plan import experiment as experiment_lib
from experiments.release import guarantee
from experiments.run import loop, preview, resume
from experiments.run import workdir as workdir_lib
from jax_privacy import data, views
from tests.support import launch, oracle

_NUM_PERSONS = 60


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
  """Digits, with made-up persons of 1 to 6 rows each."""
  train_set, test_set = (
      data.load("digits", split=s).as_arrays() for s in ("train", "test")
  )
  sizes = 1 + np.arange(_NUM_PERSONS) % 6
  owners = np.random.default_rng(0).permutation(
      np.repeat(np.arange(_NUM_PERSONS), sizes)
  )
  path = tmp_path_factory.mktemp("data") / "digits.npz"
  np.savez(
      path,
      x_train=train_set["image"][: len(owners)],
      y_train=train_set["label"][: len(owners)],
      person_train=np.array([f"p{i:03}" for i in owners]),
      x_test=test_set["image"][:40],
      y_test=test_set["label"][:40],
      person_test=np.array([f"t{i:03}" for i in range(40)]),
  )
  return path


def _config(path, **fields):
  fields = {
      "data__source": "npz",
      "data__options": {"path": str(path)},
      "data__unit": "person",
      "data__max_rows_per_unit": 3,
      "data__num_examples": _NUM_PERSONS,
      "train__num_steps": 5,
      "train__expected_batch_size": 12.0,
      "save_every": 2,
      "log_every": 1,
  } | fields
  return launch.linear(**fields)


def _changed(archive, **changes):
  """Its arrays, some of them changed, or left out for None."""
  with np.load(archive) as file:
    arrays = dict(file)
  for key, change in changes.items():
    values = arrays.pop(key)
    if change is not None:
      arrays[key] = change(values)
  return arrays


def _table_config(folder, **options):
  """A CSV file of the same persons, by numbers; others in the test file."""
  rng = np.random.default_rng(0)
  owners = np.repeat(np.arange(_NUM_PERSONS), 1 + np.arange(_NUM_PERSONS) % 6)
  for name, ids in (("train", owners), ("test", 1000 + owners)):
    lines = ["x,person,y", *(f"{rng.normal():.3f},{i},{i % 7}" for i in ids)]
    (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
  number = {"kind": "number", "bounds": [-9.0, 9.0]}
  config = families.table(epsilon=8.0)
  with config.unlocked():
    config.data.options = {
        "path": str(folder / "train.csv"),
        "test_path": str(folder / "test.csv"),
        "target": "y",
        "schema": {"columns": {"x": number, "y": number}},
    } | options
  config.data.source, config.loss.name = "table", "squared"
  config.data.unit, config.data.max_rows_per_unit = "person", 3
  config.data.num_examples = _NUM_PERSONS
  config.dp.delta = 1e-3
  config.train.num_steps, config.train.expected_batch_size = 5, 12.0
  config.train.learning_rate = 0.5
  return config


def _one_hot(labels):
  return np.eye(10, dtype=np.int32)[labels]


def test_persons_are_the_examples(archive):
  experiment = experiment_lib.build(_config(archive))
  assert experiment.mechanism.num_examples == _NUM_PERSONS
  assert experiment.mechanism.sampling_prob == 12 / _NUM_PERSONS
  source = experiment.train_source
  assert len(source) == source.num_examples == _NUM_PERSONS
  batch = source[np.array([5, 0, -1])]  # Persons of 6 rows and of 1.
  assert batch["rows"]["image"].shape == (3, 3, 8, 8, 1)
  assert batch["is_real"].tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 0]]
  ids = data.load("npz", path=archive).column("person")
  rows = experiment.row_source.as_arrays()["image"]
  for image in batch["rows"]["image"][0]:
    (row,) = np.flatnonzero((rows == image).all(axis=(1, 2, 3)))
    assert ids[row] == "p005"


def test_what_is_said_of_a_run_names_the_person(archive, capsys):
  config = _config(archive)
  experiment = experiment_lib.build(config)
  preview.show_run(experiment)
  shown = capsys.readouterr().out
  assert "for add or remove one person, by PLD" in shown
  assert "unit: person" in shown and "max rows per unit: 3" in shown
  facts = resume.facts(experiment)
  said = guarantee.of_run(config, facts, steps=5)["statement"]
  assert "private for add or remove one person, by PLD" in said
  assert "All rows of one person, of which at most 3 were used," in said
  # And of a run of rows, what was always said.
  rows = launch.linear()
  said = guarantee.of_run(rows, facts, steps=5)["statement"]
  assert "for add or remove one example, by PLD" in said
  assert "All rows" not in said


@pytest.mark.few(1)
@pytest.mark.parametrize("task", ["classification", "multi_label", "table"])
def test_a_step_is_the_sum_of_each_persons_mean_clipped(
    archive, tmp_path, task
):
  # The oracle takes persons and their rows one by one, in float64.
  config = _config(archive)
  if task == "multi_label":
    path = tmp_path / "many.npz"
    np.savez(path, **_changed(archive, y_train=_one_hot, y_test=_one_hot))
    config = _config(path, task__name=task, loss__name="sigmoid")
  if task == "table":
    config = _table_config(tmp_path)
  experiment = experiment_lib.build(config)
  source, private = experiment.train_source, experiment.dp_training
  indices = private.sampler.batch(0).indices.astype(np.int32)
  keys = views.example_keys(experiment.augment_key, step=0, indices=indices)
  params = experiment.model.params
  got, _ = jax.jit(private.grad_fn)(
      params,
      source[indices],
      keys,
      None,
      is_padding_example=indices < 0,
  )
  row_loss = experiment.task.build_model(
      experiment.row_source, jax.random.key(0)
  ).loss_fn
  row_grad = jax.jit(jax.grad(row_loss))
  clip_norm, total = experiment.config.dp.l2_clip_norm, 0.0
  for place, unit in enumerate(indices):
    numbers = source.grouping.rows(np.array([unit]))[0]
    numbers = numbers[numbers >= 0]
    grads = []
    for slot, number in enumerate(numbers):
      row = jax.tree.map(
          lambda x: x[0], experiment.row_source[np.array([number])]
      )
      key = jax.random.fold_in(keys[place], slot)
      grads.append(oracle.flat64(row_grad(params, row, key)))
    if grads:
      mean = np.mean(grads, axis=0)
      total += mean / max(clip_norm, np.linalg.norm(mean))
  np.testing.assert_allclose(oracle.flat64(got), total / 12, atol=1e-6)


@pytest.mark.slow
def test_killed_and_resumed_it_ends_with_the_same_bits(
    archive, tmp_path, monkeypatch, capsys
):
  config = _config(archive)
  whole = launch.run(config, tmp_path / "whole")
  real_train = loop.train

  def stopped(experiment, state, **options):
    for i, item in enumerate(real_train(experiment, state, **options)):
      if i == 3:
        raise KeyboardInterrupt
      yield item

  with monkeypatch.context() as patched:
    patched.setattr(loop, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
      launch.run(config, tmp_path / "run")
  resumed = launch.run(config, tmp_path / "run")
  assert resumed["params_sha256"] == whole["params_sha256"]
  # What is said of it speaks of persons.
  assert whole["unit"] == "person" and whole["max_rows_per_unit"] == 3
  assert whole["num_examples"] == _NUM_PERSONS
  stored = json.loads((tmp_path / "run" / "summary.json").read_text())
  assert stored["unit"] == "person"
  # Another unit, or limit, is another run.
  for field in ({"data__max_rows_per_unit": 4}, {"data__unit": "x_train"}):
    with pytest.raises(workdir_lib.WorkdirError, match="data"):
      workdir_lib.Workdir(tmp_path / "run").check(_config(archive, **field))


@pytest.mark.parametrize(
    "fields, rule",
    [
        ({"data__max_rows_per_unit": None}, "max_rows_per_unit must be in"),
        ({"data__max_rows_per_unit": 0}, "data.max_rows_per_unit must be in"),
        ({"data__max_rows_per_unit": 2**17}, "must be in .1, 65536."),
        ({"data__unit": ""}, "data.max_rows_per_unit must be None without"),
        (
            {"data__num_examples": None},
            "each a person, got None: this split has 60 .private, not for re",
        ),
        (
            {"data__num_examples": 59},
            "digits.npz: .*number of units in ids, 60 .private, not for release"
            ".*in a config: data.num_examples.*got 59",
        ),
        ({"data__unit": "patient"}, "column must be one of .*got 'patient'"),
        ({"data__unit": " person"}, "data.unit must be a column's name"),
        ({"data__unit": "a\nb"}, "data.unit must be a column's name"),
        ({"data__unit": "a" * 61}, "data.unit must be a column's name"),
        ({"data__source": "digits", "data__options": {}}, "has none"),
    ],
)
def test_fields_that_are_refused(archive, fields, rule):
  with pytest.raises(ValueError, match=rule) as caught:
    experiment_lib.build(_config(archive, **fields))
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "key, change, rule",
    [
        ("person_train", lambda x: np.where(x == "p001", "", x), "every row"),
        ("person_train", lambda x: np.where(x == "p001", "P000", x), "spelt"),
        ("person_train", lambda x: x[1:], "one value an example.*not for rel"),
        ("person_test", lambda x: np.append("p000", x[1:]), "no person"),
        ("person_test", lambda x: np.append("P000", x[1:]), "spelt"),
        ("person_test", None, "column must be one of"),
    ],
)
def test_ids_that_are_refused(archive, tmp_path, key, change, rule):
  np.savez(tmp_path / "a.npz", **_changed(archive, **{key: change}))
  with pytest.raises(ValueError, match=rule) as caught:
    experiment_lib.build(_config(tmp_path / "a.npz"))
  assert "p00" not in str(caught.value) and "\n" not in str(caught.value)


def test_the_choice_of_rows_is_the_run_keys(archive):
  chosen = []
  for seed in (0, 0, 1):
    source = experiment_lib.build(_config(archive, seed=seed)).train_source
    chosen.append(source.grouping.rows(np.arange(_NUM_PERSONS)))
  np.testing.assert_array_equal(chosen[0], chosen[1])
  assert (chosen[0] != chosen[2]).any()


def test_a_table_by_arguments_alone_holds_out_persons(tmp_path):
  _table_config(tmp_path)
  schema = tmp_path / "a.toml"
  column = 'kind = "number"\nbounds = [-9.0, 9.0]\n'
  schema.write_text(f"[columns.x]\n{column}[columns.y]\n{column}")
  arguments = (
      f"path={tmp_path}/train.csv,schema={schema},target=y,loss=squared,"
      "unit=person,max_rows_per_unit=3,num_examples="
  )
  # Leave the number out, and the error has it.
  with pytest.raises(ValueError, match="each a person, got None") as caught:
    experiment_lib.build(table.get_config(f"{arguments}0,delta=1e-3"))
  number = int(
      re.search(r"this split has (\d+) \(private", str(caught.value))[1]
  )
  assert 0.6 * _NUM_PERSONS < number < _NUM_PERSONS
  experiment = experiment_lib.build(table.get_config(f"{arguments}{number}"))
  assert experiment.train_source.num_examples == number
  ids = [
      {*source.column("person").tolist()}
      for source in (experiment.row_source, experiment.test_source)
  ]
  assert not ids[0] & ids[1] and len(ids[0] | ids[1]) == _NUM_PERSONS


@pytest.mark.slow
@pytest.mark.parametrize(
    "canary", [pytest.param("clipped", marks=pytest.mark.slow), "input"]
)
def test_canaries_are_persons(archive, canary, capsys):
  config = canaries.add_to_config(
      _config(archive, train__num_steps=3), canary=canary, num_canaries=20
  )
  experiment = canaries.build(config)
  source = experiment.train_source
  assert source.num_examples == len(source) == _NUM_PERSONS + 20
  batch = source[np.array([5, _NUM_PERSONS])]
  is_real = batch.get("example", batch)["is_real"]
  # Of an "input" canary, one row; a "clipped" one has none but its number.
  assert is_real.sum(axis=1).tolist() == [3, int(canary == "input")]
  *_, (state, _) = loop.train(experiment, loop.init_state(experiment))
  audit = audit_lib.summarise(
      experiment, state, confidence=0.95, train_seconds=1.0
  )
  assert audit["unit"] == "person" and not audit["contradicts_claim"]
  assert audit["num_examples"] == _NUM_PERSONS + 20
  audit_lib.show(audit)
  assert "60 examples (each a person) and 20" in capsys.readouterr().out


@pytest.mark.slow
def test_a_replay_takes_persons_away(archive):
  report = replay.check(experiment_lib.build(_config(archive)), max_examples=2)
  assert report.sensitivity.bounds["add_or_remove_one"] == 1 / 12


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields",
    [
        {"physical_batch_size": 8},
        {"data__on_device": True},
        {"data__num_workers": 1, "data__prefetch": 1},
    ],
    ids=["pieces", "on device", "workers"],
)
def test_how_persons_are_read_changes_nothing(archive, fields):
  want, got = (_trained(_config(archive, **f)) for f in ({}, fields))
  # In pieces, a sum of 12 clipped gradients of a step rounds otherwise.
  atol = 1e-5 if "physical_batch_size" in fields else 0
  np.testing.assert_allclose(got, want, rtol=0, atol=atol)


def _trained(config):
  """The last parameters, as one vector."""
  experiment = experiment_lib.build(config)
  *_, (state, _) = loop.train(experiment, loop.init_state(experiment))
  return oracle.flat64(state.params)
