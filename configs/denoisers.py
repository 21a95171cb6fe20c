"""What recipes of denoisers share: networks, training, fine-tuning.

Invariant: numbers and names only, as in `configs.common`.

Example:
  >>> from configs import denoisers
  >>> config = denoisers.dpdm(
  ...     channels=1, views=32, epsilon=0.2, attention_size=7)
  >>> config.task.options.parameterisation, config.train.ema_decays
  ('v', (0.999,))
"""

import ml_collections

from configs import common

STAGES = ("finetune", "scratch", "pretrain")
"""What a recipe that fine-tunes a denoiser can do."""

_PARTS = ("all", "attention", "lora")
# Whole paths: of layers, and of parameters.
_ATTENTION = r".*\.attention\.(query|key|value|out)"
_LABELS = r"label\..*"
_ADAPTERS = r"(.*\.)?lora_[ab]"
_LORA_RANK = 4


def diffusion(
    *,
    channels: int,
    views: int,
    epsilon: float | None,
    parameterisation: str = "edm",
) -> ml_collections.ConfigDict:
  """Returns what recipes of denoisers share.

  Args:
    channels: Number of the images' channels.
    views: Number of draws of noise of an example.
    epsilon: Target epsilon, at delta 1e-5; None where nothing is private.
    parameterisation: Name; see docs/tasks.md.
  """
  config = common.base()
  config.seed = 0
  config.task.name = "diffusion"
  config.task.options = {"parameterisation": parameterisation}
  # Pixels in [-1, 1].
  config.data.mean = config.data.std = (0.5,) * channels
  config.augment.num_views = views
  config.train.optimizer = "adam"
  config.train.learning_rate = 3e-4
  if epsilon is not None:
    config.dp.epsilon = epsilon
    config.dp.delta = 1e-5
    config.dp.l2_clip_norm = 1.0
    config.train.ema_decays = (0.999,)
  return config


def dpdm(
    *, channels: int, views: int, epsilon: float, attention_size: int
) -> ml_collections.ConfigDict:
  """Returns what DPDM's recipes share: its network, its training.

  "v" at epsilon 0.2, "edm" above, as the paper has it.

  Args:
    channels: Number of the images' channels.
    views: Number of draws of noise of an example, K.
    epsilon: Target epsilon.
    attention_size: Height at which there is attention.

  Source: Dockhorn et al. 2023 (arXiv 2210.09929), and its code.
  """
  config = diffusion(
      channels=channels,
      views=views,
      epsilon=epsilon,
      parameterisation="v" if epsilon < 1.0 else "edm",
  )
  config.model.name = "denoiser_unet"
  config.model.options = {
      "width": 32,
      "multipliers": (1, 2, 2),
      "attention_sizes": (attention_size,),
  }
  return config


def make_smoke(
    config: ml_collections.ConfigDict,
    *,
    image_shape: tuple[int, int, int] | None = None,
) -> None:
  """Cuts a recipe of a denoiser down to seconds, with a network in small.

  Args:
    config: Recipe, which is changed in place.
    image_shape: Shape of the images; None for the digits' own.
  """
  common.make_smoke(config, image_shape=image_shape)
  config.model.name = "denoiser_mlp"
  config.model.options = {"width": 8, "num_blocks": 1, "num_waves": 2}
  config.augment.num_views = 2


def adm_finetune(
    stage: str, *, epsilon: float, views: int
) -> ml_collections.ConfigDict:
  """Returns what recipes share that fine-tune ADM's U-Net at 32 x 32 pixels.

  Its sizes and its training are this project's choice, untried.

  Args:
    stage: One of `STAGES`.
    epsilon: Target epsilon.
    views: Number of draws of noise of an example.
  """
  is_public = stage == "pretrain"
  config = diffusion(
      channels=3,
      views=1 if is_public else views,
      epsilon=None if is_public else epsilon,
  )
  config.model.name = "denoiser_adm"
  config.model.options = {
      "width": 160,
      "multipliers": (1, 2, 2, 2),
      "num_blocks": 3,
      "attention_sizes": (16, 8),
  }
  config.augment.names = ("flip",)
  config.train.learning_rate = 1e-4
  config.train.expected_batch_size = 256 if is_public else 4096
  config.train.num_steps = 200_000 if is_public else 1000
  config.physical_batch_size = None if is_public else 16
  return config


def set_imagenet_folder(config: ml_collections.ConfigDict, path: str) -> None:
  """Takes ImageNet at 32 x 32 pixels from a folder.

  Args:
    config: Recipe, which is changed in place.
    path: Path of the folder; see `jax_privacy.data.folder`.
  """
  config.data.source = "folder"
  config.data.options = {"path": path, "image_size": (32, 32)}
  config.data.num_examples = 1_281_167


def set_small_unet(config: ml_collections.ConfigDict) -> None:
  """Puts the least U-Net with attention in place of a recipe's network.

  Args:
    config: Recipe, which is changed in place.
  """
  config.model.name = "denoiser_unet"
  config.model.options = {
      "width": 4,
      "multipliers": (1,),
      "num_blocks": 1,
      "attention_sizes": (8,),
  }


def set_finetuning(
    config: ml_collections.ConfigDict, stage: str, part: str, weights: str
) -> None:
  """Says what a denoiser begins with, and what of it is trained.

  Args:
    config: Recipe, which is changed in place; its network is there.
    stage: One of `STAGES`.
    part: Name: "all", "attention" or "lora"; the embedding of classes is
      trained always.
    weights: Path of the pre-trained parameters; "" for fresh ones, in tests.
  """
  common.check_choice("part", part, _PARTS)
  if stage != "finetune":
    return
  reset = (_LABELS,)
  if part == "attention":
    config.train.train_only = rf"{_ATTENTION}\..*|{_LABELS}"
  elif part == "lora":
    config.train.train_only = rf"{_ADAPTERS}|{_LABELS}"
    adapters = {"targets": _ATTENTION, "rank": _LORA_RANK}
    common.set_options(config.model.options, lora=adapters)
    reset += (_ADAPTERS,)
  if weights:
    config.model.restore.path = weights
    config.model.restore.reset = reset
