"""A run with groups that take turns and banded noise: the launcher's side."""

import json

import pytest

import accounting
from accounting import budget
from configs import common
from experiments.audits import replay
from experiments.plan import experiment as experiment_lib
from experiments.run import resume
from experiments.run import workdir as workdir_lib
from jax_privacy import draws
from tests.support import launch

_COEF = [0.8, 0.48, 0.36]


def _config(**fields):
  fields = {"train__num_steps": 6, "save_every": 2, "log_every": 1} | fields
  config = launch.linear(
      dp__sampling="cyclic_poisson", dp__noise="banded", **fields
  )
  with config.unlocked():
    common.set_options(config.dp.sampling_options, cycle_length=3)
    common.set_options(config.dp.noise_options, strategy_coef=_COEF)
  return config.lock()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """The folder and summary of the run that nothing stopped."""
  path = tmp_path_factory.mktemp("whole")
  return path, launch.run(_config(), path)


def test_the_summary_states_it_and_the_report_recomputes_it(whole, capsys):
  path, summary = whole
  assert summary["noise"] == "banded"
  assert summary["noise_options"] == {"strategy_coef": _COEF}
  run = accounting.Mechanism(
      noise_multiplier=summary["noise_multiplier"],
      num_steps=2,  # Of six steps, a group has two.
      sampling_prob=3 * summary["sampling_prob"],
  )
  assert summary["epsilon"] == accounting.epsilon(run, delta=summary["delta"])
  assert budget.main(["report", str(path), "--json"]) == 0
  facts = json.loads(capsys.readouterr().out)
  assert facts["epsilon"] == summary["epsilon"]
  # A summary that claims another strategy than the config is not believed.
  changed = summary | {"noise_options": {"strategy_coef": [1.0]}}
  (path / "summary.json").write_text(json.dumps(changed))
  assert budget.main(["report", str(path)]) != 0
  assert "noise_options" in capsys.readouterr().err
  (path / "summary.json").write_text(json.dumps(summary))


def test_a_resumed_run_ends_with_the_same_bits(whole, tmp_path):
  # Stopped in its fourth step: the noise of the third is a part of it.
  launch.kill_after(3, _config(), tmp_path)
  found = launch.run(_config(), tmp_path)
  assert found["params_sha256"] == whole[1]["params_sha256"]


def test_other_versions_do_not_go_on_with_it(whole, monkeypatch):
  # No step is lost; but groups, and the noise of later steps, are of a draw.
  workdir, saved_with = workdir_lib.Workdir(whole[0]), draws.versions()
  monkeypatch.setattr(draws, "versions", lambda: saved_with | {"numpy": "9"})
  step = workdir.read_steps_begun()
  with pytest.raises(workdir_lib.WorkdirError, match="must go on with the ver"):
    resume._check_draws(saved_with, workdir, step=step, spans_steps=True)
  assert experiment_lib.build(_config()).mechanism.draws_span_steps
  resume._check_draws(saved_with, workdir, step=step)


def _one_epoch(noise, options):
  """One epoch without sampling: 4 steps of 16 of the digits."""
  config = launch.linear(
      dp__sampling="shuffle",
      dp__neighboring_relation="replace_special",
      dp__noise=noise,
      train__num_steps=4,
      save_every=2,
  )
  with config.unlocked():
    common.set_options(config.dp.noise_options, **options)
  return config.lock()


_BLT = {"buf_decay": (0.9, 0.4), "output_scale": (0.2, 0.25)}
_ONE_EPOCH = [("blt", _BLT), ("banded_inverse", {"noising_coef": (1.0, -0.7)})]


@pytest.mark.parametrize("noise, options", _ONE_EPOCH)
def test_one_epoch_is_built_from_a_config(noise, options):
  mechanism = experiment_lib.build(_one_epoch(noise, options)).mechanism
  assert (mechanism.noise, dict(mechanism.noise_options)) == (noise, options)
  # As a config.json gives it back.
  again = accounting.Mechanism.from_dict(
      json.loads(json.dumps(mechanism.to_dict()))
  )
  assert again == mechanism


@pytest.mark.slow
@pytest.mark.parametrize("noise, options", _ONE_EPOCH)
def test_one_epoch_goes_on_and_is_reported(noise, options, tmp_path, capsys):
  config = _one_epoch(noise, options)
  want = launch.run(config, tmp_path / "whole")
  launch.kill_after(3, config, tmp_path / "stopped")
  found = launch.run(config, tmp_path / "stopped")
  assert found["params_sha256"] == want["params_sha256"]
  capsys.readouterr()
  assert budget.main(["report", str(tmp_path / "whole"), "--json"]) == 0
  facts = json.loads(capsys.readouterr().out)
  assert facts["epsilon"] == want["epsilon"]


@pytest.mark.slow
def test_its_replay_passes():
  report = replay.check(experiment_lib.build(_config()), max_examples=4)
  assert report.noise.num_draws > 1000


@pytest.mark.parametrize(
    "fields, text",
    [
        (
            {"dp__secure_random": True},
            "secure_random must be False with a noise",
        ),
        (
            {"dp__sampling": "poisson"},
            "sampling_options must be a mapping of no",
        ),
    ],
)
def test_what_does_not_fit_is_refused(fields, text):
  config = _config()
  with config.unlocked():
    config.update_from_flattened_dict(
        {name.replace("__", "."): value for name, value in fields.items()}
    )
  with pytest.raises(ValueError, match=text):
    experiment_lib.build(config)
