"""Trains with one's own code; from any folder, as from this one.

  PYTHONPATH=CHECKOUT python -m experiments.train --config=config.py:kind=parts
    --workdir=runs/own

Arguments: kind ("parts" of an image classifier, or a whole "task").
"""

from configs import common


def get_config(arg=None):
  args = common.parse_arg(arg, kind="parts")
  common.check_choice("kind", args["kind"], ("parts", "task"))
  config = common.base()
  config.seed = 0
  config.dp.epsilon = 3.0
  config.dp.delta = 1e-4
  config.train.expected_batch_size = 64
  config.train.num_steps = 20
  config.train.learning_rate = 0.5
  config.train.ema_decays = (0.5,)
  if args["kind"] == "task":
    config.task.name = "rolling:Rolling"
    config.data.num_examples = 500
    return config
  config.data.source = "parts:load_halves"
  config.data.num_examples = 400
  config.model.name = "parts:TwoLayers"
  common.set_options(config.model.options, width=8)
  config.loss.name = "parts:poly_loss"
  config.augment.names = ("flip", "parts:brighten")
  common.set_options(config.augment.options, most=0.1)
  config.eval.metrics = ("parts:confidence",)
  return config
