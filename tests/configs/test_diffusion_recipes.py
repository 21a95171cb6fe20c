"""Recipes of denoisers: noise of the papers' epsilons, networks by shapes."""

import math

import jax
import numpy as np
import pytest

from experiments.plan import fields, trainable
from experiments.plan import mechanism as mechanism_lib
from experiments.tasks import registry
from jax_privacy import models
from jax_privacy.data import source as source_lib
from tests.support import launch

# Image, classes and stated examples; parameters of the network.
_SETS = {
    "mnist_dpdm": ((28, 28, 1), 10, 60_000, 1_753_345),
    "fashion_mnist_dpdm": ((28, 28, 1), 10, 60_000, 1_753_345),
    "cifar10_dpdm": ((32, 32, 3), 10, 50_000, 1_754_499),
    "digits_diffusion": ((8, 8, 1), 10, 1437, 187_968),
    "mnist_diffusion_small": ((28, 28, 1), 10, 60_000, None),
    "mnist_finetune_diffusion": ((28, 28, 1), 10, 60_000, 441_473),
    "cifar10_diffusion_finetune": ((32, 32, 3), 10, 50_000, 89_178_403),
    "camelyon17_diffusion_finetune": ((32, 32, 3), 2, 302_436, None),
}


_MLPS = ("digits_diffusion", "mnist_diffusion_small")


class _Unread(source_lib.Described):
  """Images of which only the description is there."""

  image_dtype = np.dtype(np.uint8)
  is_multi_label = False

  def __init__(self, shape, num_classes, num_examples):
    super().__init__(
        num_examples,
        label_names=None,
        num_classes=num_classes,
        num_examples=num_examples,
    )
    self.image_shape = shape

  def __getitem__(self, indices):
    raise AssertionError("an example was read")


# Steps and noise multipliers of DPDM on 60,000 images, by the PLD of
# dp-accounting and of this project.
@pytest.mark.parametrize(
    "epsilon, way, noise_multiplier",
    [(0.2, "v", 73.86), (1.0, "edm", 16.93), (10.0, "edm", 2.381)],
)
@pytest.mark.parametrize(
    "name",
    ["mnist_dpdm", pytest.param("fashion_mnist_dpdm", marks=pytest.mark.slow)],
)
def test_dpdm_costs_what_the_paper_states(name, epsilon, way, noise_multiplier):
  config = launch.config(name, f"epsilon={epsilon}")
  assert config.task.options.parameterisation == way
  assert config.augment.num_views == 32 and config.dp.l2_clip_norm == 1.0
  plan = mechanism_lib.build_plan(config.dp, config.train, 60_000)
  assert plan.mechanism.num_steps == 4395
  assert plan.mechanism.sampling_prob == 4096 / 60_000
  # Four digits were published.
  found = plan.mechanism.noise_multiplier
  assert math.isclose(found, noise_multiplier, rel_tol=5e-4)


def test_every_recipe_of_a_denoiser_is_here():
  assert set(_SETS) == set(launch.DIFFUSIONS)


def _loss(name, arg=""):
  """Returns shapes of a recipe's parameters, and its loss."""
  shape, num_classes, num_examples, _ = _SETS[name]
  config = launch.config(name, arg)
  task = registry.build(**fields.task_sections(config))
  source = _Unread(shape, num_classes, num_examples)
  kept = []

  def build():
    kept.append(task.build_model(source, jax.random.key(0)))
    return kept[0].params

  return config, jax.eval_shape(build), kept[0].loss_fn


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            # Networks whose gradient takes long to trace.
            marks=[] if name in _MLPS else [pytest.mark.slow],
        )
        for name in _SETS
    ],
)
def test_recipes_are_built_at_full_size(name):
  shape, _, num_examples, count = _SETS[name]
  config, params, loss_fn = _loss(name)
  if count is not None:
    assert models.num_parameters(params) == count
  example = {
      "image": jax.ShapeDtypeStruct(shape, np.uint8),
      "label": jax.ShapeDtypeStruct((), np.int32),
  }
  key = jax.eval_shape(lambda: jax.random.key(0))
  grads = jax.eval_shape(jax.grad(loss_fn), params, example, key)
  assert jax.tree.structure(grads) == jax.tree.structure(params)
  assert config.dp.delta < 1 / num_examples


_FINETUNED = [name for name in launch.DIFFUSIONS if "finetune" in name]


@pytest.mark.few(2)
@pytest.mark.parametrize("name", _FINETUNED)
@pytest.mark.parametrize("part", ["all", "attention", "lora"])
def test_a_part_of_the_parameters_is_trained(name, part):
  config = launch.config(name, f"part={part},smoke=True")
  task = registry.build(**fields.task_sections(config))
  source = task.load("train")
  params = jax.eval_shape(
      lambda: task.build_model(source, jax.random.key(0)).params
  )
  split = trainable.build(config.train, params).split(params)[0]
  whole, trained = (models.num_parameters(tree) for tree in (params, split))
  assert (trained == whole) == (part == "all")
  assert models.num_parameters(split["label"]) > 0
  full = launch.config(name, f"part={part}")
  assert r"label\..*" in full.model.restore.reset
  assert full.model.restore.path


@pytest.mark.parametrize("name", _FINETUNED)
def test_pretraining_states_no_epsilon(name):
  config = launch.config(name, "stage=pretrain")
  assert config.dp.epsilon is None and config.model.restore.path is None
  assert "lora" not in config.model.options
