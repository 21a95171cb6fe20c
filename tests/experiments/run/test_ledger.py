"""`--ledger`: a run is booked before its first step, once, and settled."""

import doctest
import pathlib

import pytest

import accounting
from accounting import Ledger
from experiments import train
from experiments.plan import experiment as experiment_lib
from experiments.run import ledger as ledger_lib
from experiments.run import loop
from experiments.run import workdir as workdir_lib
from tests.support import launch


def _new(tmp_path, **changes):
  fields = {
      "unit": "example",
      "num_examples": 100_000,
      "epsilon": 1000.0,
      "delta": 1e-6,
  }
  return Ledger.create(tmp_path / "ledger.toml", **(fields | changes))


def _ledger(ledger):
  return ledger_lib.RunLedger(pathlib.Path(ledger.path), visible_to="staff")


def _train(path, ledger, **fields):
  workdir = workdir_lib.Workdir(pathlib.Path(path))
  experiment = experiment_lib.build(launch.linear(**fields))
  summary = train.run(experiment, workdir, ledger=_ledger(ledger))
  return experiment, summary


def test_examples_of_the_module():
  assert doctest.testmod(ledger_lib).failed == 0


@pytest.mark.slow
def test_a_run_that_is_killed_is_booked_once_at_its_full_price(
    tmp_path, monkeypatch
):
  ledger = _new(tmp_path)
  steps = loop.train

  def killed(experiment, state, **options):
    # The ledger holds the run before its first step.
    assert len(Ledger.read(ledger.path).entries) == 1
    yield next(steps(experiment, state, **options))
    raise KeyboardInterrupt

  monkeypatch.setattr(loop, "train", killed)
  with pytest.raises(KeyboardInterrupt):
    _train(tmp_path / "run", ledger, save_every=1)
  monkeypatch.undo()
  booked = Ledger.read(ledger.path)
  [entry] = booked.open_bookings
  assert entry.visible_to == "staff" and entry.run == str(tmp_path / "run")
  experiment, summary = _train(tmp_path / "run", ledger, save_every=1)
  after = Ledger.read(ledger.path)
  assert after == booked
  assert after.spent == accounting.epsilon(
      accounting.Composition([experiment.mechanism]), delta=1e-6
  )
  workdir = workdir_lib.Workdir(tmp_path / "run")
  for _ in range(2):  # A finished run that is started again is settled once.
    _ledger(ledger).settle(summary, workdir)
  settled = Ledger.read(ledger.path)
  assert [e.kind for e in settled.entries] == ["booking", "settlement"]
  assert settled.entries[1].params_sha256 == summary["params_sha256"]
  assert settled.spent == after.spent


def test_what_cannot_be_booked_is_not_begun(tmp_path):
  small = _new(tmp_path, epsilon=1e-3)
  with pytest.raises(workdir_lib.WorkdirError, match="within the ledger's bud"):
    _train(tmp_path / "run", small)
  workdir = workdir_lib.Workdir(tmp_path / "run")
  assert workdir.read_steps_begun() == 0
  assert Ledger.read(small.path).entries == ()


@pytest.mark.parametrize(
    "fields, changes, text",
    [
        (
            {"unit": "patient"},
            {},
            "unit must be 'patient', as all of the ledger",
        ),
        ({"num_examples": 5}, {}, "num_examples must be at most 5, as the led"),
        (
            {"neighboring_relation": "replace"},
            {},
            "neighboring_relation must b",
        ),
    ],
)
def test_a_run_of_other_things_is_refused_at_once(
    tmp_path, fields, changes, text
):
  experiment = experiment_lib.build(launch.linear(**changes))
  with pytest.raises(ValueError, match=text):
    _ledger(_new(tmp_path, **fields)).check(experiment)


def test_a_booking_is_of_one_run(tmp_path):
  ledger = _new(tmp_path)
  experiment = experiment_lib.build(launch.linear())
  workdir = workdir_lib.Workdir(tmp_path / "run")
  workdir.path.mkdir()
  _ledger(ledger).book(experiment, workdir)
  _ledger(ledger).book(experiment, workdir)
  assert len(Ledger.read(ledger.path).entries) == 1
  name = workdir.path / "ledger.json"
  # Planted: another run's folder with this booking.
  other = experiment_lib.build(
      launch.linear(dp__epsilon=None, dp__noise_multiplier=0.5)
  )
  with pytest.raises(workdir_lib.WorkdirError, match="must be of this run"):
    _ledger(ledger).book(other, workdir)
  name.write_text('{"booking": "x"}')
  with pytest.raises(workdir_lib.WorkdirError, match="32 hexadecimal digits"):
    _ledger(ledger).book(experiment, workdir)
  # Those who only look on write nothing.
  name.unlink()
  _ledger(ledger).book(experiment, workdir_lib.Onlooker(workdir.path))
  assert not name.exists()
  with pytest.raises(
      workdir_lib.WorkdirError, match="Add it: dp-budget ledger"
  ):
    _ledger(ledger).settle({}, workdir)


def test_the_command_books_and_settles(tmp_path):
  ledger = _new(tmp_path)
  command = (
      "experiments.train",
      launch.linear_recipe(tmp_path),
      f"--workdir={tmp_path}/run",
      f"--ledger={ledger.path}",
      "--visible_to=the public",
  )
  done = launch.command(*command)
  assert done.returncode == 0, done.stderr
  assert "booked as entry 1" in done.stdout
  assert "settled entry 1" in done.stdout
  again = launch.command(*command)
  assert again.returncode == 0 and "settled" not in again.stdout
  found = Ledger.read(ledger.path)
  assert [e.kind for e in found.entries] == ["booking", "settlement"]
  assert found.entries[0].visible_to == "the public"
  # A run that continues one that is not in the ledger is refused.
  other = Ledger.create(
      tmp_path / "other.toml",
      unit="example",
      num_examples=100_000,
      epsilon=1000.0,
      delta=1e-6,
  )
  refused = launch.command(
      *command[:2],
      f"--workdir={tmp_path}/next",
      f"--ledger={other.path}",
      f"--continue_from={tmp_path}/run",
      "--config.seed=1",
  )
  assert refused.returncode != 0
  assert "must hold the run that this one continues" in refused.stderr
