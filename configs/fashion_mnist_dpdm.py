r"""Fashion-MNIST drawn by DPDM, at the paper's size.

  python -m experiments.train --workdir=runs/fashion_mnist_dpdm \
    --config=configs/fashion_mnist_dpdm.py:epsilon=1,path=data/fashion-mnist
  python -m experiments.generate --workdir=runs/fashion_mnist_dpdm --out=fashion

Published, FID by Inception and test accuracy of a CNN trained on 60,000 drawn
images (Dockhorn et al. 2023, arXiv 2210.09929), by two samplers: at epsilon 0.2
FID 78.4, accuracy 72.3%; at 1, 37.8 and 79.4%; at 10, 18.6 and 86.2%.

Measured: not run. Steps, batches and noise are `mnist_dpdm`'s.

Arguments: epsilon (0.2, 1 or 10; default 1); views an example (32); path (a
folder of the four IDX files); data_dir (read tfds:fashion_mnist there, and not
the files); smoke (a few steps on the bundled digits, for tests).
"""

import ml_collections

from configs import common, denoisers, families

_EPSILONS = (0.2, 1.0, 10.0)


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the recipe; see the module for arguments and results.

  Args:
    arg: Options of the recipe, "name=value,..."; None for the defaults.
  """
  args = common.parse_arg(
      arg,
      epsilon=1.0,
      views=32,
      path="data/fashion-mnist",
      data_dir="",
      smoke=False,
  )
  common.check_choice("epsilon", args["epsilon"], _EPSILONS)
  config = denoisers.dpdm(
      channels=1,
      views=args["views"],
      epsilon=args["epsilon"],
      attention_size=7,
  )
  config.name = "fashion_mnist_dpdm"
  families.set_fashion_mnist(config, args["path"], args["data_dir"])
  config.data.num_examples = 60_000
  config.train.expected_batch_size = 4096
  config.train.num_epochs = 300.0
  config.physical_batch_size = 64
  if args["smoke"]:
    denoisers.make_smoke(config)
  return config
