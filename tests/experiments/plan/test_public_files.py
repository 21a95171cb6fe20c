"""A run keeps to the public files that it was begun with."""

import doctest
import json
import pathlib

import numpy as np
import pytest

import experiments
from configs import table
from experiments.evaluation import evaluate_run, saved
from experiments.plan import experiment, fields, public_files
from experiments.release import model, program
from experiments.run import identity
from experiments.run import workdir as workdir_lib
from experiments.tasks import registry
from experiments.tasks import task as task_lib
from tests.support import fuzz, launch

_SCHEMA = """
[columns.age]
kind = "number"
bounds = [0, 100]
[columns.job]
kind = "category"
values = ["clerk", "nurse"]
[columns.note]
kind = "category"
values = ["x", "y"]
outside = "other"
[columns.rich]
kind = "category"
values = ["no", "yes"]
"""
_OTHERS = {
    "order of categories": ('["clerk", "nurse"]', '["nurse", "clerk"]'),
    "bounds": ("[0, 100]", "[0, 200]"),
    "order of classes": ('["no", "yes"]', '["yes", "no"]'),
    "rule": ('"other"', '"refuse"'),
    "missing_texts": (
        "\n[columns.age]",
        'missing_texts = ["NA"]\n[columns.age]',
    ),
    # The model does not see it, but it decides which rows are held out.
    "unused column": ('values = ["x", "y"]', 'values = ["y", "x"]'),
    "no schema": ("[columns.age]", "[columns"),
}


def test_doctests():
  assert doctest.testmod(public_files)[0] == 0


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  folder = tmp_path_factory.mktemp("table")
  lines = ["age,job,note,rich"]
  for i in range(60):
    job, note = ("clerk", "nurse")[i % 2], "xyz"[i % 3]
    lines.append(f"{i},{job},{note},{('no', 'yes')[i % 5 > 2]}")
  (folder / "people.csv").write_text("\n".join(lines) + "\n")
  (folder / "inputs.csv").write_text("age,job\n30,clerk\n")
  (folder / "people.schema.toml").write_text(_SCHEMA)
  config = _config(folder)
  task = registry.build(**fields.task_sections(config))
  config.data.num_examples = len(task.load("train"))
  launch.run(config, folder / "run")
  return folder


def _config(folder):
  config = table.get_config(
      f"path={folder}/people.csv,target=rich,features=age+job,steps=2"
      ",num_examples=48,batch_size=16"
  )
  config.seed = 0
  return config


@pytest.fixture(params=_OTHERS)
def changed(request, finished):
  """The folder, whose schema is another for the time of a test."""
  path, (old, new) = finished / "people.schema.toml", _OTHERS[request.param]
  assert old in _SCHEMA
  path.write_text(_SCHEMA.replace(old, new))
  yield finished
  path.write_text(_SCHEMA)


def _uses(folder):
  run, workdir = folder / "run", workdir_lib.Workdir(folder / "run")
  inputs = str(folder / "inputs.csv")
  config = fields.from_json(workdir.read_config())
  yield "evaluate", lambda: saved.load(run)
  yield "resume", lambda: workdir.check(config)
  if (run / "inputs.json").exists():
    # What these need is in the folder, schema included.
    for uses in (experiments.load(run), model.load(run, inputs=inputs)):
      assert uses.source.encoder.schema.columns["age"].bounds == (0.0, 100.0)
  else:
    yield "export", lambda: experiments.load(run)
    yield "predict", lambda: model.load(run, inputs=inputs)
  again = fields.from_json(workdir.read_config())
  again.seed, again.model.restore.same_data = 1, True
  again.model.restore.path = str(run)
  yield "continue", lambda: experiment.build(again)


@pytest.mark.few(2)
@pytest.mark.parametrize("is_older", [False, True])
def test_another_schema_is_refused_by_all_that_reads_it(
    changed, is_older, monkeypatch
):
  if is_older:  # Of a version that kept no description of inputs.
    monkeypatch.setattr(workdir_lib, "INPUTS", "no.json")
    kept = changed / "run" / "inputs.json"
    monkeypatch.setattr(pathlib.Path, "exists", _without(kept))
  for name, use in _uses(changed):
    with pytest.raises(ValueError) as raised:
      use()
    fuzz.assert_clear(
        raised.value,
        "data.options.schema must be the file that the run in",
        f"{changed / 'people.schema.toml'}",
        "restore that file, or train anew in another folder",
    )
    assert "experiments.schema" not in str(raised.value), name


def _without(path):
  exists = pathlib.Path.exists
  return lambda self: self != path and exists(self)


def test_a_schema_that_is_gone_is_asked_for_by_name(finished):
  path = finished / "people.schema.toml"
  path.unlink()
  try:
    for _, use in _uses(finished):
      with pytest.raises(ValueError, match="none that can be read: restore"):
        use()
  finally:
    path.write_text(_SCHEMA)


def test_comments_change_nothing(finished):
  path = finished / "people.schema.toml"
  path.write_text(f"# checked by hand\n{_SCHEMA}")
  for _, use in _uses(finished):
    use()
  path.write_text(_SCHEMA)
  evaluate_run.evaluate(saved.load(finished / "run"))


def test_the_digest_is_recorded(finished):
  workdir = workdir_lib.Workdir(finished / "run")
  config, summary = workdir.read_config(), workdir.read_summary()
  (digest,) = config["public_files"].values()
  assert len(digest) == 64
  assert summary["public_files"] == config["public_files"]


def test_names_of_modules_in_packages_are_read_back():
  stored = identity.plain(launch.config())
  own = {"modules": {"package.module": "0" * 64}}
  assert fields.from_json(stored | {"imported": own}) == fields.from_json(
      stored
  )


def test_a_run_without_digests_is_not_refused():
  task = task_lib.Task.public_files
  assert task(None) == {}  # By default a task has no such file.
  public_files.check({}, None, folder=pathlib.Path("run"))


def _by_hand(row, interface):
  """Encodes a row by an exported file's metadata alone."""
  numbers = []
  for entry in interface["numbers"]:
    low, high = entry["bounds"]
    assert entry["becomes"] == "scaled"
    numbers.append(2 * (row[entry["column"]] - low) / (high - low) - 1)
  codes = [e["codes"].index(row[e["column"]]) for e in interface["categories"]]
  return {
      "numbers": np.array([numbers], np.float32),
      "categories": np.array([codes], np.int32),
  }


def test_a_row_is_encoded_by_hand_from_the_metadata_alone(finished):
  loaded = model.load(finished / "run", inputs=str(finished / "inputs.csv"))
  metadata = json.loads(
      json.dumps(experiments.load(finished / "run").metadata())
  )
  inputs = _by_hand({"age": 30.0, "job": "clerk"}, metadata["interface"])
  made = program.lower(loaded.signature, loaded.params, platforms=["cpu"])
  (logit,) = np.asarray(made.call(inputs))[0]
  outputs = metadata["interface"]["outputs"]
  assert "probability of the second class" in outputs["meaning"]
  wanted = loaded.predict(loaded.source[np.arange(1)])
  name = f"probability of {outputs['class_names'][1]}"
  # Roundings of 2^-24 of a few terms of order 1.
  np.testing.assert_allclose(1 / (1 + np.exp(-logit)), wanted[name], atol=1e-5)


def test_advice_for_an_unlisted_category_is_for_a_run_that_begins(finished):
  rows = finished / "others.csv"
  rows.write_text("age,job\n30,pilot\n")
  with pytest.raises(ValueError, match="before a model is trained"):
    model.load(finished / "run", inputs=str(rows))
