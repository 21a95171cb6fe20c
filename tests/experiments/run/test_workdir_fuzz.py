"""The files of a run, damaged: read right, or one line that names the file."""

import json
import math
import os

import hypothesis
import pytest
from hypothesis import strategies as st

from experiments.run import cli, metrics
from experiments.run import summary as summary_lib
from experiments.run import workdir as workdir_lib
from tests.support import fuzz, launch

_LINES = [
    {"step": 1, "train_seconds": 0.5, "private_not_for_release": {"loss": 2.0}},
    {"step": 2, "train_seconds": 1.0, "private_not_for_release": {"loss": 1.5}},
]
_TEXT = "".join(json.dumps(line) + "\n" for line in _LINES).encode()
_HOSTILE_LINE = st.one_of(
    fuzz.JSON.map(json.dumps).map(str.encode),
    st.sampled_from([b"", b"[" * 9999, b"x" * 20_000, b"\xff", b"NaN"]),
)


def _check_metrics(path, content):
  path.write_bytes(content)
  try:
    lines = metrics.read(path)
  except ValueError as error:
    fuzz.assert_clear(error, str(path))
    return
  for line in lines:  # A resumed run compares the one and adds to the other.
    assert type(line["step"]) is int
    assert type(line["train_seconds"]) in (int, float)
  assert len(lines) <= content.count(b"\n") + 1


_CONTENT = st.one_of(
    fuzz.damaged(_TEXT),
    st.lists(_HOSTILE_LINE | st.just(_TEXT.splitlines()[0]), max_size=3).map(
        b"\n".join
    ),
)


@fuzz.SHORT
@hypothesis.given(content=_CONTENT)
def test_any_metrics_are_read_or_refused(tmp_path, content):
  _check_metrics(tmp_path / "metrics.jsonl", content)


@pytest.mark.slow
@fuzz.LONG
@hypothesis.given(content=_CONTENT)
def test_any_metrics_are_read_or_refused_at_length(tmp_path, content):
  _check_metrics(tmp_path / "metrics.jsonl", content)


def test_metrics_cut_anywhere_lose_the_last_line_at_most(tmp_path):
  """A kill can stop the write of the last line at any byte."""
  path = tmp_path / "metrics.jsonl"
  second = _TEXT.index(b"\n") + 1
  for size in range(second, len(_TEXT) + 1):
    path.write_bytes(_TEXT[:size])
    whole = size >= len(_TEXT) - 1  # Only the line break may be missing.
    assert metrics.read(path) == _LINES[: 2 if whole else 1]


def test_a_loss_may_be_no_number(tmp_path):
  line = _LINES[0] | {"private_not_for_release": {"loss": float("nan")}}
  (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
  read = workdir_lib.Workdir(tmp_path).read_metrics()[0]
  assert math.isnan(read["private_not_for_release"]["loss"])


@pytest.mark.parametrize(
    "read, name",
    [
        (workdir_lib.Workdir.read_config, "config.json"),
        (workdir_lib.Workdir.read_summary, "summary.json"),
        (workdir_lib.Workdir.read_metrics, "metrics.jsonl"),
    ],
)
def test_a_pipe_or_a_folder_is_refused(tmp_path, read, name):
  path = tmp_path / name
  os.mkfifo(path)
  error = fuzz.returns(read, workdir_lib.Workdir(tmp_path))
  assert isinstance(error, ValueError)
  fuzz.assert_clear(error, str(path))
  path.unlink()
  path.mkdir()
  with pytest.raises(ValueError, match=f"{name} must be a regular file"):
    read(workdir_lib.Workdir(tmp_path))


@pytest.mark.parametrize(
    "content",
    [b"[1, 2", b"[]", b"\xff", b"[" * 10**5, b'{"a": 1, "a": 2}', b"{" * 10**6]
    + [b'{"seed": NaN}', b'{"seed": ' + b"9" * 5000 + b"}"],
    ids=range(8),
)
def test_a_config_or_summary_that_is_none(tmp_path, content):
  workdir = workdir_lib.Workdir(tmp_path)
  for name, read in (
      ("config.json", workdir.read_config),
      ("summary.json", workdir.read_summary),
  ):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError) as raised:
      read()
    fuzz.assert_clear(raised.value, name)


@fuzz.SHORT
@hypothesis.given(
    st.dictionaries(
        st.sampled_from(["epsilon", "seed", "eval_params", "test_accuracies"]),
        fuzz.JSON,
    )
)
def test_any_summary_is_shown_or_refused(changes):
  summary = {
      "test_accuracies": {"last": 0.5, "ema": 0.5}, "eval_params": "ema",
      "epsilon": 1.0, "delta": 1e-5, "neighboring_relation": "replace_one",
      "accountant": "pld", "num_steps": 3, "noise_multiplier": 1.0,
      "sampling_prob": 0.1, "num_parameters": 5, "train_seconds": 1.0,
      "examples_per_second": 5.0, "seed": 0,
  }  # fmt: skip
  try:
    summary_lib.show(summary | changes)
  except ValueError as error:
    fuzz.assert_clear(error)


def test_a_hostile_workdir_ends_every_command_in_one_line(tmp_path):
  """As typed; the rest of this file calls the readers themselves."""
  config = {"data": {"source": 5}, "eval": 3}
  (tmp_path / "config.json").write_text(json.dumps(config))
  (tmp_path / "summary.json").write_text('{"epsilon": [1]}')
  flags = ["--config=configs/digits_cnn.py:smoke=True"]
  for module, more in (("evaluate", []), ("train", flags)):
    process = launch.command(
        f"experiments.{module}", f"--workdir={tmp_path}", *more
    )
    assert process.returncode == 2 and process.stdout == ""
    assert process.stderr.startswith("error: ")
    assert process.stderr.count("\n") == 1, process.stderr


@pytest.mark.parametrize(
    "error", [ValueError("a\nb"), OSError(2, "no", "a\nb")]
)
def test_a_line_break_in_a_name_does_not_break_the_line(error, capsys):
  with pytest.raises(SystemExit):
    with cli.exit_on(ValueError, OSError):
      raise error
  assert capsys.readouterr().err.count("\n") == 1
