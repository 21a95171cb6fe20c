"""A run on examples with many labels, from training to its twin's table."""

import json

import numpy as np
import pytest

from accounting import budget
from experiments.evaluation import evaluate_run
from experiments.evaluation import saved as saved_lib
from experiments.evaluation import twin as twin_lib
from experiments.run import summary as summary_lib
from jax_privacy import data
from tests.support import launch

_NAMES = ("even", "high", "zero", "none")


def _labels(digits):
  kinds = (digits % 2 == 0, digits >= 5, digits == 0, digits < 0)
  labels = np.stack(kinds, axis=1).astype(np.int32)
  labels[::7, 1] = -1
  return labels


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """The folder of a run on digits, whose labels are what they are like."""
  path = tmp_path_factory.mktemp("labels")
  arrays = data.load("digits").as_arrays()
  images, labels = arrays["image"][:140], _labels(arrays["label"][:140])
  np.savez(
      path / "set.npz",
      x_train=images[:80],
      y_train=labels[:80],
      x_test=images[80:],
      y_test=labels[80:],
      label_names=np.array(_NAMES),
  )
  config = launch.linear(
      data__source="npz",
      data__options={"path": str(path / "set.npz")},
      data__num_examples=80,
      dp__delta=1e-3,
      task__name="multi_label",
      loss__name="sigmoid",
      eval__num_examples=None,
      eval__labels=("even", "high"),
      train__polyak_start=0.5,
  )
  summary = launch.run(config, path / "run")
  return path / "run", summary


def test_areas_stand_in_for_the_accuracy(run, capsys):
  path, summary = run
  assert json.loads((path / "summary.json").read_text()) == summary
  assert summary["test_accuracy"] is None and summary["test_accuracies"] is None
  areas = summary["test_macro_auc"]
  assert set(areas) == {"last", "ema", "polyak"}
  assert all(0 <= area <= 1 for area in areas.values())
  summary_lib.show(summary)
  told = capsys.readouterr().out
  assert f"test macro AUC {areas['ema']:.2%} (ema parameters" in told
  assert budget.main(["report", str(path)]) == 0
  assert "test macro auc ema" in " ".join(capsys.readouterr().out.split())


def test_evaluation_has_the_numbers_of_the_summary(run, capsys, tmp_path):
  path, summary = run
  saved = saved_lib.load(path)
  evaluate_run.evaluate(saved, json_file=f"{tmp_path}/told.json")
  told = json.loads((tmp_path / "told.json").read_text())
  for name, area in summary["test_macro_auc"].items():
    got = told["params"][name]["overall"]["rows"]["macro_auc"]
    assert got["value"] == area and got["standard_error"] > 0
  assert list(told["params"]["ema"]["label"]["rows"]) == ["even", "high"]
  assert set(told["params"]["last"]) == {"overall"}
  printed = capsys.readouterr().out
  assert f"\nmacro AUC {summary['test_macro_auc']['ema']:.2%} +- " in printed
  assert "PRIVATE" not in printed and told["twin_name"] is None
  # All labels, of all parameters.
  saved = saved_lib.load(path, labels=())
  evaluate_run.evaluate(saved, which="all")
  printed = capsys.readouterr().out
  assert printed.count("  none: undefined (no example with it)") == 3
  assert printed.count("left out: none") == 3


def _twin_file(path, saved, **changes):
  labels = saved.source.as_arrays()["label"]
  # Sure of what is so, but for two examples in a hundred.
  logits = labels + 0.1 * np.random.default_rng(0).normal(size=labels.shape)
  logits[::40] *= -1
  arrays = {"logits": logits, "labels": labels} | changes
  np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
  return str(path)


def test_a_twin_stands_beside_it(run, capsys, tmp_path):
  saved = saved_lib.load(run[0], labels=())
  twin = _twin_file(tmp_path / "twin.npz", saved)
  evaluate_run.evaluate(saved, twin=twin, json_file=f"{tmp_path}/told.json")
  told = json.loads((tmp_path / "told.json").read_text())
  ours = told["params"]["ema"]["label"]["rows"]["even"]
  theirs = told["twin"]["label"]["rows"]["even"]
  difference = told["difference"]["ema"]["label"]["even"]
  assert difference["value"] == pytest.approx(ours["value"] - theirs["value"])
  assert theirs["value"] > 0.9 and ours["num_examples"] == 60
  assert f"twin: {twin}" in capsys.readouterr().out
  # Beside itself there is no difference at all, and no doubt of that.
  evaluate_run.evaluate(
      saved, twin=str(run[0]), json_file=f"{tmp_path}/told.json"
  )
  told = json.loads((tmp_path / "told.json").read_text())
  assert told["twin_name"] == f"{run[0]}, ema parameters of step 3"
  for section in told["difference"]["ema"].values():
    for name, row in section.items():
      if name == "none":
        assert row["value"] is None
      else:
        assert row["value"] == row["standard_error"] == 0


def test_training_examples_are_private(run, capsys, tmp_path):
  saved = saved_lib.load(run[0], split="train")
  evaluate_run.evaluate(saved, json_file=f"{tmp_path}/told.json")
  assert "examples: the numbers are PRIVATE" in capsys.readouterr().out
  told = json.loads((tmp_path / "told.json").read_text())
  assert "params" not in told
  assert set(told["private_not_for_release"]["params"]["ema"]) >= {"label"}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"logits": None}, "must hold logits, got none"),
        ({"logits": np.zeros((60, 3))}, r"must be of shape \(60, 4\), got"),
        (
            {"labels": np.zeros(60, int)},
            r"labels of .* must be of shape \(60, 4",
        ),
        ({"labels": np.full((60, 4), 2)}, r"must be in \[-1, 1\], got 2 to 2"),
        ({"labels": np.ones((60, 4), int)}, "another label of example 0 from"),
    ],
)
def test_a_twin_of_other_examples_is_refused(run, changes, message, tmp_path):
  saved = saved_lib.load(run[0])
  rows = np.arange(60)
  labels = saved.source[rows]["label"].astype(np.int8)
  path = _twin_file(tmp_path / "twin.npz", saved, **changes)
  with pytest.raises(ValueError, match=message):
    twin_lib.collect(path, saved, rows, labels)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"which": "best"}, "params must be one of last, ema, polyak or all"),
        ({"json_file": "no/such/folder.json"}, "json must be in a folder"),
        ({"twin": "no_such_run"}, "twin must hold a run, got no_such_run"),
        ({"twin": "no_such.npz"}, "must be a readable .npz file"),
    ],
)
def test_mistakes_are_named(run, options, message):
  with pytest.raises(ValueError, match=message):
    evaluate_run.evaluate(saved_lib.load(run[0]), **options)


def test_a_label_that_there_is_not_is_named(run):
  text = "eval.labels: labels must be among even, high, zero, none, got 'emu'"
  with pytest.raises(ValueError, match=text):
    saved_lib.load(run[0], labels=("emu",))
