r"""Bundled digits: pre-trained on 0 to 4 without privacy, fine-tuned on 5 to 9.

  python -m experiments.pretrain --output=runs/digits_0_to_4.npz \
    --config=configs/digits_finetune.py:stage=pretrain
  python -m experiments.train --config=configs/digits_finetune.py:epsilon=0.5 \
    --workdir=runs/digits_5_to_9

Measured: not yet.

Arguments: epsilon (default 0.5); stage ("finetune", "scratch" or "pretrain");
path (of the pre-trained parameters); smoke (a few steps, for tests).
"""

import ml_collections

from configs import common

_STAGES = ("finetune", "scratch", "pretrain")


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the recipe; see the module for arguments and results."""
  args = common.parse_arg(
      arg,
      epsilon=0.5,
      stage="finetune",
      path="runs/digits_0_to_4.npz",
      smoke=False,
  )
  if args["stage"] not in _STAGES:
    raise ValueError(
        f"stage must be one of {', '.join(_STAGES)}, got {args['stage']!r}."
    )
  config = common.base()
  config.name = "digits_finetune"
  config.seed = 0
  config.data.source = "digits"
  config.data.mean = (0.3,)  # Round numbers, not read off the data.
  config.data.std = (0.4,)
  config.model.name = "cnn_small"
  config.model.options = {"channels": (16, 32)}
  if args["stage"] == "pretrain":
    _pretrain(config)
  else:
    _private(config, epsilon=args["epsilon"])
  if args["stage"] == "finetune":
    config.model.restore.path = args["path"]
    # Five classes as before, but others.
    config.model.restore.reset = (r"linear\..*",)
  if args["smoke"]:
    options = config.data.options
    common.make_smoke(config)
    config.data.options = options
  return config


def _private(config: ml_collections.ConfigDict, *, epsilon: float) -> None:
  config.data.options = {"classes": (5, 6, 7, 8, 9)}
  config.dp.epsilon = epsilon
  config.dp.delta = 1e-4
  config.train.expected_batch_size = 256
  config.train.num_epochs = 20.0
  config.train.learning_rate = 1.0
  config.train.ema_decays = (0.9,)


def _pretrain(config: ml_collections.ConfigDict) -> None:
  config.data.options = {"classes": (0, 1, 2, 3, 4)}
  config.augment.names = ("crop",)
  config.augment.options = {"pad": 1}
  config.train.expected_batch_size = 64
  config.train.num_epochs = 60.0
  config.train.optimizer_options = {"momentum": 0.9}
  config.train.learning_rate = 0.05
