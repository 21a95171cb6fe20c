"""`experiments.audit --replay`: passes on a config, fails on a fault."""

import jax
import pytest

from experiments.audits import replay
from experiments.plan import experiment as experiment_lib
from jax_privacy import testing
from tests.support import launch


@pytest.mark.parametrize("task", launch.EACH_TASK)
def test_the_command_passes_and_says_what_was_seen(task, tmp_path):
  recipes = {
      "classification": launch.linear_recipe(tmp_path),
      "table": "--config=configs/breast_cancer.py:smoke=True",
      "diffusion": "--config=configs/digits_diffusion.py:smoke=True",
  }
  process = launch.command(
      "experiments.audit",
      recipes[task],
      "--replay",
      "--max_examples=2",
  )
  assert process.returncode == 0, process.stderr
  assert process.stdout.startswith("Passed, on ")
  assert "add_or_remove_one: moved by at most" in process.stdout
  assert process.stdout.count("(private, not for release)") == 3
  assert "noise: standard deviation" in process.stdout


@pytest.mark.slow
@pytest.mark.parametrize("task", launch.EACH_TASK)
def test_a_run_that_clips_too_little_fails(task):
  experiment = experiment_lib.build(launch.TASKS[task]())
  private = experiment.dp_training

  class Doubled:
    """Twice the sum, claimed as once."""

    has_aux = True

    def __call__(self, *args, **kwargs):
      total, aux = private.grad_fn(*args, **kwargs)
      return jax.tree.map(lambda g: 2 * g, total), aux

    def sensitivity(self, relation):
      return private.grad_fn.sensitivity(relation)

  doubled = private._replace(grad_fn=Doubled())
  object.__setattr__(experiment, "dp_training", doubled)
  with pytest.raises(testing.SensitivityError, match="add_or_remove_one"):
    replay.check(experiment, max_examples=2)


def test_a_command_without_a_check_is_a_mistake():
  process = launch.command(
      "experiments.audit", "--config=configs/digits_cnn.py:smoke=True"
  )
  assert process.returncode == 2
  assert process.stderr == (
      "error: --workdir must be given for an audit, or --replay, got neither.\n"
  )
