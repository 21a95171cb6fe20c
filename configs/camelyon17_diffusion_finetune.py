r"""Camelyon17 drawn by a denoiser pre-trained on ImageNet at 32 x 32 pixels.

  python -m experiments.pretrain --output=runs/imagenet32_denoiser.npz \
    --config=configs/camelyon17_diffusion_finetune.py:stage=pretrain
  python -m experiments.train --workdir=runs/camelyon17 \
    --config=configs/camelyon17_diffusion_finetune.py:path=data/camelyon17

Published: a classifier trained on drawn patches reaches 91.1%, and 96.5% on
real ones (Ghalebikesabi et al. 2023, arXiv 2302.13861, abstract). With a small
network, in another protocol: 84.8% at epsilon 10 (DPImageBench, Gong et al.
2025, arXiv 2503.14681).

Measured: not run. All but the data is `cifar10_diffusion_finetune`'s.

Data are a folder of patches, path/train/CLASS/*.png and path/test/CLASS/*.png,
of two classes, which are resized to 32 x 32 pixels. Say how many patches there
are to train on: `num_examples`, 302,436 by default, is what counts.

Arguments: epsilon (default 10.0); stage ("finetune", "scratch" or "pretrain");
part ("all", "attention" or "lora"); views an example (8); weights (of the
pre-trained parameters); imagenet (ImageNet's folders); path (of the patches);
num_examples (302,436); smoke (a few steps on the bundled digits, for tests).
"""

import ml_collections

from configs import common, denoisers


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
      imagenet="data/imagenet32",
      path="data/camelyon17",
      num_examples=302_436,
      smoke=False,
  )
  stage = args["stage"]
  common.check_choice("stage", stage, denoisers.STAGES)
  config = denoisers.adm_finetune(
      stage, epsilon=args["epsilon"], views=args["views"]
  )
  config.name = "camelyon17_diffusion_finetune"
  if stage == "pretrain":
    denoisers.set_imagenet_folder(config, args["imagenet"])
  else:
    config.data.source = "folder"
    config.data.options = {"path": args["path"], "image_size": (32, 32)}
    config.data.num_examples = args["num_examples"]
    # Below 1 over the number of patches.
    config.dp.delta = 3e-6
  if args["smoke"]:
    denoisers.make_smoke(config, image_shape=(8, 8, 3))
    denoisers.set_small_unet(config)
  weights = "" if args["smoke"] else args["weights"]
  denoisers.set_finetuning(config, stage, args["part"], weights)
  return config
