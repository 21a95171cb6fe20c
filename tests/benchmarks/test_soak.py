"""The soak test: it kills and finds nothing lost, and would find what is."""

import json
import random

import pytest

from benchmarks import soak

_FLAGS = (
    f"--config={soak._CONFIG}",
    *soak._FLAGS,
    "--config.train.num_steps=60",
    "--config.save_every=10",
)


@pytest.mark.slow
def test_a_run_that_is_killed_is_whole(tmp_path):
  job = soak.Job(flags=_FLAGS, num_steps=60)
  rng = random.Random(0)
  tally = soak.soak(job, tmp_path, seconds=0, kills=4, rng=rng)
  assert tally.passed, tally
  assert tally.steps == 60 * tally.runs
  assert tally.all_kills >= 4
  assert tally.starts > tally.runs


def _run(
    path, *, steps=(1, 2, 3), loss=1.0, num_steps=3, digest="a", epsilon=0.5
):
  path.mkdir()
  lines = [
      {
          "step": step,
          "epsilon": epsilon,
          "train_seconds": random.random(),
          "loss": loss,
      }
      for step in steps
  ]
  text = "".join(json.dumps(line) + "\n" for line in lines)
  (path / "metrics.jsonl").write_text(text)
  summary = {"num_steps": num_steps, "params_sha256": digest}
  (path / "summary.json").write_text(json.dumps(summary))
  return path


@pytest.mark.parametrize(
    "changes, lost, differing",
    [
        ({}, 0, 0),
        ({"loss": float("nan")}, 0, 1),
        ({"digest": "b"}, 0, 1),
        ({"epsilon": 0.6}, 0, 0),  # Steps taken twice are counted.
        ({"epsilon": 0.4}, 0, 1),
        ({"steps": (1, 3)}, 1, 1),
        ({"steps": (1, 2, 2, 3)}, 1, 1),
        ({"num_steps": 2}, 1, 1),
    ],
)
def test_what_is_lost_is_counted(tmp_path, changes, lost, differing):
  tally = soak.Tally()
  soak._compare(
      soak.Job(flags=(), num_steps=3),
      _run(tmp_path / "whole"),
      _run(tmp_path / "killed", **changes),
      tally,
  )
  assert (tally.lost_steps, tally.differing_runs) == (lost, differing)
  assert tally.passed == (lost == differing == 0)


def test_equal_losses_that_are_no_numbers_are_equal(tmp_path):
  tally = soak.Tally()
  runs = [_run(tmp_path / name, loss=float("nan")) for name in "ab"]
  soak._compare(soak.Job(flags=(), num_steps=3), *runs, tally)
  assert tally.passed


def test_nothing_trained_is_no_success():
  assert not soak.Tally().passed
  assert not soak.Tally(runs=1, errors=["exit code 1"]).passed
