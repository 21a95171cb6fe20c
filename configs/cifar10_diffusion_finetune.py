r"""CIFAR-10 drawn by a denoiser pre-trained on ImageNet at 32 x 32 pixels.

  python -m experiments.pretrain --output=runs/imagenet32_denoiser.npz \
    --config=configs/cifar10_diffusion_finetune.py:stage=pretrain,path=data/i32
  python -m experiments.train --workdir=runs/cifar10_finetune \
    --config=configs/cifar10_diffusion_finetune.py:epsilon=10

Published: pre-trained on ImageNet, a model of more than 80 million parameters
reaches FID 9.8 on CIFAR-10 (26.8 before), and a classifier trained on what it
draws 88.0% (51.0 before) (Ghalebikesabi et al. 2023, arXiv 2302.13861,
abstract). With a small network, in another protocol: 70.1% at epsilon 10
(DPImageBench, Gong et al. 2025, arXiv 2503.14681).

Measured: not run. The network is ADM's (Dhariwal and Nichol 2021), of
89,178,403 parameters for ten classes. Its sizes, batches, steps, draws and
learning rates are this project's choice, untried: we did not find the paper's.

Pre-training reads a folder of images, path/train/CLASS/*.png, of 1,281,167
images in 1,000 classes; classes are others then, so that their embedding starts
anew. Private data are `tfds:cifar10`, training and validation split together.

Arguments: epsilon (default 10.0); stage ("finetune", "scratch" or "pretrain");
part ("all", "attention" or "lora"); views an example (8); weights (of the
pre-trained parameters); path (of ImageNet's folders); data_dir (where TFDS has
put CIFAR-10); smoke (a few steps on the bundled digits, for tests).
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
      epsilon=10.0,
      stage="finetune",
      part="all",
      views=8,
      weights="runs/imagenet32_denoiser.npz",
      path="data/imagenet32",
      data_dir="",
      smoke=False,
  )
  stage = args["stage"]
  common.check_choice("stage", stage, denoisers.STAGES)
  config = denoisers.adm_finetune(
      stage, epsilon=args["epsilon"], views=args["views"]
  )
  config.name = "cifar10_diffusion_finetune"
  if stage == "pretrain":
    denoisers.set_imagenet_folder(config, args["path"])
  else:
    families.set_tfds(config, "cifar10", args["data_dir"])
    config.data.train_split = "train+valid"
  if args["smoke"]:
    denoisers.make_smoke(config, image_shape=(8, 8, 3))
    denoisers.set_small_unet(config)
  weights = "" if args["smoke"] else args["weights"]
  denoisers.set_finetuning(config, stage, args["part"], weights)
  return config
