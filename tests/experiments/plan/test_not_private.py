"""`dp.enabled=False`: the same batches, plain gradients, and NOT PRIVATE."""

import doctest
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import experiments
from accounting import budget
from experiments import train
from experiments.audits import canaries, replay
from experiments.evaluation import evaluate_run, saved
from experiments.plan import experiment as experiment_lib
from experiments.plan import fields, not_private
from experiments.run import data_digest, identity, loop, resume
from experiments.run import summary as summary_lib
from experiments.run import workdir as workdir_lib
from tests.support import fuzz, launch

_OFF = {"dp__enabled": False, "log_every": 1, "save_every": 1}
_PRIVATE_WORDS = ("epsilon", "delta", "noise_multiplier", "l2_clip_norm")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A finished run's folder, and what was printed of it."""
  path = tmp_path_factory.mktemp("run") / "digits"
  process = launch.command(
      "experiments.train",
      *(launch.linear_recipe(tmp_path_factory.mktemp("recipe")),),
      f"--workdir={path}",
      "--config.dp.enabled=False",
      "--config.log_every=1",
  )
  assert process.returncode == 0, process.stderr
  return path, process.stdout


def test_examples_of_the_module():
  options = doctest.NORMALIZE_WHITESPACE
  assert doctest.testmod(not_private, optionflags=options).failed == 0


def test_batches_are_those_of_the_private_run_and_steps_are_plain_gradients():
  private = experiment_lib.build(launch.linear())
  plain = experiment_lib.build(launch.linear(**_OFF))
  assert plain.mechanism.num_steps == private.mechanism.num_steps == 3
  rate = plain.config.train.learning_rate
  params = jax.device_get(plain.model.params)  # The loop gives them away.

  @jax.jit
  @jax.grad
  def mean_grad(params, batch, keys):
    losses = jax.vmap(plain.model.loss_fn, in_axes=(None, 0, 0))(
        params, batch, keys
    )
    return jnp.sum(losses) / 16  # The expected batch size.

  states = loop.train(plain, loop.init_state(plain))
  for step, (state, _) in enumerate(states):
    indices = private.dp_training.sampler.batches.batch(step)
    np.testing.assert_array_equal(
        indices, plain.dp_training.sampler.batches.batch(step)
    )
    keys = jax.random.split(jax.random.key(0), len(indices))  # Not used.
    batch = plain.train_source[indices]
    grads = mean_grad(params, batch, keys)
    params = jax.tree.map(lambda p, g: p - rate * g, params, grads)
    # A sum of some 16 gradients of size 1, in another order: 1e-6 each.
    jax.tree.map(
        lambda got, want: np.testing.assert_allclose(got, want, atol=1e-4),
        jax.device_get(state.params),
        params,
    )


def test_no_noise_is_looked_for_where_it_decides_nothing(monkeypatch):
  """And none need be stated, nor a delta."""

  def forbidden(*args, **kwargs):
    raise AssertionError("the accountant was asked")

  for name in ("calibrate_noise", "epsilon", "epsilon_curve"):
    monkeypatch.setattr(f"accounting.{name}", forbidden)
  none = {"dp__epsilon": None, "dp__delta": None}
  for changes in ({}, none, {"dp__auto_tune": "noise_multiplier"}):
    config = launch.linear(**_OFF, **changes)
    assert experiment_lib.build(config).mechanism.num_steps == 3


def test_a_budget_that_cuts_a_run_short_cuts_this_one_too():
  changes = {"dp__noise_multiplier": 1.0, "dp__epsilon": 0.3}
  changes["train__num_steps"] = 40
  private = experiment_lib.build(launch.linear(**changes))
  plain = experiment_lib.build(launch.linear(**_OFF, **changes))
  assert plain.mechanism.num_steps == private.mechanism.num_steps < 40


def test_everything_that_is_written_says_so(run):
  path, printed = run
  summary = json.loads((path / "summary.json").read_text())
  assert summary["private"] is False
  assert summary["NOT PRIVATE"] == not_private.SENTENCE
  for name in (*_PRIVATE_WORDS, "epsilon_target", "accountant", "generator"):
    assert summary[name] is None, name
  assert summary["sampling_prob"] > 0 and summary["expected_batch_size"] == 16
  config = json.loads((path / "config.json").read_text())
  assert config["NOT PRIVATE"] == not_private.SENTENCE
  lines = [
      json.loads(line)
      for line in (path / "metrics.jsonl").read_text().splitlines()
  ]
  assert [line["epsilon"] for line in lines] == [None] * 3
  assert printed.count("NOT PRIVATE") == 1 + 3 + 1  # Before, each step, after.
  assert "-DP" not in printed and "epsilon" not in printed
  assert "release of a private model" not in printed


def test_whatever_uses_the_model_says_so(run, capsys):
  path, _ = run
  found = saved.load(path)
  evaluate_run.evaluate(found, json_file=str(path / "eval.json"))
  assert "NOT PRIVATE" in capsys.readouterr().out
  assert json.loads((path / "eval.json").read_text())["private"] is False
  model = experiments.load(path)
  assert model.statement == not_private.SENTENCE
  told = model.metadata()["privacy"]
  assert told["private"] is False
  assert {told[name] for name in ("epsilon", "delta", "mechanism")} == {None}


@pytest.mark.slow
def test_a_run_that_begins_with_it_says_so(run, tmp_path, capsys):
  path, _ = run
  config = launch.linear(model__restore__path=str(path))
  with pytest.raises(ValueError, match="same training examples and is NOT PR"):
    launch.run(config, tmp_path / "same")
  # As if its data were others.
  with pytest.MonkeyPatch.context() as patched:
    patched.setattr(data_digest, "check_public", lambda *_, **__: None)
    summary = launch.run(config, tmp_path / "next")
  assert summary["restored_from"]["private"] is False
  capsys.readouterr()
  summary_lib.show(summary)
  assert "from a run that was NOT PRIVATE" in capsys.readouterr().out
  assert budget.main(["report", str(tmp_path / "next")]) == 0
  printed = " ".join(capsys.readouterr().out.split())
  assert "The run that they come from was NOT PRIVATE." in printed


def test_every_question_of_privacy_is_refused_by_name(run, tmp_path, capsys):
  path, _ = run
  assert budget.main(["report", str(path)]) == 2
  assert "must hold a private run" in capsys.readouterr().err
  config = launch.linear(**_OFF)
  experiment = experiment_lib.build(config)
  asked = {
      "be audited": lambda: canaries.build(
          canaries.add_to_config(config, canary="dirac", num_canaries=20)
      ),
      "be replayed": lambda: replay.check(experiment, max_examples=2),
      "have an epsilon": lambda: resume.epsilon_spent(experiment, 2),
      "have a sensitivity": experiment.dp_training.grad_fn.sensitivity,
  }
  for what, ask in asked.items():
    with pytest.raises(ValueError) as raised:
      ask()
    fuzz.assert_clear(raised.value, f"dp.enabled must be True to {what}, got")


def test_it_cannot_be_taken_for_a_private_run(run, tmp_path, capsys):
  """Not by a summary that claims an epsilon beside the config."""
  path, _ = run
  private = launch.run(launch.linear(log_every=1), tmp_path / "private")
  forged = tmp_path / "forged"
  forged.mkdir()
  (forged / "summary.json").write_text(json.dumps(private))
  for name in ("config.json", "steps_begun.json"):
    (forged / name).write_text((path / name).read_text())
  assert budget.main(["report", str(forged)]) == 2
  assert "dp.enabled must be True in config.json" in capsys.readouterr().err
  # Neither run goes on as the other.
  for folder, config in (
      (path, launch.linear(log_every=1)),
      (tmp_path / "private", launch.linear(**_OFF)),
  ):
    with pytest.raises(workdir_lib.WorkdirError, match="dp.enabled"):
      workdir_lib.Workdir(folder).check(config)


@pytest.mark.slow
def test_a_run_that_is_stopped_says_so_and_goes_on(tmp_path, capsys):
  config = launch.linear(**_OFF)
  workdir = workdir_lib.Workdir(tmp_path / "run")

  class Stop:
    requested = True

  assert train.run(experiment_lib.build(config), workdir, stop=Stop()) is None
  out = capsys.readouterr().out
  assert "to be continued" in out and "NOT PRIVATE. The same" in out
  assert "-DP" not in out
  whole = launch.run(config, tmp_path / "whole")
  resumed = train.run(experiment_lib.build(config), workdir)
  assert resumed["params_sha256"] == whole["params_sha256"]


@pytest.mark.parametrize(
    "changes, wanted",
    [
        ({"train_metrics": True}, "train_metrics must be False where dp.enab"),
        ({"dp__grid_scale": 65536}, "dp.grid_scale must be None where dp.en"),
    ],
)
def test_what_clipping_alone_has_is_refused(changes, wanted):
  with pytest.raises(ValueError) as raised:
    fields.check(launch.linear(**_OFF, **changes))
  fuzz.assert_clear(raised.value, wanted)


def test_older_runs_were_private():
  held = identity.plain(launch.linear())
  older = json.loads(json.dumps(held))
  del older["dp"]["enabled"], older["eval"]["metrics"]
  assert identity.of_config(older) == identity.of_config(held)
  off = identity.plain(launch.linear(**_OFF))
  names = identity.differing_fields(
      identity.of_config(older), identity.of_config(off)
  )
  assert "dp.enabled" in set(names)
