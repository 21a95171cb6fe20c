"""Averages by name: in the state, the checkpoint, the summary and on screen."""

import jax
import numpy as np
import pytest

from experiments.metrics import estimate
from experiments.plan import averages, fields
from experiments.plan import experiment as experiment_lib
from experiments.run import loop as loop_lib
from experiments.run import summary as summary_lib
from tests.support import launch

_DECAYS = (0.15, 0.9)
_NAMES = ("last", "ema", "ema_0.9", "polyak")


# A kernel of each task's model.
_KERNELS = {"classification": "linear", "table": "numbers", "diffusion": "out"}


@pytest.fixture(scope="module", params=launch.EACH_TASK)
def finished(request, tmp_path_factory):
  """A run's config, summary and folder, and its parameters at each step."""
  config = launch.TASKS[request.param](
      train__num_steps=4,
      train__ema_decays=_DECAYS,
      train__polyak_start=0.5,
      eval__params="ema_0.9",
  )
  iterates, loop = [], loop_lib.train

  def recorded(experiment, state, **options):
    iterates.append(jax.device_get(state.params))
    for update in loop(experiment, state, **options):
      iterates.append(jax.device_get(update[0].params))
      yield update

  path = tmp_path_factory.mktemp("run")
  with pytest.MonkeyPatch.context() as patched:
    patched.setattr(loop_lib, "train", recorded)
    summary = launch.run(config, path)
  return config, summary, path, iterates


def _by_hand(values):
  """The averages of one parameter's values, before the first step and after."""
  emas = []
  for decay in _DECAYS:
    average = values[0]
    for t, value in enumerate(values[1:]):
      d = min(decay, (1 + t) / (10 + t))
      average = d * average + (1 - d) * value
    emas.append(average)
  # From half of 4 updates on: those after the third and the fourth.
  polyak = (values[3] + values[4]) / 2
  return dict(zip(_NAMES, (values[-1], *emas, polyak), strict=True))


def test_a_checkpoint_holds_each_average_by_its_name(finished):
  config, _, path, iterates = finished
  params = experiment_lib.build(config).model.params
  step, by_name, _ = averages.restore(
      path / "checkpoints", config.train, params
  )
  assert step == 4 and tuple(by_name) == _NAMES
  part = _KERNELS[config.task.name]
  kernels = [np.float64(p[part]["kernel"]) for p in iterates]
  want = _by_hand(kernels)
  for name in _NAMES:
    got = by_name[name][part]["kernel"]
    np.testing.assert_allclose(got, want[name], rtol=1e-4, atol=1e-6)
  # They are four different things, so that no two can be mixed up unseen.
  means = {round(float(np.mean(v)), 5) for v in want.values()}
  assert len(means) == 4


def test_the_summary_tells_of_each(finished, capsys):
  _, summary, _, _ = finished
  head = summary["headline"]
  values, chosen = head["values"], head["values"]["ema_0.9"]
  assert tuple(values) == _NAMES
  # One result, of the parameters that eval.params chose.
  assert (head["params"], head["value"]) == ("ema_0.9", chosen)
  assert values["last"] != chosen
  if head["metric"] == "accuracy":
    assert values == summary["test_accuracies"]
    assert chosen == summary["test_accuracy"]
    assert values["ema"] == summary["test_accuracy_ema"]
  summary_lib.show(summary)
  printed = capsys.readouterr().out
  told = estimate.shown(chosen, is_share=head["is_share"])
  begins = f"test {head['metric']} {told} (ema_0.9 parameters;"
  assert printed.startswith(begins)


def test_other_averages_than_were_saved_are_refused(finished):
  config, _, path, _ = finished
  params = experiment_lib.build(config).model.params
  config = config.copy_and_resolve_references()
  config.train.ema_decays = (0.15, 0.8)
  with pytest.raises(ValueError, match=r"must hold averages\['ema_0.8'\].*got"):
    averages.restore(path / "checkpoints", config.train, params)


@pytest.mark.slow
def test_evaluation_reads_parameters_by_name(finished):
  _, summary, path, _ = finished
  process = launch.command(
      "experiments.evaluate", f"--workdir={path}", "--params=polyak"
  )
  assert process.returncode == 0, process.stderr
  assert "polyak parameters of step 4" in process.stdout
  head = summary["headline"]
  value = head["values"]["polyak"]
  told = estimate.shown(value, is_share=head["is_share"])
  assert f"\n{head['metric']} {told}" in process.stdout
  process = launch.command(
      "experiments.evaluate", f"--workdir={path}", "--params=ema_0.8"
  )
  assert process.returncode == 2
  assert "params must be one of last, ema, ema_0.9, polyak" in process.stderr


def test_the_last_update_is_in_a_polyak_mean_however_late_it_starts():
  config = launch.config(train__polyak_start=0.99)
  polyak = averages.build(config.train, num_steps=3)["polyak"]
  state = polyak.init(np.float32(5.0))
  for value in (1.0, 2.0, 4.0):
    state = polyak.update(np.float32(value), state)
  assert float(state.average) == 4.0


def test_a_config_of_the_older_layout_is_refused_with_its_reason():
  stored = launch.config().to_dict()
  stored["train"]["ema_decay"] = 0.9
  with pytest.raises(ValueError, match="train.ema_decays, got train.ema_decay"):
    fields.from_json(stored)
