r"""CIFAR-10 drawn by DPDM, from scratch, at the paper's size.

  python -m experiments.train --workdir=runs/cifar10_dpdm \
    --config=configs/cifar10_dpdm.py:epsilon=10
  python -m experiments.generate --workdir=runs/cifar10_dpdm --out=cifar10

Published: batch 2,048, 500 epochs, noise multiplicity 8 (Dockhorn et al. 2023,
arXiv 2210.09929). In another protocol, test accuracy of a classifier trained on
drawn images is 28.9% at epsilon 1 and 36.8% at 10 (DPImageBench, Gong et al.
2025, arXiv 2503.14681). CIFAR-10 from scratch is out of reach: see
`cifar10_diffusion_finetune`.

Measured: not run. The network is `mnist_dpdm`'s for 32 x 32 pixels in colour,
1,754,499 parameters.

Data are `tfds:cifar10` (docs/data.md), training and validation split together.

Arguments: epsilon (default 10.0); views an example (8); data_dir (where TFDS
has put the data); smoke (a few steps on the bundled digits, for tests).
"""

import ml_collections

from configs import common, denoisers, families


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the recipe; see the module for arguments and results.

  Args:
    arg: Options of the recipe, "name=value,..."; None for the defaults.
  """
  args = common.parse_arg(arg, epsilon=10.0, views=8, data_dir="", smoke=False)
  config = denoisers.dpdm(
      channels=3,
      views=args["views"],
      epsilon=args["epsilon"],
      attention_size=16,
  )
  config.name = "cifar10_dpdm"
  families.set_tfds(config, "cifar10", args["data_dir"])
  config.data.train_split = "train+valid"
  config.train.expected_batch_size = 2048
  config.train.num_epochs = 500.0
  config.physical_batch_size = 64
  if args["smoke"]:
    denoisers.make_smoke(config, image_shape=(8, 8, 3))
  return config
