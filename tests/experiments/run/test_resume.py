"""A run that was stopped goes on as the same run, or not at all.

Stops are planted in this process here; test_kill.py kills real ones.
"""

import json
import os
import shutil
import signal

import pytest

import accounting
from experiments import train
from experiments.plan import experiment as experiment_lib
from experiments.run import identity, loop, resume, signals
from experiments.run import workdir as workdir_lib
from experiments.tasks.images import sources
from jax_privacy import checkpoint, draws, root_key
from tests.support import launch


def _config(make=launch.linear, **fields):
  fields = {"train__num_steps": 8, "save_every": 2, "log_every": 1} | fields
  return make(**fields)


def _metrics(path):
  lines = (path / "metrics.jsonl").read_text().splitlines()
  return [json.loads(line) for line in lines]


def _newest(path):
  return max(int(p.name) for p in (path / "checkpoints").iterdir())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """The summary of the run that nothing stopped."""
  return launch.run(_config(), tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
  """The folder of a run that was killed in its sixth step."""
  path = tmp_path_factory.mktemp("broken")
  launch.kill_after(5, _config(), path)
  return path


@pytest.fixture
def copy(broken, tmp_path):
  """A copy of it, to go on with."""
  return shutil.copytree(broken, tmp_path / "run")


@pytest.mark.parametrize("task", launch.EACH_TASK)
def test_a_resumed_run_ends_with_the_same_bits(task, tmp_path):
  config = _config(launch.TASKS[task])
  whole = launch.run(config, tmp_path / "whole")
  run = tmp_path / "run"
  launch.kill_after(5, config, run)
  assert not (run / "summary.json").exists()
  assert launch.run(config, run)["params_sha256"] == whole["params_sha256"]
  assert [m["step"] for m in _metrics(run)] == list(range(1, 9))


@pytest.mark.parametrize(
    "secure, grid_scale",
    # The first is `test_a_resumed_run_ends_with_the_same_bits`, without a seed.
    [pytest.param(False, None, marks=pytest.mark.slow), (True, 10**5)],
)
def test_without_a_seed_the_checkpoint_has_the_key(
    tmp_path, monkeypatch, secure, grid_scale
):
  config = _config(
      seed=None, dp__secure_random=secure, dp__grid_scale=grid_scale
  )
  # The same key for the unbroken run and the broken one, and then another.
  monkeypatch.setattr(root_key.secrets, "token_bytes", b"1234".zfill)
  whole = launch.run(config, tmp_path / "whole")
  launch.kill_after(1, config, tmp_path / "run")
  monkeypatch.setattr(root_key.secrets, "token_bytes", b"999".zfill)
  # Killed in its second step, it has the checkpoint from before the first.
  assert _newest(tmp_path / "run") == 0
  resumed = launch.run(config, tmp_path / "run")
  assert resumed["params_sha256"] == whole["params_sha256"]
  assert resumed["generator"] == ("chacha20" if secure else "threefry")
  assert resumed["grid_scale"] == grid_scale


def test_steps_begun_and_lost_are_counted(copy):
  # Saved after step 4, killed in step 6: six steps' noise was drawn.
  assert workdir_lib.Workdir(copy).read_steps_begun() == 6
  experiment = experiment_lib.build(_config())
  launch.run(_config(), copy)

  def epsilon(num_steps):
    return pytest.approx(resume.epsilon_spent(experiment, num_steps), abs=1e-6)

  told = {m["step"]: m["epsilon"] for m in _metrics(copy)}
  assert told[4] == epsilon(4)  # Told before the kill.
  assert told[5] == told[6] == epsilon(6)  # Told after it.
  assert told[8] == epsilon(8)


def test_epsilon_spent_is_that_of_the_steps():
  experiment = experiment_lib.build(_config())
  mechanism = experiment.mechanism
  assert resume.epsilon_spent(experiment, 0) == 0
  whole = accounting.epsilon(mechanism, delta=1e-4)
  assert resume.epsilon_spent(experiment, mechanism.num_steps) == whole


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)],
)
def test_a_signal_saves_and_says_so(
    whole, tmp_path, monkeypatch, capsys, number
):
  config = _config(save_every=100)
  experiment, workdir = experiment_lib.build(config), workdir_lib.Workdir(
      tmp_path
  )
  workdir.claim(config)
  before = signal.getsignal(number)
  with monkeypatch.context() as patched, signals.StopSignals() as stop:
    launch.stop_after(patched, 2, lambda: os.kill(os.getpid(), number))
    assert train.run(experiment, workdir, stop=stop) is None
  assert signal.getsignal(number) is before
  said = capsys.readouterr().out
  epsilon = resume.epsilon_spent(experiment, 3)
  assert "to be continued: saved after step 3 of 8" in said
  assert f"by 3 steps: ({epsilon:.1f}"[:-1] in said
  assert _newest(tmp_path) == 3 and workdir.read_steps_begun() == 3
  resumed = launch.run(config, tmp_path)
  assert resumed["params_sha256"] == whole["params_sha256"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_is_not_caught(number):
  before = signal.getsignal(number)
  with signals.StopSignals() as stop:
    assert not stop.requested
    os.kill(os.getpid(), number)
    assert stop.requested
    assert signal.getsignal(number) is before


# Orbax drops what it was reading of an array when another one is damaged.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_checkpoint_is_not_used(whole, copy, capsys):
  for file in (copy / "checkpoints" / "4" / "params" / "d").iterdir():
    file.write_bytes(file.read_bytes()[:-20])
  resumed = launch.run(_config(), copy)
  said = capsys.readouterr().out
  assert "warning: a damaged checkpoint was set aside" in said
  assert "going on after step 2 of 8 (6 begun; 4 are taken again" in said
  assert resumed["params_sha256"] == whole["params_sha256"]
  assert [m["step"] for m in _metrics(copy)] == list(range(1, 9))
  assert (copy / "checkpoints" / "4.damaged1").exists()


def _damage_all(path):
  for step in (path / "checkpoints").iterdir():
    (step / "record" / "metadata").write_text("{")


@pytest.mark.slow
def test_without_any_good_checkpoint_a_seeded_run_begins_again(whole, copy):
  _damage_all(copy)
  with pytest.raises(checkpoint.CheckpointError, match="only damaged ones"):
    launch.run(_config(), copy)
  resumed = launch.run(_config(), copy)  # They are set aside now.
  assert resumed["params_sha256"] == whole["params_sha256"]
  assert all(m["epsilon"] > 0 for m in _metrics(copy))


@pytest.mark.slow
def test_without_any_good_checkpoint_a_lost_key_is_an_error(
    tmp_path, monkeypatch
):
  launch.kill_after(3, _config(seed=None), tmp_path)
  _damage_all(tmp_path)
  with pytest.raises(checkpoint.CheckpointError, match="only damaged ones"):
    launch.run(_config(seed=None), tmp_path)
  with pytest.raises(
      workdir_lib.WorkdirError, match="cost their privacy twice"
  ):
    launch.run(_config(seed=None), tmp_path)


def _refusal(path, config=None):
  """Goes on in a folder whose config.json does not tell the difference."""
  config = config or _config()
  (path / "config.json").unlink()
  with pytest.raises(workdir_lib.WorkdirError) as caught:
    workdir = workdir_lib.Workdir(path)
    experiment = experiment_lib.build(config)
    (path / "config.json").write_text(json.dumps(identity.plain(config)))
    train.run(experiment, workdir)
  return str(caught.value)


def test_checkpoints_of_another_config_are_refused(copy):
  text = _refusal(copy, _config(train__learning_rate=0.1))
  assert "checkpoints of this config" in text


def test_checkpoints_of_another_mechanism_are_refused(copy, monkeypatch):
  # As if a newer calibration found other noise for the same config.
  real = accounting.calibrate_noise

  def other(mechanism, **budget):
    return real(mechanism, **(budget | {"epsilon": 2.0}))

  monkeypatch.setattr(accounting, "calibrate_noise", other)
  text = _refusal(copy)
  assert "checkpoints of this mechanism" in text
  assert "differs in noise_multiplier" in text


def test_checkpoints_of_another_data_set_are_refused(copy, monkeypatch):
  real = sources.build_source

  def other(*args, **kwargs):
    source = real(*args, **kwargs)
    source.label_names = tuple(f"digit {i}" for i in range(10))
    return source

  monkeypatch.setattr(sources, "build_source", other)
  assert "checkpoints of this data set" in _refusal(copy)


def _pretend(monkeypatch, **changed):
  real = draws.versions()
  monkeypatch.setattr(draws, "versions", lambda: real | changed)


def test_other_versions_may_not_redraw_lost_steps(copy, monkeypatch):
  real = draws.versions()["draws"]
  _pretend(monkeypatch, draws="99.0")
  text = _refusal(copy)
  assert "Steps 5 to 6 were begun and lost" in text
  assert f"got draws {real} (now 99.0): other noise would" in text


@pytest.mark.parametrize("name", ["jax", "numpy", "jax-privacy-toolkit"])
def test_each_version_counts(copy, monkeypatch, capsys, name):
  workdir, saved_with = workdir_lib.Workdir(copy), draws.versions()
  _pretend(monkeypatch, **{name: "99.0"})
  with pytest.raises(
      workdir_lib.WorkdirError, match=rf"got {name} .*now 99\.0"
  ):
    resume._check_draws(saved_with, workdir, step=4)
  # With nothing lost there is nothing to redraw.
  resume._check_draws(saved_with, workdir, step=6)
  assert f"warning: saved with {name}" in capsys.readouterr().out


@pytest.mark.slow
def test_with_nothing_lost_other_versions_go_on(copy, monkeypatch, capsys):
  workdir = workdir_lib.Workdir(copy)
  workdir.write_steps_begun(4)
  mine = draws.versions()
  _pretend(monkeypatch, draws="99")
  launch.kill_after(1, _config(), copy)  # In step 6; 4 is saved.
  assert "warning: saved with draws" in capsys.readouterr().out
  assert workdir.read_steps_begun() == 6
  # The lost steps are of the versions that took them, not the checkpoint's.
  assert workdir.read_versions(after_step=4) == [draws.versions()]
  assert workdir.read_versions(after_step=3) == [mine, draws.versions()]
  _pretend(monkeypatch, draws=mine["draws"])
  assert "draws 99 (now 1)" in _refusal(copy)
  _pretend(monkeypatch, draws="99")
  assert launch.run(_config(), copy)["status"] == "finished"


def test_lost_steps_of_an_unknown_version_are_refused(copy):
  """A folder from before draws were written down."""
  (copy / "steps_begun.json").write_text('{"steps_begun": 6}')
  workdir = workdir_lib.Workdir(copy)
  assert workdir.read_versions(after_step=4) == [None]
  with pytest.raises(workdir_lib.WorkdirError, match="draws unknown .now 1."):
    resume._check_draws({}, workdir, step=4)
  resume._check_draws({}, workdir, step=6)  # Nothing is lost: a warning.


def test_without_a_checkpoint_other_versions_may_not_begin_again(
    copy, monkeypatch
):
  shutil.rmtree(copy / "checkpoints")
  _pretend(monkeypatch, draws="99")
  assert "Steps 1 to 6 were begun and lost" in _refusal(copy)


def test_no_step_is_taken_before_the_key_is_on_disk(tmp_path, monkeypatch):
  class DiskError(OSError):
    pass

  def fail(self, *args, **kwargs):
    raise DiskError("no space left on device")

  taken = []
  monkeypatch.setattr(checkpoint.Checkpoints, "save", fail)
  monkeypatch.setattr(
      loop, "train", lambda *args, **options: taken.append(args)
  )
  with pytest.raises(DiskError):
    launch.run(_config(), tmp_path)
  assert not taken and workdir_lib.Workdir(tmp_path).read_steps_begun() == 0


def test_steps_are_written_down_before_they_are_taken(tmp_path, monkeypatch):
  real, begun = loop.train, []

  def watched(experiment, state, **options):
    updates = real(experiment, state, **options)
    for _ in range(int(state.step), 8):
      begun.append(workdir_lib.Workdir(tmp_path).read_steps_begun())
      yield next(updates)

  monkeypatch.setattr(loop, "train", watched)
  launch.run(_config(log_every=3), tmp_path)
  assert begun == [3, 3, 3, 6, 6, 6, 8, 8]
