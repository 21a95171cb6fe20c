"""The files of a run: whose they are, and what happens to half-written ones."""

import launch
import pytest

from experiments import _workdir


def test_another_config_in_the_workdir_is_refused(tmp_path):
  workdir = _workdir.Workdir(tmp_path / "run")
  workdir.claim(launch.config())
  other = launch.config(dp__epsilon=5.0, train__learning_rate=0.1)
  with pytest.raises(
      ValueError, match="differs in dp.epsilon, train.learning_rate"
  ):
    workdir.claim(other)


def test_a_folder_of_other_things_is_refused(tmp_path):
  (tmp_path / "thesis.tex").write_text("")
  with pytest.raises(ValueError, match="which holds other files"):
    _workdir.Workdir(tmp_path).claim(launch.config())
  assert not (tmp_path / "config.json").exists()


def test_what_a_kill_before_the_first_file_leaves_is_no_other_thing(tmp_path):
  workdir = _workdir.Workdir(tmp_path)
  with workdir.lock():
    (tmp_path / "config.json.partial").write_text('{"na')
  workdir.claim(launch.config())
  assert workdir.read_config()["name"] == launch.config().name


def test_one_process_at_a_time(tmp_path):
  first, second = _workdir.Workdir(tmp_path), _workdir.Workdir(tmp_path)
  with first.lock():
    with pytest.raises(_workdir.WorkdirError, match="one process at a time"):
      with second.lock():
        pass
  with second.lock():  # Let go of, it is free again.
    pass


def test_half_written_metrics_are_read_as_far_as_they_go(tmp_path):
  workdir = _workdir.Workdir(tmp_path)
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
    ],
)
def test_damaged_files_are_named(tmp_path, name, text, read, message):
  (tmp_path / name).write_text(text)
  with pytest.raises(_workdir.WorkdirError, match=message) as caught:
    getattr(_workdir.Workdir(tmp_path), f"read_{read}")()
  assert name in str(caught.value)


def test_steps_begun_are_zero_until_written(tmp_path):
  workdir = _workdir.Workdir(tmp_path)
  assert workdir.read_steps_begun() == 0
  workdir.write_steps_begun(7)
  assert workdir.read_steps_begun() == 7
