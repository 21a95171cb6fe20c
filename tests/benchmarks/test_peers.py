"""The comparison with other libraries, as far as it goes without a network."""

import contextlib
import doctest
import importlib
import json
import math
import sys

import jax
import numpy as np
import pytest
import rich.console
from flax import nnx

from benchmarks import _peer_environments, _peer_race, _peer_table, peers
from benchmarks._peer_environments import PeerError, Worker
from benchmarks.peer_workers import peer_networks
from jax_privacy import models, weight_standardisation

_MLP = peer_networks.NETWORKS["mlp"]


def _text(records):
  console = rich.console.Console(width=100)
  with console.capture() as captured:
    console.print(_peer_table.build(records))
  return captured.get()


def _record(library="ours", method="ghost", **fields):
  return {
      "network": "mlp",
      "batch_size": 8,
      "library": library,
      "method": method,
      "label": f"{library} {method}",
      **fields,
  }


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("--models=mlp,lstm", "models must be among wrn, wrn_ws, transformer"),
        ("--models=mlp,mlp", "models must be among"),
        ("--batch-size=0", "must be a positive integer, got '0'"),
        ("--seconds=nan", "must be positive, got 'nan'"),
        ("--seconds=-1", "must be positive, got '-1'"),
        ("--rounds=1", "must be at least 2, got '1'"),
    ],
)
def test_bad_flags_are_refused(flag, text, capsys):
  with pytest.raises(SystemExit) as caught:
    peers.main([flag])
  assert caught.value.code == 2
  assert text in capsys.readouterr().err


def test_a_file_of_records_becomes_a_table(tmp_path, capsys):
  path = tmp_path / "peers.json"
  reason = "E: got [1]"
  records = [
      _record(step_seconds=[0.3, 0.1, 0.2], threads=2, num_parameters=1234567),
      _record("opacus", "hooks", step_seconds=[0.4, 0.4, 0.4]),
      _record("jax-privacy", "default", error=reason),
  ]
  _peer_table.write(records, path)
  assert [json.loads(x) for x in path.read_text().splitlines()] == records
  # 8 examples in the median of 0.2 s are 40 a second, in 0.4 s half of that.
  ours, opacus, broken = (
      next(line for line in _text(records).splitlines() if r["label"] in line)
      for r in records
  )
  assert "40" in ours and "200" in ours and "150-250" in ours
  assert " 20 " in opacus and " 0.5 " in opacus
  assert reason in broken and " - " in broken
  assert "1,234,567 parameters" in _text(records)
  # A contestant without a time is a failure, told with its reason.
  assert peers.main([f"--show={path}"]) == 1
  assert "jax-privacy default: E:" in capsys.readouterr().out
  _peer_table.write(records[:2], path)
  assert peers.main([f"--show={path}"]) == 0


@pytest.mark.parametrize(
    ("norms", "text"),
    [
        ({"a": 3.0, "b": 4.001}, "within 0.0001, got a difference of 0.0002"),
        ({"a": 3.0}, r"got \['b'\] amiss"),
        ({"a": 3.0, "b": math.nan}, "norm must be <= 6.0, got nan"),
        ({"a": 30.0, "b": 40.0}, "norm must be <= 6.0, got 50.0"),
    ],
)
def test_a_wrong_sum_is_caught(norms, text):
  reference = {"a": 3.0, "b": 4.0}
  result = _peer_table.check(reference, reference, norm_bound=6.0)
  assert result == {"norm": 5.0, "deviation": 0.0}
  with pytest.raises(ValueError, match=text):
    _peer_table.check(norms, reference, norm_bound=6.0)


class _Fake:
  """A worker whose steps take a second each, and whose norms are given."""

  def __init__(self, log, name, norms):
    self.facts = {"versions": {name: "1"}, "threads": 1}
    self._log, self._name, self._norms = log, name, norms

  def ask(self, do, **request):
    self._log.append((do, self._name, request.get("method")))
    if do == "prepare":
      return {
          "leaf_norms": self._norms,
          "num_parameters": 1,
          "first_seconds": 9.0,
          "warm_seconds": 1.0,
      }
    return {"seconds": float(request["steps"])} if do == "round" else {}


@pytest.fixture
def no_pause(monkeypatch):
  monkeypatch.setattr(_peer_race, "_PAUSE", 0.0)


def test_rounds_are_interleaved_and_every_gap_has_a_reason(no_pause):
  log = []
  right, wrong = {"a": 1.0}, {"a": 2.0}
  workers = {
      "ours": _Fake(log, "ours", right),
      "opacus": _Fake(log, "opacus", wrong),
      "jax-privacy": PeerError("no such version"),
  }
  records = _peer_race.measure(
      workers, "mlp", batch_size=2, seconds=6.0, rounds=3
  )
  # All of jax-privacy and Opacus fail, the latter by its sums: against vmap's
  # for the private methods, and against JAX's for the plain gradient.
  errors = {r["label"]: r.get("error", "") for r in records}
  assert len(errors) == len(_peer_race.CONTESTANTS)
  assert errors["jax-privacy clipped_grad"] == "no such version"
  for label in ("Opacus hooks", "Opacus ghost", "non-private PyTorch"):
    assert "must be the others'" in errors[label]
  rounds = [method for do, _, method in log if do == "round"]
  assert rounds == [
      *("ghost", "vmap", "none"),
      *("vmap", "none", "ghost"),
      *("none", "ghost", "vmap"),
  ]
  assert [r["step_seconds"] for r in records if "error" not in r] == [
      [1.0, 1.0, 1.0]
  ] * 3
  assert log[-1][0] == "release"


def test_a_slow_step_gets_two_rounds_and_no_more(no_pause):
  workers = {
      "ours": _Fake([], "ours", {"a": 1.0}),
      "jax-privacy": _Fake([], "jax-privacy", {"a": 1.0}),
  }
  records = _peer_race.measure(
      workers, "wrn_ws", batch_size=2, seconds=0.5, rounds=9
  )
  assert [r["step_seconds"] for r in records] == [[1.0, 1.0]] * 5


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
  made = Worker(
      sys.executable,
      script="worker_jax.py",
      argument="jax-privacy-toolkit",
      log=tmp_path_factory.mktemp("worker") / "log",
      ours=True,
  )
  with contextlib.closing(made):
    yield made


@pytest.fixture
def jax_losses(monkeypatch):
  """The module of losses, imported as a worker does."""
  folder = _peer_environments._WORKERS
  monkeypatch.syspath_prepend(str(folder))
  with jax.numpy_rank_promotion("allow"):  # As in the worker.
    yield importlib.import_module("peer_networks_jax")
  for name in ("peer_networks_jax", "peer_networks"):
    sys.modules.pop(name, None)


def _oracle(loss, network, batch_size):
  """Norms of the clipped sum's parts: one jax.grad an example, NumPy."""
  params = peer_networks.parameters(network)
  inputs, labels = peer_networks.batch(network, batch_size=batch_size)
  total = {name: np.zeros(shape) for name, shape in network.shapes.items()}
  norms = []
  for i in range(batch_size):
    grads = jax.grad(loss)(params, inputs[i : i + 1], labels[i : i + 1])
    grads = {k: np.asarray(g, np.float64) for k, g in grads.items()}
    norms.append(np.sqrt(sum(np.sum(g**2) for g in grads.values())))
    for name, grad in grads.items():
      total[name] += grad * min(1.0, network.clip_norm / norms[-1])
  assert min(norms) < network.clip_norm < max(norms)
  return {name: np.linalg.norm(value) for name, value in total.items()}


@pytest.mark.slow
def test_our_worker_answers(worker, jax_losses):
  assert worker.facts["versions"].keys() > {"jax-privacy-toolkit", "jax"}
  expected = _oracle(jax_losses.loss_fn("mlp"), _MLP, 2)
  for method in ("vmap", "ghost"):
    answer = worker.ask(
        do="prepare", network="mlp", method=method, batch_size=2
    )
    assert answer["num_parameters"] == _MLP.num_parameters
    for name, norm in expected.items():
      np.testing.assert_allclose(answer["leaf_norms"][name], norm, rtol=1e-5)
    assert worker.ask(do="round", method=method, steps=2)["seconds"] > 0
  # An error is an answer, and the worker goes on.
  with pytest.raises(PeerError, match="method must be one of"):
    worker.ask(do="prepare", network="mlp", method="magic", batch_size=2)
  assert worker.ask(do="release") == {}
  with pytest.raises(PeerError, match="KeyError: 'vmap'"):
    worker.ask(do="round", method="vmap", steps=1)


@pytest.mark.slow
def test_a_dead_worker_says_how_it_ended(worker):
  # The last that asks it.
  worker._process.kill()
  with pytest.raises(PeerError, match="ended with status -9"):
    worker.ask(do="release")


@pytest.mark.slow
def test_our_library_does_not_pass_for_its_namesake(tmp_path):
  with pytest.raises(PeerError, match="ended with status 1: .*jax-privacy$"):
    Worker(
        sys.executable,
        script="worker_jax.py",
        argument="jax-privacy",
        log=tmp_path / "log",
    )


def test_an_environment_is_built_once_for_its_pins(tmp_path, monkeypatch):
  commands = []

  def run(command):
    commands.append(command)
    if "venv" in command:
      (tmp_path / "jax" / "bin").mkdir(parents=True, exist_ok=True)
      (tmp_path / "jax" / "bin" / "python").touch()
    if "first==1" in command or "fourth==4" in command:
      raise PeerError("ERROR: no matching distribution")

  monkeypatch.setattr(_peer_environments, "_run", run)
  environment = _peer_environments.Environment(
      "jax", (("first==1",), ("second==2",))
  )
  python = _peer_environments.build(environment, tmp_path)
  assert python == tmp_path / "jax" / "bin" / "python"
  assert len(commands) == 3  # The venv, and two attempts.
  _peer_environments.build(environment, tmp_path)
  assert len(commands) == 3
  # Other pins: built again. Where none installs, nothing is left to be used.
  other = _peer_environments.Environment("jax", (("fourth==4",),))
  for _ in range(2):
    with pytest.raises(PeerError, match="no matching distribution"):
      _peer_environments.build(other, tmp_path)
  assert len(commands) == 7


def test_a_failed_command_gives_its_error_line():
  script = "import sys; sys.exit('note\\nERROR: no torch\\nnote')"
  with pytest.raises(PeerError, match="^ERROR: no torch$"):
    _peer_environments._run([sys.executable, "-c", script])


@pytest.mark.slow
def test_wrn_has_the_parameters_of_the_library_s_own():
  own = models.wide_resnet.WideResNet(rngs=nnx.Rngs(0), depth=16, width=4)
  _, params = models.functional(own)
  count = sum(x.size for x in jax.tree.leaves(params))
  assert peer_networks.NETWORKS["wrn_ws"].num_parameters == count


def test_plain_weight_standardisation_is_the_library_s(jax_losses):
  # A worker of jax-privacy has only the plain formula; a run's check of its
  # sum against ours would fail if the two differed.
  rng = np.random.default_rng(0)
  kernel = rng.normal(size=(3, 3, 4, 5)).astype(np.float32)
  gain = rng.normal(size=5).astype(np.float32)
  plain = jax_losses._standardise(kernel, gain)
  ours = weight_standardisation.standardise_weight(kernel, gain)
  np.testing.assert_allclose(plain, ours, rtol=1e-5)


def test_doctests_of_the_workers(jax_losses):
  # Those that need no peer; the rest have no example to run.
  for module in (peer_networks, jax_losses, _peer_table, _peer_race, peers):
    result = doctest.testmod(module)
    assert result.attempted and not result.failed
