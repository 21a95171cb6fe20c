"""`train.batch_size_schedule`: from the config to the summary's epsilon."""

import json
import types

import numpy as np
import pytest

import accounting
from accounting import budget
from experiments.audits import canaries, replay
from experiments.plan import experiment as experiment_lib
from experiments.plan import mechanism as mechanism_lib
from experiments.run import resume, train_metrics
from experiments.run import summary as summary_lib
from tests.support import launch

_SCHEDULE = ((0.0, 1.0), (0.5, 2.0))
_NUM_EXAMPLES = 1437
_FIELDS = {
    "dp__epsilon": None,
    "dp__noise_multiplier": 2.0,
    "train__num_steps": 6,
    "train__expected_batch_size": 40,
    "train__batch_size_schedule": _SCHEDULE,
}


def _plan(**fields):
  config = launch.config(**_FIELDS | fields)
  return mechanism_lib.build_plan(
      config.dp, config.train, _NUM_EXAMPLES
  ).mechanism


@pytest.mark.parametrize(
    "num_steps, schedule, want",
    [
        (6, _SCHEDULE, ((0, 1.0), (3, 2.0))),
        (7, _SCHEDULE, ((0, 1.0), (3, 2.0))),
        (100, ((0, 1), (0.29, 2)), ((0, 1.0), (29, 2.0))),
        (3, ((0.0, 2.0), (0.99, 1.0)), ((0, 2.0), (2, 1.0))),
        (5, (), ()),
    ],
)
def test_fractions_become_steps(num_steps, schedule, want):
  made = _plan(train__num_steps=num_steps, train__batch_size_schedule=schedule)
  assert made.batch_size_schedule == want


def test_epochs_are_counted_under_the_schedule():
  """1.5 times the batch on average: two thirds of the steps."""
  made = _plan(train__num_steps=None, train__num_epochs=30.0)
  assert made.num_steps == 719  # 30 x 1437 / 60, rounded up.
  assert made.expected_epochs == pytest.approx(30, rel=2e-3)


def test_a_cut_run_keeps_its_phases():
  """They stay where the run as asked for has them."""
  cut = _plan(dp__epsilon=3.0, dp__delta=1e-4, train__num_steps=4000)
  assert cut.num_steps < 4000
  assert cut == _plan(train__num_steps=4000).with_num_steps(cut.num_steps)
  budget_ = {"delta": 1e-4}
  assert accounting.epsilon(cut, **budget_) <= 3.0
  more = _plan(train__num_steps=4000).with_num_steps(cut.num_steps + 1)
  assert accounting.epsilon(more, **budget_) > 3.0


@pytest.mark.slow
def test_noise_is_found_for_the_schedule():
  made = _plan(dp__epsilon=3.0, dp__delta=1e-4, dp__noise_multiplier=None)
  assert 0.999 * 3 <= accounting.epsilon(made, delta=1e-4) <= 3.0
  told = _plan(
      train__batch_size_schedule=(), dp__noise_multiplier=made.noise_multiplier
  )
  # What an accountant that knew the base size alone would have said.
  assert accounting.epsilon(told, delta=1e-4) < 0.9 * 3


@pytest.mark.parametrize(
    "fields, rule",
    [
        ({"train__batch_size_schedule": (1.0,)}, "pairs of a fraction"),
        ({"train__batch_size_schedule": ((0.5, 1.0),)}, "fractions from 0 on"),
        (
            {"train__batch_size_schedule": ((0.0, 0.0),)},
            "what the accountant takes, got .*factor must be",
        ),
        (
            {
                "train__batch_size_schedule": tuple(
                    (i / 33, 1.0) for i in range(33)
                )
            },
            "what the accountant takes, got .*at most 32 pairs",
        ),
        (
            {"train__batch_size_schedule": ((0.0, 1.0), (0.5, 36.0))},
            r".*sampling_prob x factor is in \(0, 1\]",
        ),
        (
            {"train__batch_size_schedule": ((0.0, 1.0), (0.1, 2.0))},
            "phases of a step at least, in 6 steps",
        ),
        ({"dp__sampling": "deterministic"}, r"must be \(\) for sampling"),
        (
            {
                "dp__auto_tune": "num_steps",
                "dp__epsilon": 2.0,
                "train__num_steps": None,
            },
            r"must be \(\) with dp.auto_tune 'num_steps'",
        ),
    ],
)
def test_what_cannot_be_is_refused(fields, rule):
  with pytest.raises(ValueError, match=f"batch_size_schedule.* {rule}"):
    _plan(**fields)


def test_audits_refuse_a_schedule():
  config = canaries.add_to_config(
      launch.config(**_FIELDS), canary="dirac", num_canaries=20
  )
  with pytest.raises(ValueError, match=r"batch_size_schedule must be \(\)"):
    canaries.build(config)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A run of six steps, its folder, experiment and summary."""
  folder = tmp_path_factory.mktemp("scheduled")
  config = launch.linear(**_FIELDS)
  summary = launch.run(config, folder)
  return folder, experiment_lib.build(config), summary


def test_the_summary_s_epsilon_is_the_schedule_s(run, capsys):
  folder, experiment, summary = run
  assert summary["batch_size_schedule"] == [[0, 1.0], [3, 2.0]]
  want = accounting.epsilon(experiment.mechanism, delta=summary["delta"])
  assert summary["epsilon"] == want
  lines = (folder / "metrics.jsonl").read_text().splitlines()
  assert json.loads(lines[-1])["epsilon"] == pytest.approx(want, rel=1e-9)
  assert budget.main(["report", str(folder)]) == 0
  said = " ".join(capsys.readouterr().out.split())
  assert "from step 4 on" in said
  summary_lib.show(summary)
  assert "times 2 from step 4 on" in capsys.readouterr().out


def test_the_report_refuses_the_base_size_s_epsilon(run, tmp_path, capsys):
  """The fault in a file: a schedule, and the epsilon of a run without one."""
  folder, experiment, summary = run
  plain = _plan(train__batch_size_schedule=())
  forged = summary | {
      "epsilon": accounting.epsilon(plain, delta=summary["delta"])
  }
  (tmp_path / "summary.json").write_text(json.dumps(forged))
  assert budget.main(["report", str(tmp_path)]) == 2
  assert "epsilon must agree" in capsys.readouterr().err


def test_what_a_stopped_run_spent_is_the_schedule_s(run):
  _, experiment, summary = run
  spent = [resume.epsilon_spent(experiment, t) for t in (0, 2, 3, 4, 6)]
  assert spent[0] == 0 and spent[-1] == summary["epsilon"]
  assert sorted(spent) == spent
  assert np.diff(spent)[-2] > spent[2] - spent[1]  # The fourth step is larger.


def test_signal_and_noise_are_told_apart_in_each_phase():
  """The optimiser is given half of the noised sum where batches are double."""
  fake = types.SimpleNamespace(
      config=launch.config(),
      mechanism=_plan(),
      dp_training=types.SimpleNamespace(
          grad_fn=types.SimpleNamespace(grid_step=None),
          plan=types.SimpleNamespace(shares=None),
      ),
  )
  signal, noise = np.float32([3.0, 4.0]), np.float32([0.4, -0.3])
  for step, factor in ((2, 1.0), (3, 2.0)):
    gradients = train_metrics.Gradients(signal, (signal + noise) / factor)
    told = train_metrics.of_step(
        fake, [], gradients, step=step, l2_clip_norm=1.0
    )
    assert told["signal_to_noise"] == pytest.approx(10, rel=1e-5)


@pytest.mark.slow
def test_the_replay_checks_each_phase(run):
  _, experiment, _ = run
  replay.check(experiment, max_examples=2)
