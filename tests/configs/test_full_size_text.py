"""Recipes of text at full size: networks by shapes, and what they cost."""

import jax
import numpy as np
import pytest
from flax import nnx

import accounting
from experiments.plan import mechanism as mechanism_lib
from experiments.plan import trainable
from jax_privacy import models
from jax_privacy.models import griffin, lora, transformer
from tests.support import launch

# Recipe -> arguments, tokens of its vocabulary, parameters, trained ones.
_SIZES = {
    "copying": ("", 9, 17_856, 17_856),
    # 12 layers of queries and values: 2 x 8 x (768 + 768).
    "gpt2_e2e: lora": ("rank=8", 50_257, 124_734_720, 12 * 2 * 8 * 1536),
    "shakespeare": ("", 257, 312_064, 312_064),
    "shakespeare: hawk": ("model=hawk", 257, 348_928, 348_928),
    # 2 layers of queries and values, or of recurrent inputs.
    "shakespeare_lora": (
        *("", 257, 312_064 + 2 * 8 * (256 + 160), 2 * 8 * (256 + 160)),
    ),
    "shakespeare_lora: hawk": (
        *("model=hawk", 257, 348_928 + 2 * 8 * 256, 2 * 8 * 256),
    ),
    "shakespeare_lora: pretrain": ("stage=pretrain", 257, 312_064, 312_064),
}
_SLOW = {
    "gpt2_e2e": ("rank=0", 50_257, 124_439_808, 124_439_808),
    "vaultgemma": ("", 256_000, 992_734_848, 992_734_848),
    # 18 recurrent layers' inputs, and 8 attention layers' queries and values.
    "recurrentgemma_lora": (
        *("", 256_000),
        2_682_862_080 + 16 * (18 * 5120 + 8 * (5120 + 2816)),
        16 * (18 * 5120 + 8 * (5120 + 2816)),
    ),
}


@pytest.mark.few(3)
@pytest.mark.parametrize(
    "name",
    [
        *_SIZES,
        *(pytest.param(name, marks=pytest.mark.slow) for name in _SLOW),
    ],
)
def test_builds_at_full_size(name):
  arg, size, total, trained = (_SIZES | _SLOW)[name]
  config = launch.config(name.partition(":")[0], arg)
  model = nnx.eval_shape(
      lambda: models.build(
          config.model.name,
          rngs=nnx.Rngs(0),
          vocabulary_size=size,
          **config.model.options.to_dict(),
      )
  )
  apply_fn, params = models.functional(model)
  assert models.num_parameters(params) == total
  found, _ = trainable.build(config.train, params).split(params)
  assert models.num_parameters(found) == trained
  tokens = jax.ShapeDtypeStruct((1, 8), np.int32)
  assert jax.eval_shape(apply_fn, params, tokens).shape == (1, 8, size)


def test_full_sizes_are_the_models_presets():
  for name, make, preset, size in (
      (
          *("vaultgemma", transformer.TransformerConfig),
          *(transformer.PRESETS["vaultgemma_1b"], 256_000),
      ),
      (
          *("gpt2_e2e", transformer.TransformerConfig),
          *(transformer.PRESETS["gpt2"], 50_257),
      ),
      (
          *("recurrentgemma_lora", griffin.GriffinConfig),
          *(griffin.RECURRENT_GEMMA_2B, 256_000),
      ),
  ):
    options = launch.config(name, "").model.options.to_dict()
    options = {k: v for k, v in options.items() if k != "lora"}
    options["compute_dtype"] = None
    assert make(vocabulary_size=size, **options) == preset


# Its delta is above 1 / num_examples.
@pytest.mark.filterwarnings("ignore::accounting.LargeDeltaWarning")
def test_vaultgemma_costs_at_most_what_it_states():
  config = launch.config("vaultgemma", "")
  plan = mechanism_lib.build_plan(
      config.dp, config.train, config.data.num_examples
  )
  assert plan.mechanism.num_steps == 100_000
  found = accounting.epsilon(plan.mechanism, delta=1.1e-10)
  # 1.7106 by PLD as computed here when this was written; stated: 2.0.
  assert 1.70 < found < 1.72 < 2.0


def test_adapters_alone_are_trained():
  config = launch.config("recurrentgemma_lora", "")
  assert config.train.train_only == lora.PATTERN
  assert config.model.restore.reset == (lora.PATTERN,)
