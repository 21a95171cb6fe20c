r"""SVHN, Wide-ResNet from scratch, by the recipe of De et al. (2204.13650).

  python -m experiments.train --workdir=runs/svhn \
    --config=configs/svhn_wrn.py:epsilon=8

Published: nothing that we have found. The paper's code has the data set.

Measured here: not run.

Batches, steps, learning rate, network and normalisation are CIFAR-10's at the
same epsilon (`configs/cifar10_wrn.py`), without flips, which turn digits into
what are none; noise is calibrated to epsilon, since there are more examples:
73,257, training and validation split together, at delta 1e-5. Data:
`tfds:svhn_cropped` (docs/data.md).

Arguments: epsilon (1, 2, 3, 4, 6 or 8; default 8); depth and width of the
network (16 and 4); views an example (16); data_dir (where TFDS has put the
data); smoke (a few steps of a narrow network on the bundled digits, for tests).
"""

import ml_collections

from configs import common, families


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the recipe; see the module for arguments and results.

  Args:
    arg: Options of the recipe, "name=value,..."; None for the defaults.
  """
  args = common.parse_arg(
      arg, epsilon=8.0, depth=16, width=4, views=16, data_dir="", smoke=False
  )
  common.check_choice("epsilon", args["epsilon"], sorted(families.FROM_SCRATCH))
  rate, _, num_steps = families.FROM_SCRATCH[args["epsilon"]]
  config = families.wide_resnet(
      depth=args["depth"],
      width=args["width"],
      views=args["views"],
      epsilon=args["epsilon"],
  )
  config.name = "svhn_wrn"
  families.set_tfds(config, "svhn_cropped", args["data_dir"])
  config.data.train_split = "train+valid"
  config.augment.names = ("crop",)
  config.train.expected_batch_size = 4096
  config.train.num_steps = num_steps
  config.train.learning_rate = rate
  if args["smoke"]:
    families.make_wide_resnet_smoke(config)
  return config
