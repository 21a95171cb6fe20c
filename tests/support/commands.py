"""Runs of the command `dp-budget`, for the tests."""

import json

import pytest

from accounting import budget

RUN = [
    "--noise-multiplier=3",
    "--num-examples=50000",
    "--batch-size=4096",
    "--num-steps=1000",
]
PLAN = [a for a in RUN if "noise" not in a]
DELTA = ["--delta=1e-5"]


def answer(capsys, *arguments):
  assert budget.main([*arguments, "--json"]) == 0
  captured = capsys.readouterr()
  assert captured.err == "", "With --json nothing goes to standard error."
  assert captured.out.count("\n") == 1
  return json.loads(captured.out, parse_constant=pytest.fail)


def refused(capsys, *arguments):
  assert budget.main(list(arguments)) == 2
  captured = capsys.readouterr()
  assert captured.out == ""
  assert captured.err.count("\n") == 1, captured.err
  return captured.err
