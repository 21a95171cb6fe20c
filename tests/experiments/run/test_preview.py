"""`--show`: every field in words, and what the run would be."""

import re

import numpy as np
import pytest

from configs import fields
from experiments.plan import experiment as experiment_lib
from experiments.run import preview, summary
from tests.support import launch


def test_every_field_is_shown_with_value_default_meaning_and_rule(capsys):
  preview.show_fields(launch.linear(seed=None, dp__epsilon=1.5))
  printed = capsys.readouterr().out
  for row in fields.table():
    assert printed.count(f"  {row.name} = ") == 1, row.name
    assert f"{row.meaning} Rule: {row.rule}" in printed
  assert "  dp.epsilon = 1.5  (number; by default None)" in printed
  assert '  dp.accountant = "pld"  (text; the default)' in printed
  assert "  model.options = {}  (options; the default)" in printed


def test_what_the_run_would_be_is_what_it_is(capsys):
  experiment = experiment_lib.build(launch.linear())
  preview.show_run(experiment)
  printed = capsys.readouterr().out
  released = summary.privacy(experiment.config, experiment.mechanism)
  assert "guarantee: (3.000, 0.0001)-differential privacy for add or" in printed
  assert f"noise multiplier: {released['noise_multiplier']}" in printed
  assert "  steps: 3\n" in printed and "  parameters: 650\n" in printed
  assert f"padded to: {list(experiment.dp_training.sampler.sizes)}" in printed
  # Of float32: 650 parameters, as many of the mean, and of the sum.
  assert "parameters 0.00248 MiB" in printed
  assert "sum of gradients 0.00248 MiB" in printed
  # 8 x 8 pixels and a label of 4 bytes.
  size = max(experiment.dp_training.sampler.sizes) * 68 / 2**20
  assert f"largest batch {size:.3g} MiB" in printed


def test_a_compiled_step_says_what_it_needs(capsys):
  experiment = experiment_lib.build(launch.linear())
  preview.show_run(experiment)
  assert "--show=memory compiles a step" in capsys.readouterr().out
  preview.show_run(experiment, with_memory=True)
  printed = capsys.readouterr().out
  at_once = float(re.search(r"compiled step: ([\d.e-]+) MiB", printed)[1])
  # At least the largest batch, the parameters and the sum of gradients.
  size = max(experiment.dp_training.sampler.sizes)
  assert at_once >= (size * 68 + 2 * 650 * 4) / 2**20
  assert re.search(r"space: clipped gradients [\d.e-]+ MiB, update", printed)


def test_a_run_without_privacy_says_so(capsys):
  experiment = experiment_lib.build(launch.linear(dp__enabled=False))
  preview.show_run(experiment)
  printed = capsys.readouterr().out
  assert "NOT PRIVATE" in printed
  assert not re.search("epsilon|delta|noise multiplier", printed)


@pytest.mark.few(1)
@pytest.mark.parametrize("flag", ["--show", "--show=maybe", ""])
def test_nothing_is_trained_or_written(tmp_path, flag):
  recipe = launch.linear_recipe(tmp_path)
  before = sorted(tmp_path.iterdir())
  flags = [flag] if flag else []
  process = launch.command("experiments.train", recipe, *flags)
  if flag != "--show":
    assert process.returncode == 2
    assert process.stderr.count("\n") == 1
  if flag == "--show=maybe":
    assert "--show=maybe: must be true, false or memory" in process.stderr
    return
  if not flag:
    assert "--workdir must be given, or --show" in process.stderr
    return
  assert process.returncode == 0, process.stderr
  assert "step 1/3" not in process.stdout and "  steps: 3\n" in process.stdout
  # Python's own cache of the recipe is no file of ours.
  after = [path for path in sorted(tmp_path.iterdir()) if path.suffix == ".py"]
  assert after == before


def test_no_example_is_read(monkeypatch):
  """Of the training data only padding is asked for."""
  experiment = experiment_lib.build(launch.linear())
  asked = []
  source = experiment.train_source
  read = type(source).__getitem__

  def note(self, indices):
    asked.extend(np.asarray(indices).tolist())
    return read(self, indices)

  monkeypatch.setattr(type(source), "__getitem__", note)
  preview.show_run(experiment)
  assert set(asked) == {-1}
