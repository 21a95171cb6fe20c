"""`dp-budget compose`: files of releases, run folders, and what is refused."""

import json
import pathlib
import re

import pytest

import accounting
from accounting import Composition, Mechanism, budget
from tests.support import commands, records

_json = commands.answer
# A summary of a thousand examples needs a large delta here.
pytestmark = pytest.mark.filterwarnings("ignore::accounting.LargeDeltaWarning")
_HISTOGRAM = '[[release]]\nkind = "laplace"\nscale = 2.0\n'
_ROOT = pathlib.Path(__file__).parents[3]


def _refused(capsys, *arguments, match):
  assert re.search(match, commands.refused(capsys, *arguments))


def _file(tmp_path, text):
  path = tmp_path / "releases.toml"
  path.write_text(text, encoding="utf-8")
  return str(path)


def _folder(tmp_path, name, **changes):
  (tmp_path / name).mkdir()
  summary = records.summary(**changes)
  return str(records.write(tmp_path / name, "summary.json", summary)), summary


def _mechanism(summary):
  keys = ("noise_multiplier", "num_steps", "sampling_prob", "num_examples")
  return Mechanism(**{k: summary[k] for k in keys})


def test_two_runs_and_a_histogram(tmp_path, capsys):
  first, summary = _folder(tmp_path, "first")
  second, _ = _folder(tmp_path, "second", seed=5)
  path = _file(tmp_path, 'unit = "example"\n' + _HISTOGRAM + "count = 3\n")
  found = _json(capsys, "compose", first, second, path, "--delta=1e-3")
  run, histogram = _mechanism(summary), accounting.Laplace(scale=2.0)
  wanted = 2 * run + 3 * histogram
  assert found["epsilon"] == accounting.epsilon(wanted, delta=1e-3)
  assert [each["count"] for each in found["releases"]] == [2, 3]
  read = {"version": 1, "unit": "example", "releases": found["releases"]}
  for each in read["releases"]:
    del each["epsilon"]
  assert Composition.from_dict(read).releases == wanted.releases
  # A file may name the folders itself.
  path = _file(tmp_path, '[[release]]\nrun = "first"\ncount = 2\n')
  alone = _json(capsys, "compose", path, "--delta=1e-3")
  assert alone["epsilon"] == accounting.epsilon(2 * run, delta=1e-3)


def test_a_run_that_was_continued_counts_both(tmp_path, capsys):
  run = _mechanism(records.summary())
  before = Mechanism(
      noise_multiplier=9.0,
      num_steps=7,
      sampling_prob=run.sampling_prob,
      num_examples=run.num_examples,
  )
  together = accounting.epsilon(before + run, delta=records.summary()["delta"])
  origin = {
      "path": "first",
      "sha256": "0" * 64,
      "released": [before.to_dict()],
      "seeds": [1],
      "began_with": None,
  }
  path, _ = _folder(
      tmp_path, "next", restored_from=origin, epsilon_composed=together
  )
  found = _json(capsys, "compose", path, "--delta=1e-3")
  assert found["epsilon"] == accounting.epsilon(before + run, delta=1e-3)
  # Planted: a summary that hides what it adds up to.
  file = tmp_path / "next" / "summary.json"
  stated = json.loads(file.read_text())
  file.write_text(json.dumps(stated | {"epsilon_composed": together * 0.9}))
  _refused(capsys, "compose", path, "--delta=1e-3", match="epsilon_composed")


def test_the_releases_of_the_docs_are_phases_of_other_noise(capsys):
  found = _json(
      capsys, "compose", str(_ROOT / "docs/releases.toml"), "--delta=1e-5"
  )
  assert found["unit"] == "patient"
  kinds = [each["kind"] for each in found["releases"]]
  assert kinds == ["dp_sgd", "dp_sgd", "laplace"]
  alone = [each["epsilon"] for each in found["releases"]]
  assert max(alone) < found["epsilon"] < sum(alone)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("release = [", "must be valid TOML"),
        ("", r"release must be a list, each as ..release.., got None"),
        ("release = 3", "release must be a list"),
        ("release = [3]", "release 1: release must be a table, got 3"),
        ("sigma = 3\n" + _HISTOGRAM, "must be of unit, neighboring_relation"),
        ('[[release]]\nkind = "dp"', "release 1: kind must be one of dp_sgd"),
        ("[[release]]\nscale = 1.0", "release 1: kind must be one of dp_sgd"),
        (_HISTOGRAM + "sigma = 1.0", "release 1: laplace must be a mapping of"),
        (_HISTOGRAM + "count = 0", "release 1: count must be an integer"),
        (_HISTOGRAM + "count = true", "release 1: count must be an integer"),
        ('[[release]]\nkind = "laplace"\nscale = nan', "scale must be a finit"),
        ('[[release]]\nrun = "none"', "run must be the folder of a finished"),
        ('[[release]]\nrun = "x"\nscale = 1.0', "run must be a folder's path"),
        ('unit = ""\n' + _HISTOGRAM, "unit must be a word or two"),
        (
            _HISTOGRAM + _HISTOGRAM + 'neighboring_relation = "replace_one"',
            "neighboring_relation must be the same for all releases",
        ),
        (
            '[[release]]\nkind = "dp_sgd"\nexpected_batch_size = 10',
            "num_examples must be an integer",
        ),
    ],
)
def test_a_file_is_not_trusted(text, match, tmp_path, capsys):
  path = _file(tmp_path, text)
  _refused(capsys, "compose", path, "--delta=1e-5", match=match)


def test_units_of_a_file_and_a_run_are_not_mixed(tmp_path, capsys):
  run, _ = _folder(tmp_path, "run")
  path = _file(tmp_path, 'unit = "patient"\n' + _HISTOGRAM)
  _refused(
      capsys,
      *("compose", run, path, "--delta=1e-3"),
      match="unit must be the same for all releases, got 'example' and 'pat",
  )
  _refused(
      capsys,
      "compose",
      str(tmp_path / "no"),
      "--delta=0.1",
      match="a TOML file",
  )
  (tmp_path / "empty").mkdir()
  _refused(
      capsys,
      *("compose", str(tmp_path / "empty"), "--delta=1e-3"),
      match="summary.json",
  )


def test_it_prints_a_table(tmp_path, capsys):
  path = _file(tmp_path, _HISTOGRAM)
  assert budget.main(["compose", path, "--delta=1e-5"]) == 0
  shown = capsys.readouterr().out.splitlines()
  assert shown[0].split() == ["release", "times", "alone", "epsilon"]
  assert shown[-1] == (
      "together: epsilon 0.500 at delta 1e-05 (pld, add_or_remove_one)"
  )
