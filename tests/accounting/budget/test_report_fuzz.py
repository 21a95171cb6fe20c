"""`dp-budget report` and `Mechanism.from_dict` on what anyone may have written.

The outcome is a verified run, or one short line and exit code 2; never another
error, a wait, or work that grows with a number in the file.
"""

import json
import os
import sys

import hypothesis
import pytest
from hypothesis import strategies as st

import accounting
from accounting import Mechanism, budget, json_object
from accounting.budget import answer as answer_lib
from accounting.budget import command_line, report
from tests.support import fuzz

_RUN = Mechanism.for_batch_size(
    expected_batch_size=100,
    num_examples=1000,
    noise_multiplier=2.0,
    num_steps=50,
)
_SUMMARY = {
    "status": "finished",
    **_RUN.to_dict(),
    "epsilon": accounting.epsilon(_RUN, delta=1e-4, accountant="rdp"),
    "epsilon_target": 5.0,
    "delta": 1e-4,
    "accountant": "rdp",
    "expected_batch_size": 100.0,
    "l2_clip_norm": 1.0,
    "num_views": 1,
    "num_parameters": 10,
    "test_accuracy": 0.9,
    "test_accuracy_ema": 0.91,
    "train_seconds": 2.0,
    "examples_per_second": 2500.0,
    "params_sha256": "0" * 64,
    "seed": 0,
    "versions": {"jax": "0"},
}
_TEXT = json.dumps(_SUMMARY).encode()


def _refused(capsys, path):
  assert budget.main(["report", str(path)]) == 2
  captured = capsys.readouterr()
  assert captured.out == "" and captured.err.count("\n") == 1
  fuzz.assert_clear(captured.err.strip(), "dp-budget: ")
  return captured.err


def _check(folder, content):
  (folder / "summary.json").write_bytes(content)
  try:
    # Not the whole command: the statement takes a second, and no more input.
    checked = report.verify(folder)
  except ValueError as error:
    fuzz.assert_clear(error)
    return
  assert checked.mechanism.num_steps == json.loads(content)["num_steps"]
  answer = answer_lib.Answer(fields=dict(checked.summary), text="")
  assert json.loads(command_line._output(answer, [], True))["epsilon"] > 0


_CHANGED = st.dictionaries(
    st.sampled_from([*_SUMMARY, "audit", ""]), fuzz.JSON, min_size=1, max_size=3
).map(lambda changes: json.dumps(_SUMMARY | changes).encode())
_CONTENT = st.one_of(
    _CHANGED, fuzz.damaged(_TEXT), fuzz.JSON.map(json.dumps).map(str.encode)
)


@fuzz.SHORT
@hypothesis.given(content=_CONTENT)
def test_any_summary_is_verified_or_refused(tmp_path, content):
  _check(tmp_path, content)


@pytest.mark.slow
@fuzz.LONG
@hypothesis.given(content=_CONTENT)
def test_any_summary_is_verified_or_refused_at_length(tmp_path, content):
  _check(tmp_path, content)


def _check_fields(fields):
  try:
    run = Mechanism.from_dict(fields)
  except ValueError as error:
    fuzz.assert_clear(error)
    return
  assert Mechanism.from_dict(run.to_dict()) == run


_FIELDS = st.one_of(
    fuzz.JSON,
    st.dictionaries(
        st.sampled_from([*_RUN.to_dict(), "num_epochs"]), fuzz.JSON, max_size=4
    ).map(lambda changes: _RUN.to_dict() | changes),
)


@fuzz.SHORT
@hypothesis.given(_FIELDS)
def test_any_fields_are_a_mechanism_or_refused(fields):
  _check_fields(fields)


@pytest.mark.slow
@fuzz.LONG
@hypothesis.given(_FIELDS)
def test_any_fields_are_a_mechanism_or_refused_at_length(fields):
  _check_fields(fields)


@pytest.mark.parametrize(
    "value", [10**5000, "x" * 10**6, ["a\nb"] * 10**5], ids=range(3)
)
def test_a_long_value_is_told_in_short(value):
  """10^5000 has more digits than Python prints: its repr is an error."""
  with pytest.raises(ValueError, match="num_steps must be an integer") as got:
    Mechanism.from_dict(_RUN.to_dict() | {"num_steps": value})
  fuzz.assert_clear(got.value)


@pytest.mark.parametrize("depth", [25, 400, 980, 100_000])
def test_deep_nesting_is_refused(tmp_path, capsys, depth):
  """Parsed by C, and then too deep for the Python that prints it."""
  nested = "[" * depth + "]" * depth
  content = json.dumps(_SUMMARY)[:-1] + f', "audit": {nested}}}'
  (tmp_path / "summary.json").write_text(content)
  message = _refused(capsys, tmp_path)
  assert "nest at most" in message or "recursion" in message


def test_a_key_that_stands_twice_is_refused(tmp_path, capsys):
  """A reader sees the first epsilon, a parser takes the last."""
  content = '{"epsilon": 0.1, ' + json.dumps(_SUMMARY)[1:]
  (tmp_path / "summary.json").write_text(content)
  assert "each key once, got 'epsilon' twice" in _refused(capsys, tmp_path)
  inner = json.dumps(_SUMMARY).replace('{"jax"', '{"jax": "9", "jax"')
  (tmp_path / "summary.json").write_text(inner)
  assert "each key once, got 'jax' twice" in _refused(capsys, tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        _TEXT.decode().encode("utf-16"),
        b"\xff" + _TEXT,
        _TEXT[:-9],
        b"\xef\xbb\xbf",
    ],
)
def test_what_is_no_utf8_or_is_cut_off(tmp_path, capsys, content):
  (tmp_path / "summary.json").write_bytes(content)
  assert "must be valid JSON" in _refused(capsys, tmp_path)


def test_only_a_regular_file_is_opened(tmp_path, capsys):
  path = tmp_path / "summary.json"
  os.mkfifo(path)
  assert fuzz.returns(budget.main, ["report", str(tmp_path)]) == 2
  capsys.readouterr()
  path.unlink()
  path.symlink_to(path)  # A link to itself.
  _refused(capsys, tmp_path)
  path.unlink()
  path.symlink_to("/dev/zero")
  _refused(capsys, tmp_path)
  path.unlink()
  (tmp_path / "real").write_bytes(_TEXT)
  path.symlink_to(tmp_path / "real")  # A link to a summary is one.
  assert budget.main(["report", str(tmp_path)]) == 0


def test_a_huge_file_is_not_read(tmp_path):
  path = tmp_path / "summary.json"
  with path.open("wb") as file:
    file.truncate(10**12)  # A terabyte of holes.
  with fuzz.memory_below(3_000_000):
    with pytest.raises(ValueError, match="at most 1000000 bytes"):
      json_object.read(path, what="summary.json")


def test_the_limit_of_depth_leaves_room():
  """Code that walks a summary needs a few Python frames a level."""
  assert json_object._MAX_DEPTH * 10 < sys.getrecursionlimit()
