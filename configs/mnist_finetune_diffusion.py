r"""MNIST drawn by a denoiser pre-trained on Fashion-MNIST, in small.

  python -m experiments.pretrain --output=runs/fashion_denoiser.npz \
    --config=configs/mnist_finetune_diffusion.py:stage=pretrain
  python -m experiments.train --workdir=runs/mnist_finetune \
    --config=configs/mnist_finetune_diffusion.py:epsilon=1

The shape, in small, of fine-tuning a diffusion model that was trained in public
(Ghalebikesabi et al. 2023, arXiv 2302.13861). Fashion-MNIST counts as public
here. Classes are others, so that their embedding starts anew.

`part=attention` trains attention and the classes' embedding alone, as in Lyu et
al. 2023 (2305.15759); `part=lora` adapters of rank 4 at attention, as in Tsai
et al. 2024 (2406.01355), with the embedding. The rest is frozen.

Measured: not run.

Arguments: epsilon (default 1.0); stage ("finetune", "scratch" or "pretrain");
part ("all", "attention" or "lora"); views an example (8); weights (of the
pre-trained parameters); path (Keras' mnist.npz); public (a folder of the four
IDX files of Fashion-MNIST); smoke (a few steps on the bundled digits, for
tests).
"""

import ml_collections

from configs import common, denoisers, families


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the recipe; see the module for arguments and results.

  Args:
    arg: Options of the recipe, "name=value,..."; None for the defaults.
  """
  args = common.parse_arg(
      arg,
      epsilon=1.0,
      stage="finetune",
      part="all",
      views=8,
      weights="runs/fashion_denoiser.npz",
      path="data/mnist.npz",
      public="data/fashion-mnist",
      smoke=False,
  )
  stage = args["stage"]
  common.check_choice("stage", stage, denoisers.STAGES)
  config = denoisers.diffusion(
      channels=1,
      views=args["views"],
      epsilon=None if stage == "pretrain" else args["epsilon"],
  )
  config.name = "mnist_finetune_diffusion"
  config.model.name = "denoiser_unet"
  config.model.options = {
      "width": 16,
      "multipliers": (1, 2, 2),
      "attention_sizes": (7,),
  }
  config.data.num_examples = 60_000
  if stage == "pretrain":
    families.set_fashion_mnist(config, args["public"], "")
    config.train.expected_batch_size = 128
    config.train.num_epochs = 10.0
  else:
    config.data.source = "npz"
    config.data.options = {"path": args["path"]}
    config.train.expected_batch_size = 1024
    config.train.num_steps = 400
    config.physical_batch_size = 64
  if args["smoke"]:
    denoisers.make_smoke(config)
    denoisers.set_small_unet(config)
  weights = "" if args["smoke"] else args["weights"]
  denoisers.set_finetuning(config, stage, args["part"], weights)
  return config
