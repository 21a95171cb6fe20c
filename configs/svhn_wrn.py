r"""SVHN, Wide-ResNet from scratch, by the recipe of De et al. (2204.13650).

  python -m experiments.train --workdir=runs/svhn \
    --config=configs/svhn_wrn.py:epsilon=8

Published: nothing that we know of for this recipe; the paper's code has the
data set, its tables do not.

Measured here: not run.

Batches, steps, learning rate and network are CIFAR-10's at the same epsilon
(`configs/cifar10_wrn.py`), without flips, which turn digits into what are none;
noise is calibrated to epsilon, since there are more examples: 73,257, training
and validation split together, at delta 1e-5. Data: `tfds:svhn_cropped`
(docs/data.md).

Arguments: epsilon (1, 2, 3, 4, 6 or 8; default 8); depth and width of the
network (16 and 4); views an example (16); data_dir (where TFDS has put the
data); smoke (a few steps of a narrow network on the bundled digits, for tests).
"""

import ml_collections

from configs import common

# epsilon: (learning rate, number of steps), those of CIFAR-10.
_RECIPES = {
    1.0: (2.0, 875),
    2.0: (2.0, 1125),
    3.0: (2.0, 1593),
    4.0: (2.0, 1687),
    6.0: (4.0, 1843),
    8.0: (4.0, 2468),
}


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the recipe; see the module for arguments and results."""
  args = common.parse_arg(
      arg, epsilon=8.0, depth=16, width=4, views=16, data_dir="", smoke=False
  )
  common.check_choice("epsilon", args["epsilon"], tuple(_RECIPES))
  learning_rate, num_steps = _RECIPES[args["epsilon"]]
  config = common.base()
  config.name = "svhn_wrn"
  config.seed = 0
  common.set_tfds(config, "svhn_cropped", args["data_dir"])
  config.data.train_split = "train+valid"
  config.data.mean = (0.4914, 0.4822, 0.4465)  # CIFAR-10's, as in its code.
  config.data.std = (0.2470, 0.2435, 0.2616)
  config.model.name = "wide_resnet"
  config.model.options = {"depth": args["depth"], "width": args["width"]}
  config.augment.names = ("crop",)
  config.augment.options = {"pad": 4}
  config.augment.num_views = args["views"]
  config.dp.epsilon = args["epsilon"]
  config.dp.delta = 1e-5
  config.dp.l2_clip_norm = 1.0
  config.train.expected_batch_size = 4096
  config.train.num_steps = num_steps
  config.train.learning_rate = learning_rate
  config.train.ema_decays = (0.9999,)
  config.physical_batch_size = 16
  if args["smoke"]:
    common.make_smoke(config, image_shape=(32, 32, 3))
    config.model.options = {"depth": 10, "width": 1}
    config.augment.num_views = 2
  return config
