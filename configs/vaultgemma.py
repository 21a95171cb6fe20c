r"""VaultGemma 1B at full size: its network, sampling and noise, by shapes.

  python -m experiments.train --workdir=runs/vaultgemma \
    --config=configs/vaultgemma.py:tokeniser=tokenizer.json

An example is a packed sequence of 1,024 tokens; no document is protected as a
whole. Noise multiplier 0.614, 100,000 steps and delta 1.1e-10 are the model's,
as the press gives them. We read the batch of "about 518K" as
sequences: with 517,989 of 12.7e9 (13e12 tokens) epsilon is 1.711 by PLD, below
the stated 2.0. As tokens it would be 0.012. Optimiser, learning rate and clip
norm are our choice, untried.

Measured: not run; the tests build it by shapes, and compute epsilon. The file
of the tokeniser must have 256,000 tokens, its boundary among them.

Arguments: epsilon (default 2.0); path (default text); tokeniser (a file of
`tokenizers`); boundary (that file's token, such as <eos>); smoke (a few steps,
for tests).
"""

import ml_collections

from configs import common, families


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the recipe; see the module for arguments and results.

  Args:
    arg: Options of the recipe, "name=value,..."; None for the defaults.
  """
  args = common.parse_arg(
      arg, path="text", tokeniser="bytes", boundary="", epsilon=2.0, smoke=False
  )
  config = families.language(epsilon=args["epsilon"])
  config.name = "vaultgemma"
  config.data.source = "text"
  common.set_options(
      config.data.options,
      path=args["path"],
      tokeniser=args["tokeniser"],
      boundary=args["boundary"],
      length=1024,
      packing="pack",
  )
  config.data.num_examples = 12_695_312_500
  config.model.options = {
      "width": 1152,
      "num_layers": 26,
      "num_heads": 4,
      "head_size": 256,
      "hidden_size": 6912,
      "attention_cap": 50.0,
      "logit_cap": 30.0,
      "stack_layers": True,
      "remat": True,
      "compute_dtype": "bfloat16",
  }
  config.dp.noise_multiplier = 0.614
  config.dp.delta = 1.1e-10
  config.train.expected_batch_size = 517_989
  config.train.num_steps = 100_000
  config.train.learning_rate = 1e-3
  config.physical_batch_size = 64
  if args["smoke"]:
    families.make_language_smoke(config)
    config.dp.noise_multiplier = None
    config.dp.epsilon = 8.0
  return config
