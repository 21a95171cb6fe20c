"""A run goes on with the training data that it began with, or not at all."""

import dataclasses
import doctest
import json
import shutil

import numpy as np
import pytest

from experiments.plan import experiment as experiment_lib
from experiments.run import data_digest, resume
from experiments.run import workdir as workdir_lib
from jax_privacy import checkpoint, data
from tests.support import launch

_NUM_EXAMPLES, _NUM_TEST = 48, 16


def _arrays():
  arrays = data.load("digits").as_arrays()
  rows, test = slice(_NUM_EXAMPLES), slice(_NUM_EXAMPLES, 64)
  return {
      "x_train": arrays["image"][rows],
      "y_train": arrays["label"][rows],
      "person_train": np.arange(_NUM_EXAMPLES) // 2,
      "x_test": arrays["image"][test],
      "y_test": arrays["label"][test],
      "person_test": 1000 + np.arange(_NUM_TEST),
  }


def _config(folder, **fields):
  fields = {
      "data__source": "npz",
      "data__options": {"path": str(folder / "set.npz")},
      "data__num_examples": _NUM_EXAMPLES,
      "dp__delta": 1e-3,
      "train__num_steps": 4,
      "train__expected_batch_size": 12.0,
      "save_every": 2,
      "log_every": 1,
  } | fields
  return launch.linear(**fields)


def _units(folder, **fields):
  fields = {
      "data__unit": "person",
      "data__max_rows_per_unit": 2,
      "data__num_examples": _NUM_EXAMPLES // 2,
  } | fields
  return _config(folder, **fields)


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
  """A folder of data, and a run in it that was killed."""
  folder = tmp_path_factory.mktemp("broken")
  np.savez(folder / "set.npz", **_arrays())
  # In its third step: the checkpoint is of the second.
  launch.kill_after(2, _config(folder), folder / "run")
  return folder


@pytest.fixture
def run(broken, tmp_path):
  """A copy of the run; its data are the fixture's own file."""
  yield shutil.copytree(broken / "run", tmp_path / "run")
  np.savez(broken / "set.npz", **_arrays())


def _start(config, path):
  """Does all that comes before the first step."""
  experiment = experiment_lib.build(config)
  with checkpoint.Checkpoints(path / "checkpoints") as checkpoints:
    return resume.start(experiment, workdir_lib.Workdir(path), checkpoints)


def _pixel(arrays):
  arrays["x_train"][7, 3, 3] ^= 1


def _label(arrays):
  arrays["y_train"][7] = (arrays["y_train"][7] + 1) % 10


def _order(arrays):
  for name in ("x_train", "y_train"):
    arrays[name][[3, 4]] = arrays[name][[4, 3]]


def _change(folder, change):
  arrays = _arrays()
  change(arrays)
  np.savez(folder / "set.npz", **arrays)


def test_examples_of_the_module():
  assert doctest.testmod(data_digest).failed == 0


@pytest.mark.few(1)
@pytest.mark.parametrize("change", [_pixel, _label, _order])
def test_changed_data_are_refused_before_a_step(broken, run, change):
  _change(broken, change)
  with pytest.raises(workdir_lib.WorkdirError) as caught:
    _start(_config(broken), run)
  text = str(caught.value)
  assert text.startswith(
      "data.source must give the training examples that the run began with,"
      f" got others for {run} (a private digest of them differs)"
  )
  assert "another folder with another seed" in text and "\n" not in text
  assert data_digest.read(workdir_lib.Workdir(run)) not in text


def test_changed_data_are_refused_where_the_checkpoints_are_lost(broken, run):
  shutil.rmtree(run / "checkpoints")
  _start(_config(broken), run)  # A seeded run begins again, on the same data.
  shutil.rmtree(run / "checkpoints")
  _change(broken, _label)
  with pytest.raises(workdir_lib.WorkdirError, match="got others for"):
    _start(_config(broken), run)


@pytest.mark.slow
def test_the_same_data_go_on_and_test_examples_may_change(broken, run):
  def change(arrays):
    arrays["x_test"][0] ^= 1

  _change(broken, change)
  whole = launch.run(_config(broken), run.parent / "whole")
  resumed = launch.run(_config(broken), run)
  assert resumed["params_sha256"] == whole["params_sha256"]
  # Of one key and one data set, and so the same; of another key, not.
  workdirs = [workdir_lib.Workdir(p) for p in (run, run.parent / "whole")]
  first, second = (data_digest.read(x) for x in workdirs)
  assert first == second
  other = experiment_lib.build(_config(broken, seed=1))
  assert data_digest._of_run(other, other.run_key) != first
  _is_private(run, first)


def _is_private(path, digest):
  """Looks for it in all files and names but its own."""
  own = path / "data_digest.json"
  assert json.loads(own.read_text()) == {workdir_lib.UNRELEASED_METRICS: digest}
  assert own.stat().st_mode & 0o777 == 0o600
  files = [x for x in path.rglob("*") if x.is_file() and x != own]
  assert len(files) > 5 and len(digest) == 64
  for file in files:
    content = file.read_bytes()
    assert digest.encode() not in content and digest not in str(file)
    assert bytes.fromhex(digest) not in content


@pytest.mark.slow
def test_without_a_seed_the_key_is_the_checkpoints(broken, run):
  config = _config(broken, seed=None)
  workdir = workdir_lib.Workdir(run.parent / "secret")
  workdir.claim(config)
  _start(config, workdir.path)
  first = data_digest.read(workdir)
  _start(config, workdir.path)  # Its first key, though it made another.
  assert data_digest.read(workdir) == first
  _change(broken, _pixel)
  with pytest.raises(workdir_lib.WorkdirError, match="got others for"):
    _start(config, workdir.path)
  # Before a checkpoint and a step there is nothing to compare with.
  shutil.rmtree(workdir.checkpoints)
  _start(config, workdir.path)
  assert data_digest.read(workdir) != first


def test_a_folder_from_before_digests_gets_one(broken, run):
  (run / "data_digest.json").unlink()
  _start(_config(broken), run)
  assert data_digest.read(workdir_lib.Workdir(run))
  _change(broken, _label)
  with pytest.raises(workdir_lib.WorkdirError, match="got others for"):
    _start(_config(broken), run)


@pytest.mark.few(1)
@pytest.mark.parametrize("change", [_pixel, _label, _order])
def test_a_source_without_digest_parts_is_known_by_what_it_yields(
    broken, run, monkeypatch, capsys, change
):
  monkeypatch.delattr(data.ArraySource, "digest_parts")
  config, path = _config(broken), run.parent / "own"
  workdir_lib.Workdir(path).claim(config)
  for _ in range(2):
    _start(config, path)
  assert "reading the training data once" in capsys.readouterr().out
  _change(broken, change)
  for other in (path, run):  # Also one that was compared otherwise before.
    with pytest.raises(workdir_lib.WorkdirError, match="got others for"):
      _start(config, other)


def test_a_replay_of_a_run_is_of_its_data_config_and_code(
    broken, run, monkeypatch
):
  workdir = workdir_lib.Workdir(run)
  files = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
  build = experiment_lib.build
  found = resume.check(build(_config(broken)), workdir)
  np.testing.assert_array_equal(
      found.run_key.words(), build(_config(broken)).run_key.words()
  )
  with pytest.raises(workdir_lib.WorkdirError, match="differs in dp.l2_clip"):
    resume.check(build(_config(broken, dp__l2_clip_norm=0.5)), workdir)
  own = {"modules": {"mine": "0" * 64}, "sha256": "1" * 64}
  other = dataclasses.replace(build(_config(broken)), imported=own)
  with pytest.raises(workdir_lib.WorkdirError, match="another mine"):
    resume.check(other, workdir)
  _change(broken, _label)
  with pytest.raises(workdir_lib.WorkdirError, match="got others for"):
    resume.check(build(_config(broken)), workdir)
  with pytest.raises(workdir_lib.WorkdirError, match="with a checkpoint"):
    resume.check(build(_config(broken)), workdir_lib.Workdir(run / "none"))
  assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == files


@pytest.mark.slow
def test_a_run_on_the_same_data_is_not_taken_for_public(broken, run):
  fields = {"seed": 1, "model__restore__path": str(run)}
  path = run.parent / "next"

  def start(folder=broken, **more):
    shutil.rmtree(path, ignore_errors=True)
    config = _config(folder, **fields | more)
    workdir_lib.Workdir(path).claim(config)
    _start(config, path)

  for more in ({}, {"train__learning_rate": 0.1}):
    with pytest.raises(workdir_lib.WorkdirError) as caught:
      start(**more)
    text = str(caught.value)
    assert text.startswith("model.restore.same_data must be True for")
    assert "--continue_from" in text and "\n" not in text
  start(dp__enabled=False)  # It claims nothing.
  # Of an older run, what it states of its data is what is known.
  kept = (run / "data_digest.json").read_text()
  (run / "data_digest.json").unlink()
  with pytest.raises(workdir_lib.WorkdirError, match="same_data must be True"):
    start()
  (run / "data_digest.json").write_text(kept)
  _change(broken, _label)
  start()  # These are others.


@pytest.mark.parametrize("text", ["{}", '{"private_not_for_release": 5}'])
def test_a_damaged_digest_is_refused(broken, run, text):
  (run / "data_digest.json").write_text(text)
  with pytest.raises(workdir_lib.WorkdirError, match="must hold a digest"):
    _start(_config(broken), run)


def test_whose_each_row_is_counts_for_a_guarantee_of_units(broken, run):
  """Two persons exchange a row: of as many rows, and the same rows."""

  def change(arrays):
    arrays["person_train"][[1, 2]] = arrays["person_train"][[2, 1]]

  config, path = _units(broken), run.parent / "units"
  workdir_lib.Workdir(path).claim(config)
  for _ in range(2):
    _start(config, path)
  _change(broken, change)
  _start(_config(broken), run)  # Without a unit nobody reads that column.
  with pytest.raises(workdir_lib.WorkdirError, match="got others for"):
    _start(config, path)


def test_only_a_run_on_the_same_data_is_continued(broken, run):
  config = _config(
      broken,
      seed=1,
      model__restore__path=str(run),
      model__restore__same_data=True,
      dp__epsilon=None,
      dp__noise_multiplier=0.8,
  )
  path = run.parent / "next"
  workdir_lib.Workdir(path).claim(config)
  _start(config, path)
  shutil.rmtree(path)
  _change(broken, _label)
  workdir_lib.Workdir(path).claim(config)
  with pytest.raises(workdir_lib.WorkdirError) as caught:
    _start(config, path)
  text = str(caught.value)
  assert "same_data must be True only for a run on the same data" in text
  assert "began with other training examples" in text and "\n" not in text
  (run / "data_digest.json").unlink()  # Nothing is known of an older run.
  _start(config, path)
