r"""MNIST drawn by DPDM, at the paper's size: noise multiplicity 32, U-Net.

  python -m experiments.train --workdir=runs/mnist_dpdm \
    --config=configs/mnist_dpdm.py:epsilon=1,path=data/mnist.npz
  python -m experiments.generate --workdir=runs/mnist_dpdm --out=mnist

Published, FID by Inception and test accuracy of a CNN trained on 60,000 drawn
images (Dockhorn et al. 2023, arXiv 2210.09929), by two samplers: at epsilon 0.2
FID 61.9, accuracy 86.3%; at 1, 23.4 and 95.3%; at 10, 5.01 and 98.1%. They
trained on eight A100.

Measured: not run. By PLD here, 4,395 steps of 4,096 of 60,000 images need a
noise multiplier of 73.86, 16.93 and 2.381 at epsilon 0.2, 1 and 10 (a test).
The network has 1,753,345 parameters, as theirs.

Arguments: epsilon (0.2, 1 or 10; default 1); views an example (32); path (of
Keras' mnist.npz); smoke (a few steps on the bundled digits, for tests).
"""

import ml_collections

from configs import common, denoisers

_EPSILONS = (0.2, 1.0, 10.0)


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the recipe; see the module for arguments and results.

  Args:
    arg: Options of the recipe, "name=value,..."; None for the defaults.
  """
  args = common.parse_arg(
      arg, epsilon=1.0, views=32, path="data/mnist.npz", smoke=False
  )
  common.check_choice("epsilon", args["epsilon"], _EPSILONS)
  config = denoisers.dpdm(
      channels=1,
      views=args["views"],
      epsilon=args["epsilon"],
      attention_size=7,
  )
  config.name = "mnist_dpdm"
  config.data.source = "npz"
  config.data.options = {"path": args["path"]}
  config.data.num_examples = 60_000
  config.train.expected_batch_size = 4096
  config.train.num_epochs = 300.0
  config.physical_batch_size = 64
  if args["smoke"]:
    denoisers.make_smoke(config)
  return config
