r"""Digits drawn by a private diffusion model, on the bundled 8x8 images.

  python -m experiments.train \
    --config=configs/digits_diffusion.py:epsilon=10.0 --workdir=runs/diffusion
  python -m experiments.generate --workdir=runs/diffusion --out=digits

An example is an image with its label; of each, 8 draws of noise are averaged
before its gradient is clipped.

Measured: not run at full length.

Arguments: epsilon (default 10.0); network (mlp, 187,968 parameters, or unet,
247,489); smoke (a few steps, for tests).
"""

import ml_collections

from configs import common, denoisers

_NETWORKS = {
    "mlp": ("denoiser_mlp", {}),
    "unet": (
        "denoiser_unet",
        {"width": 16, "multipliers": (1, 2), "attention_sizes": ()},
    ),
}


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the recipe; see the module for arguments and results.

  Args:
    arg: Options of the recipe, "name=value,..."; None for the defaults.
  """
  args = common.parse_arg(arg, epsilon=10.0, network="mlp", smoke=False)
  common.check_choice("network", args["network"], tuple(_NETWORKS))
  config = common.base()
  config.name = "digits_diffusion"
  config.seed = 0
  config.task.name = "diffusion"
  config.task.options = {"parameterisation": "edm"}
  config.data.source = "digits"
  config.data.mean, config.data.std = (0.5,), (0.5,)  # Pixels in [-1, 1].
  config.model.name, config.model.options = _NETWORKS[args["network"]]
  config.augment.num_views = 8  # Draws of noise.
  config.dp.epsilon = args["epsilon"]
  config.dp.delta = 1e-4
  config.dp.l2_clip_norm = 1.0
  config.train.optimizer = "adam"
  config.train.expected_batch_size = 512
  config.train.num_steps = 1200
  config.train.learning_rate = 1e-3
  config.train.ema_decays = (0.99,)
  if args["smoke"]:
    denoisers.make_smoke(config)
  return config
