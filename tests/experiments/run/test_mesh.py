"""The launcher on several devices, and on several processes."""

import functools
import json
import os
import socket
import subprocess
import sys
import types

import jax
import numpy as np
import pytest

from experiments.plan import experiment as experiment_lib
from experiments.plan import fields, mesh
from experiments.run import devices, identity, loop, resume
from experiments.run import workdir as workdir_lib
from jax_privacy import batch_selection, checkpoint
from tests.support import launch

_STEPS = 4
# Devices for data and for parameters, and a physical batch size.
_SPLITS = ((4, 1, None), (2, 2, 8), (1, 8, None))
# Sums in another order, over four steps of training: relative to the largest
# parameter. Measured: 1.1e-7.
_BOUND = 1e-5
_FIELDS = {"train__num_steps": _STEPS, "save_every": 2, "log_every": 1}
_SETTINGS = [
    f"--config.{name.replace('__', '.')}={value}"
    for name, value in _FIELDS.items()
]
_RECIPES = {
    "classification": "digits_cnn",
    "table": "breast_cancer",
    "diffusion": "digits_diffusion",
}
_FLAGS = ["--config=configs/digits_cnn.py:smoke=True", *_SETTINGS]


def _environment():
  # Each process makes the CPU devices that its share of the mesh needs.
  kept = {k: v for k, v in os.environ.items() if k != "JAX_NUM_CPU_DEVICES"}
  return {**kept, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(launch.ROOT)}


def _last_params(path, config=None):
  """Parameters of the last checkpoint, read by this process alone."""
  config = config or launch.config(**_FIELDS)
  like = {"params": experiment_lib.build(config).model.params}
  with checkpoint.Checkpoints(path / "checkpoints", read_only=True) as saved:
    return saved.restore_latest(like).state["params"]


def _steps_told_of(path):
  lines = (path / "metrics.jsonl").read_text().splitlines()
  return [json.loads(line)["step"] for line in lines]


def _assert_near(got, want):
  got, want = (
      np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])
      for tree in (got, want)
  )
  assert got.shape == want.shape
  assert np.abs(got - want).max() <= _BOUND * np.abs(want).max()


@pytest.fixture(scope="module")
def on_one(tmp_path_factory):
  """Returns a function of a recipe: its parameters, trained on one device."""

  @functools.cache
  def train(recipe):
    path = tmp_path_factory.mktemp("one")
    config = launch.config(recipe, **_FIELDS)
    launch.run(config, path)
    return _last_params(path, config)

  return train


@pytest.fixture(scope="module")
def on_one_device(on_one):
  return on_one("digits_cnn")


def test_more_devices_than_there_are_is_said():
  with pytest.raises(ValueError, match="got 64 x 1.*JAX_NUM_CPU_DEVICES=64"):
    mesh.make_mesh(launch.config(mesh__data=64).mesh, physical_batch_size=None)
  with pytest.raises(ValueError, match="mesh.fsdp must be at least 1, got 0"):
    fields.check(launch.config(mesh__fsdp=0))
  with pytest.raises(
      ValueError, match="multiple of mesh.data x mesh.fsdp = 4, got 6"
  ):
    config = launch.config(mesh__data=4, physical_batch_size=6)
    mesh.make_mesh(config.mesh, physical_batch_size=config.physical_batch_size)


@pytest.mark.parametrize(
    "given, message",
    [
        ((None, 2, None), "must be given together, got None, 2 and None"),
        (("h:1", 3, 0), "got 3 for 4 devices and process_id 0"),
        (("h:1", 2, 2), "got 2 for 4 devices and process_id 2"),
        (("h:1", 0, 0), "got 0 for 4 devices"),
    ],
)
def test_flags_that_do_not_fit_are_named(given, message, monkeypatch):
  names = ("coordinator_address", "num_processes", "process_id")
  values = types.SimpleNamespace(**dict(zip(names, given, strict=True)))
  monkeypatch.setattr(devices.flags, "FLAGS", values)
  with pytest.raises(ValueError, match=message):
    devices.start(launch.config(mesh__data=4))


def test_audits_run_on_one_device():
  devices.check_one_device(launch.config())
  with pytest.raises(ValueError, match="must be 1 here.*got 2 and 1"):
    devices.check_one_device(launch.config(mesh__data=2))


def test_the_mesh_alone_may_change_on_a_resume(tmp_path):
  one, four = (launch.config(mesh__data=n) for n in (1, 4))
  workdir = workdir_lib.Workdir(tmp_path / "run")
  workdir.claim(one)
  workdir.claim(four)
  assert workdir.read_config()["mesh"] == {"data": 4, "fsdp": 1}
  other = launch.config(mesh__data=4, train__learning_rate=0.1)
  with pytest.raises(ValueError, match="differs in train.learning_rate"):
    workdir.claim(other)
  experiment = experiment_lib.build(one)
  facts = resume.facts(experiment)
  wanted = identity.json_sha256(identity.of_config(identity.plain(four)))
  assert facts["config_sha256"] == wanted


@pytest.mark.slow
@pytest.mark.parametrize(
    "data, fsdp, physical, task",
    [
        *((*split, "classification") for split in _SPLITS),
        # The loop is one: a table is split as images are, and draws of noise.
        (*_SPLITS[1], "table"),
        (*_SPLITS[1], "diffusion"),
    ],
)
def test_the_command_on_a_mesh(data, fsdp, physical, task, tmp_path, on_one):
  path, recipe = tmp_path / "run", _RECIPES[task]
  mesh = [f"--config.mesh.data={data}", f"--config.mesh.fsdp={fsdp}"]
  if physical is not None:
    mesh.append(f"--config.physical_batch_size={physical}")
  done = subprocess.run(
      [sys.executable, "-m", "experiments.train",
       f"--config=configs/{recipe}.py:smoke=True", *_SETTINGS, *mesh,
       f"--workdir={path}"],
      capture_output=True, text=True, cwd=launch.ROOT, env=_environment(),
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  summary = json.loads((path / "summary.json").read_text())
  assert summary["mesh"] == {"data": data, "fsdp": fsdp}
  assert _steps_told_of(path) == list(range(1, _STEPS + 1))
  params = _last_params(path, launch.config(recipe, **_FIELDS))
  assert summary["params_sha256"] == checkpoint.tree_sha256(params)
  _assert_near(params, on_one(recipe))


def _run_processes(path, *flags, stop_after=None):
  """Runs two processes on the loopback; returns what each tells."""
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  told = [path.with_suffix(f".{i}.json") for i in range(2)]
  processes = []
  for i in range(2):
    # The first is never asked to stop: it has to be told by the second.
    stop = [f"--stop_after={stop_after}"] if stop_after and i == 1 else []
    processes.append(
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.mesh_process",
             *_FLAGS, *flags, *stop,
             f"--workdir={path}", f"--told={told[i]}",
             f"--coordinator_address=127.0.0.1:{port}",
             "--num_processes=2", f"--process_id={i}"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            cwd=launch.ROOT, env=_environment(),
        )
    )  # fmt: skip
  outputs = [process.communicate()[0] for process in processes]
  for process, output in zip(processes, outputs, strict=True):
    assert process.returncode == 0, output
  return [json.loads(file.read_text()) for file in told]


@pytest.mark.slow
@pytest.mark.parametrize("data, fsdp", [(2, 1), (2, 2)])
def test_two_processes_do_as_one(data, fsdp, tmp_path, on_one_device):
  path = tmp_path / "run"
  told = _run_processes(
      path, f"--config.mesh.data={data}", f"--config.mesh.fsdp={fsdp}"
  )
  # Each asked for its own half of every batch, and for nothing else.
  sampler = experiment_lib.build(launch.config(**_FIELDS)).dp_training.sampler
  assert [len(t["asked"]) for t in told] == [_STEPS, _STEPS]
  for step in range(_STEPS):
    halves = [np.array(t["asked"][step]) for t in told]
    assert len(halves[0]) == len(halves[1])
    real = [h[h >= 0] for h in halves]
    assert not set(real[0]) & set(real[1])
    drawn = sampler.batches.batch(step)
    np.testing.assert_array_equal(np.sort(np.concatenate(real)), np.sort(drawn))
    padded = batch_selection.pad_to_size(drawn, 2 * len(halves[0]))
    dealt = batch_selection.deal(padded, num_devices=data * fsdp)
    np.testing.assert_array_equal(np.concatenate(halves), dealt)
  # The same parameters in both, to the bit; saved and told of once.
  params = _last_params(path)
  digest = checkpoint.tree_sha256(params)
  assert [t["params_sha256"] for t in told] == [digest, digest]
  summary = json.loads((path / "summary.json").read_text())
  assert summary["params_sha256"] == digest
  assert _steps_told_of(path) == list(range(1, _STEPS + 1))
  _assert_near(params, on_one_device)


@pytest.mark.slow
def test_a_run_of_two_processes_goes_on_in_one(tmp_path, on_one_device):
  path = tmp_path / "run"
  told = _run_processes(
      path, "--config.mesh.data=2", "--config.mesh.fsdp=2", stop_after=3
  )
  assert [t["step"] for t in told] == [3, 3]
  assert not (path / "summary.json").exists()
  launch.run(launch.config(**_FIELDS), path)
  assert _steps_told_of(path) == list(range(1, _STEPS + 1))
  _assert_near(_last_params(path), on_one_device)


@pytest.mark.slow
def test_two_processes_go_on_to_the_same_bits(tmp_path):
  mesh = ["--config.mesh.data=1", "--config.mesh.fsdp=2"]
  whole = _run_processes(tmp_path / "whole", *mesh)
  _run_processes(tmp_path / "broken", *mesh, stop_after=3)
  resumed = _run_processes(tmp_path / "broken", *mesh)
  assert len(resumed[0]["asked"]) == _STEPS - 3
  digests = {told["params_sha256"] for told in (*whole, *resumed)}
  assert len(digests) == 1
  assert _steps_told_of(tmp_path / "broken") == list(range(1, _STEPS + 1))


@pytest.mark.slow
def test_without_a_seed_processes_share_the_primarys_key(tmp_path):
  path = tmp_path / "run"
  told = _run_processes(path, "--config.mesh.data=2", "--no_seed", stop_after=3)
  assert told[0]["params_sha256"] == told[1]["params_sha256"]
  config = launch.config(**_FIELDS, seed=None)
  like = {"run_key": loop.init_state(experiment_lib.build(config)).run_key}
  with checkpoint.Checkpoints(path / "checkpoints", read_only=True) as saved:
    before = saved.restore_latest(like).state["run_key"]
  launch.run(config, path)
  with checkpoint.Checkpoints(path / "checkpoints", read_only=True) as saved:
    restored = saved.restore_latest(like)
  assert restored.step == _STEPS
  np.testing.assert_array_equal(restored.state["run_key"], before)
