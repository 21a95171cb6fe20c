"""The files of a run: whose they are, and what happens to half-written ones."""

import os
import stat
import types

import pytest

from experiments import train
from experiments.plan import fields
from experiments.run import workdir as workdir_lib
from experiments.tasks import registry
from jax_privacy import _owner_only, draws
from tests.support import launch


def test_another_config_in_the_workdir_is_refused(tmp_path):
  workdir = workdir_lib.Workdir(tmp_path / "run")
  workdir.claim(launch.config())
  other = launch.config(dp__epsilon=5.0, train__learning_rate=0.1)
  with pytest.raises(
      ValueError, match="differs in dp.epsilon, train.learning_rate"
  ):
    workdir.claim(other)


def test_a_folder_of_other_things_is_refused(tmp_path):
  (tmp_path / "thesis.tex").write_text("")
  with pytest.raises(ValueError, match="which holds other files"):
    workdir_lib.Workdir(tmp_path).claim(launch.config())
  assert not (tmp_path / "config.json").exists()


def test_what_a_kill_before_the_first_file_leaves_is_no_other_thing(tmp_path):
  workdir = workdir_lib.Workdir(tmp_path)
  with workdir.lock():
    (tmp_path / "config.json.partial").write_text('{"na')
  workdir.claim(launch.config())
  assert workdir.read_config()["name"] == launch.config().name


def test_one_process_at_a_time(tmp_path):
  first, second = workdir_lib.Workdir(tmp_path), workdir_lib.Workdir(tmp_path)
  with first.lock():
    with pytest.raises(workdir_lib.WorkdirError, match="one process at a time"):
      with second.lock():
        pass
  with second.lock():  # Let go of, it is free again.
    pass


def test_a_second_process_is_refused_before_it_writes(tmp_path):
  """Its config may differ in what makes no other run, as here."""
  workdir, config = workdir_lib.Workdir(tmp_path), launch.config()
  other = launch.config(data__prefetch=config.data.prefetch + 1)
  task = registry.build(**fields.task_sections(other))
  experiment = types.SimpleNamespace(config=other, imported=None, task=task)
  with workdir.claimed(config):
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(workdir_lib.WorkdirError, match="one process at a time"):
      train.fit(experiment, workdir)
    assert (tmp_path / "config.json").read_bytes() == before
  with workdir.claimed(other):
    assert (tmp_path / "config.json").read_bytes() != before


def _modes(path):
  """The modes of a folder and of all in it, by their names."""
  entries = [path, *path.rglob("*")]
  return {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in entries}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
@pytest.mark.parametrize("is_there", [False, True])
def test_files_are_their_owners_alone(tmp_path, umask, is_there):
  path, config = tmp_path / "runs" / "run", launch.config()
  if is_there:  # As another program, or a version before this one, left it.
    workdir_lib.Workdir(path).claim(config)
    (path / "checkpoints").mkdir(mode=0o755)
    (path / "metrics.jsonl").touch(mode=0o644)
    for entry in (path, path / "config.json"):
      entry.chmod(0o755)
  workdir = workdir_lib.Workdir(path)
  before = os.umask(umask)
  try:
    with workdir.lock():
      workdir.claim(config)
      workdir.append_metrics({"step": 1, "train_seconds": 1.0})
      workdir.keep_metrics_until(1)
      workdir.append_metrics({"step": 2, "train_seconds": 1.0})
      workdir.write_steps_begun(2)
      workdir.write_summary({})
      workdir.write_audit({})
  finally:
    os.umask(before)
  modes = _modes(tmp_path / "runs")
  folders = {"runs", "run", "checkpoints"}
  assert len(modes) >= 8
  for name, mode in modes.items():
    wanted = 0o700 if name in folders else 0o600
    assert mode == wanted, f"{name} {mode:o}"


def test_a_folder_that_others_can_read_is_noted_once(
    tmp_path, monkeypatch, capsys
):
  workdir, config = workdir_lib.Workdir(tmp_path), launch.config()
  with workdir.claimed(config):
    assert capsys.readouterr().out == ""
  with monkeypatch.context() as patched:
    user = os.geteuid()
    patched.setattr(_owner_only.os, "geteuid", lambda: user + 1)
    with workdir.claimed(config):
      said = capsys.readouterr().out
  assert said.startswith(
      f"note: workdir {tmp_path} belongs to user {user}, not"
  )
  assert said.count("\n") == 1
  # A mount that ignores modes.
  tmp_path.chmod(0o755)
  monkeypatch.setattr(os, "chmod", lambda path, mode, **_: None)
  with workdir.claimed(config):
    said = capsys.readouterr().out
  assert "stays open to others (mode 755)" in said and said.count("note") == 1


def test_half_written_metrics_are_read_as_far_as_they_go(tmp_path):
  workdir = workdir_lib.Workdir(tmp_path)
  for step in (1, 2, 3):
    workdir.append_metrics({"step": step, "train_seconds": 1.0})
  with open(tmp_path / "metrics.jsonl", "a") as file:
    file.write('{"step": 4, "epsil')
  assert [m["step"] for m in workdir.read_metrics()] == [1, 2, 3]
  workdir.keep_metrics_until(2)
  assert [m["step"] for m in workdir.read_metrics()] == [1, 2]


@pytest.mark.parametrize(
    "name, text, read, message",
    [
        ("metrics.jsonl", '{"st\n{"step": 1}\n', "metrics", "valid JSON"),
        ("metrics.jsonl", '{"st": 1}\n{"step": 1}\n', "metrics", "'step'"),
        ("metrics.jsonl", '[1]\n{"step": 1}\n', "metrics", "JSON object"),
        ("summary.json", "[1, 2", "summary", "summary.json must be valid JSON"),
        ("summary.json", "[1, 2]", "summary", "a JSON object"),
        ("config.json", "\x00", "config", "config.json must be valid JSON"),
        ("steps_begun.json", '{"steps_begun": -1}', "steps_begun", "got -1"),
        ("steps_begun.json", '{"steps_begun": true}', "steps_begun", "True"),
        ("steps_begun.json", '{"steps_begun": 1.5}', "steps_begun", "got 1.5"),
        ("steps_begun.json", "{}", "steps_begun", "got None"),
        *(
            (
                "steps_begun.json",
                f'{{"steps_begun": 1, "taken_with": {taken_with}}}',
                "steps_begun",
                "must hold a list of after_step",
            )
            for taken_with in ("3", "[1]", '[{"after_step": 0}]', '["a"]')
        ),
    ],
)
def test_damaged_files_are_named(tmp_path, name, text, read, message):
  (tmp_path / name).write_text(text)
  with pytest.raises(workdir_lib.WorkdirError, match=message) as caught:
    getattr(workdir_lib.Workdir(tmp_path), f"read_{read}")()
  assert name in str(caught.value)


def test_steps_begun_are_zero_until_written(tmp_path):
  workdir = workdir_lib.Workdir(tmp_path)
  assert workdir.read_steps_begun() == 0
  workdir.write_steps_begun(7)
  assert workdir.read_steps_begun() == 7


def test_steps_are_those_of_the_versions_that_began_them(tmp_path, monkeypatch):
  workdir = workdir_lib.Workdir(tmp_path)
  assert workdir.read_versions(after_step=0) == []
  versions = {}
  monkeypatch.setattr(draws, "versions", lambda: dict(versions))
  for versions["draws"], after_step, steps in (
      ("1", 0, 2), ("1", 2, 4), ("2", 4, 6), ("2", 6, 8), ("1", 8, 9),
  ):  # fmt: skip
    workdir.write_steps_begun(steps, after_step=after_step)
  assert workdir.read_steps_begun() == 9

  def read(after_step):
    found = workdir.read_versions(after_step=after_step)
    return [one and one["draws"] for one in found]

  assert read(3) == ["1", "2", "1"]
  assert read(4) == read(7) == ["2", "1"]
  assert read(8) == ["1"] and read(9) == []
  # Of steps from before versions were written down, they are unknown.
  (tmp_path / "steps_begun.json").write_text('{"steps_begun": 3}')
  assert read(3) == [] and read(2) == [None]
  workdir.write_steps_begun(5, after_step=3)
  assert read(2) == [None, "1"] and read(3) == ["1"]
