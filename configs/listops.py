r"""ListOps, made on the fly: recurrences against attention.

  python -m experiments.train --config=configs/listops.py:model=griffin \
    --workdir=runs/listops

An expression has at most 63 words, such as [MAX 4 [MIN 7 2 ] 3 ], nested 4
deep at most; what is learnt is its value, a digit. 50,000 expressions to train
on, and 512 others to test on: next-token accuracy is the share that was
computed right.

Measured: not run.

Arguments: epsilon (default 8.0); model (transformer, griffin, hawk or lru);
smoke (a few steps, for tests).
"""

import ml_collections

from configs import common, families

_MODELS = {
    "transformer": ("transformer", {"hidden_size": 128}),
    "griffin": ("griffin", {"hidden_size": 128, "window": 16}),
    "hawk": ("griffin", {"hidden_size": 128, "pattern": ("recurrent",)}),
    "lru": ("lru", {"state_size": 128}),
}


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the recipe; see the module for arguments and results.

  Args:
    arg: Options of the recipe, "name=value,..."; None for the defaults.
  """
  args = common.parse_arg(arg, epsilon=8.0, model="transformer", smoke=False)
  common.check_choice("model", args["model"], tuple(_MODELS))
  config = families.language(epsilon=args["epsilon"])
  config.name = "listops"
  config.seed = 0  # The expressions are public.
  config.data.source = "listops"
  config.data.options = {"length": 64}
  config.data.num_examples = 50_000
  name, options = _MODELS[args["model"]]
  config.model.name = name
  config.model.options = {"width": 64, "num_layers": 3, **options}
  config.dp.delta = 1e-6
  config.train.expected_batch_size = 1024
  config.train.num_steps = 1000
  config.train.learning_rate = 2e-3
  config.train.ema_decays = (0.99,)
  if args["smoke"]:
    families.make_language_smoke(config)
  return config
