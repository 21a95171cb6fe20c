"""Runs whose clipping is not standard: the launcher's side."""

import json

import pytest

from accounting import budget
from configs import common
from experiments.audits import replay
from experiments.plan import experiment as experiment_lib
from tests.support import launch


def _config(clipping="quantile", options=None, **fields):
  fields = {"train__num_steps": 4, "save_every": 2, "log_every": 1} | fields
  config = launch.linear(dp__clipping=clipping, **fields)
  with config.unlocked():
    common.set_options(config.dp.clipping_options, **(options or {}))
  return config.lock()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """The folder and summary of the run that nothing stopped."""
  path = tmp_path_factory.mktemp("whole")
  return path, launch.run(_config(train_metrics=True), path)


def test_the_summary_states_it_and_the_report_compares_it(whole, capsys):
  path, summary = whole
  assert summary["clipping"] == "quantile"
  assert budget.main(["report", str(path), "--json"]) == 0
  assert json.loads(capsys.readouterr().out)["epsilon"] == summary["epsilon"]
  changed = summary | {"clipping": "psac"}
  (path / "summary.json").write_text(json.dumps(changed))
  assert budget.main(["report", str(path)]) != 0
  assert "clipping must be as in" in capsys.readouterr().err
  (path / "summary.json").write_text(json.dumps(summary))


def test_its_clip_norm_moves_and_is_logged_as_unreleased(whole):
  lines = (whole[0] / "metrics.jsonl").read_text().splitlines()
  found = [json.loads(line) for line in lines]
  shown = [line["private_not_for_release"] for line in found]
  norms = [values["l2_clip_norm"] for values in shown]
  assert norms[0] == 1.0 and len(set(norms)) == len(norms) == 4
  assert all(-1 <= values["alignment"] <= 1 for values in shown)


def test_a_resumed_run_ends_with_the_same_bits(whole, tmp_path):
  config = _config(train_metrics=True)
  launch.kill_after(3, config, tmp_path)
  found = launch.run(config, tmp_path)
  assert found["params_sha256"] == whole[1]["params_sha256"]


@pytest.mark.slow
@pytest.mark.parametrize("clipping", ["quantile", "automatic", "psac"])
def test_its_replay_passes(clipping):
  experiment = experiment_lib.build(_config(clipping))
  report = replay.check(experiment, max_examples=2)
  assert report.noise.num_draws > 1000


@pytest.mark.slow
@pytest.mark.parametrize("name", launch.configs(slow=launch.LARGE))
def test_every_recipe_trains_with_it(name, tmp_path):
  config = launch.config(name, dp__clipping="quantile")
  assert launch.run(config, tmp_path)["clipping"] == "quantile"


@pytest.mark.parametrize(
    "clipping, options, text",
    [
        ("automatic", {"gamma": 1.0}, "dp.clipping_options: clipping_options"),
        ("automatic", {"stability": 0.0}, "stability must be a positive"),
        ("quantile", {"stability": 0.1}, "names among target_quantile"),
        ("quantile", {"target_quantile": 2.0}, "target_quantile must be in"),
        ("median", {}, "dp.clipping must be one of standard, automatic, psac"),
    ],
)
def test_what_does_not_fit_is_refused(clipping, options, text):
  with pytest.raises(ValueError, match=text):
    experiment_lib.build(_config(clipping, options))
