"""Bundled digits."""

from configs import common


def get_config(arg=None):
  """Returns the config."""
  args = common.parse_arg(arg, epsilon=3.0, smoke=False)
  config = common.base()
  config.name = "digits_cnn"
  config.seed = 0
  config.data.source = "digits"
  config.data.mean = (0.3,)
  config.data.std = (0.4,)
  config.model.name = "cnn_small"
  config.dp.epsilon = args["epsilon"]
  config.dp.delta = 1e-4
  config.train.expected_batch_size = 256
  config.train.num_epochs = 40.0
  config.train.learning_rate = 1.0
  config.train.ema_decay = 0.9
  return config
