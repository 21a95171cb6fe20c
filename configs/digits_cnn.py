r"""Bundled digits, small CNN: trains privately in seconds, needs no download.

  python -m experiments.train --config=configs/digits_cnn.py:epsilon=3.0 \
    --workdir=runs/digits

1,437 training and 360 test images of 8x8 pixels from scikit-learn; delta 1e-4.

MEASURED

Arguments: epsilon (default 3.0); smoke (a few steps, for tests).
"""

import ml_collections

from configs import common


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the recipe; see the module for arguments and results."""
  args = common.parse_arg(arg, epsilon=3.0, smoke=False)
  config = common.base()
  config.name = "digits_cnn"
  config.seed = 0
  config.data.source = "digits"
  config.data.mean = (0.3,)  # Round numbers, not read off the data.
  config.data.std = (0.4,)
  config.model.name = "cnn_small"
  config.model.options = {"channels": (16, 32)}
  config.dp.epsilon = args["epsilon"]
  config.dp.delta = 1e-4
  config.dp.l2_clip_norm = 1.0
  config.train.expected_batch_size = 512
  config.train.num_epochs = 40.0
  config.train.learning_rate = 1.0
  config.train.ema_decay = 0.9
  if args["smoke"]:
    common.make_smoke(config)
  return config
