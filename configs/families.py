"""What recipes of one family share: a paper's networks, and its data.

Invariant: numbers and names only, as in `configs.common`; a number that two
recipes share is written here, once.

Example:
  >>> from configs import families
  >>> config = families.wide_resnet(depth=16, width=4, views=16, epsilon=8.0)
  >>> config.model.options.to_dict(), config.dp.delta
  ({'depth': 16, 'width': 4}, 1e-05)
"""

from typing import Any

import ml_collections

from configs import common

# As published; public constants.
_CIFAR_MEAN, _CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# As small as an NFNet gets, for tests.
SMALL_NFNET = {
    "channels": (16, 16, 16, 16),
    "num_blocks": (1, 1, 1, 1),
    "group_width": 8,
}

# De et al.'s training on CIFAR-10 from scratch. Epsilon: (learning rate, noise
# multiplier, number of steps). Of 8 the last is a user's configuration that
# reproduced the paper's result.
FROM_SCRATCH = {
    1.0: (2.0, 10.0, 875),
    2.0: (2.0, 6.0, 1125),
    3.0: (2.0, 5.0, 1593),
    4.0: (2.0, 4.0, 1687),
    6.0: (4.0, 3.0, 1843),
    8.0: (4.0, 3.0, 2468),
}


def tanh_cnn(*, epsilon: float) -> ml_collections.ConfigDict:
  """Returns what Tramer and Boneh's recipes for the tanh CNN share.

  Args:
    epsilon: Target epsilon, at delta 1e-5.

  Source: Tramer and Boneh 2020 (arXiv 2011.11660), appendix; the network is
  Papernot et al.'s (2007.14191).
  """
  config = common.base()
  config.seed = 0
  config.data.num_examples = 60_000
  config.model.name = "cnn_tanh"
  config.dp.epsilon = epsilon
  config.dp.delta = 1e-5
  config.dp.l2_clip_norm = 0.1
  config.dp.rescale_to_unit_norm = False
  config.train.num_epochs = 40.0
  config.train.optimizer_options = {"momentum": 0.9}
  config.train.ema_decays = (0.99,)
  return config


def wide_resnet(
    *, depth: int, width: int, views: int, epsilon: float
) -> ml_collections.ConfigDict:
  """Returns what De et al.'s recipes of 32 x 32 images share.

  Args:
    depth: Number of layers of the network.
    width: Factor of the network's channels.
    views: Number of views of an example.
    epsilon: Target epsilon, at delta 1e-5.

  Source: De et al. 2022 (arXiv 2204.13650), and its code.
  """
  config = common.base()
  config.seed = 0
  config.data.mean, config.data.std = _CIFAR_MEAN, _CIFAR_STD
  config.model.name = "wide_resnet"
  config.model.options = {"depth": depth, "width": width}
  config.augment.names = ("crop", "flip")
  config.augment.options = {"pad": 4}
  config.augment.num_views = views
  config.dp.epsilon = epsilon
  config.dp.delta = 1e-5
  config.dp.l2_clip_norm = 1.0
  config.train.ema_decays = (0.9999,)
  config.physical_batch_size = 16
  return config


def make_wide_resnet_smoke(config: ml_collections.ConfigDict) -> None:
  """Cuts a recipe of `wide_resnet` down to seconds.

  Args:
    config: Recipe, which is changed in place.
  """
  common.make_smoke(config, image_shape=(8, 8, 3))
  config.model.options = {"depth": 10, "width": 1}
  config.augment.num_views = 2


def set_tfds(
    config: ml_collections.ConfigDict, name: str, data_dir: str
) -> None:
  """Takes data from what TFDS has prepared, in the papers' splits.

  Args:
    config: Recipe, which is changed in place.
    name: TFDS's name of the set.
    data_dir: Folder of the prepared set; "" for TFDS's own default.
  """
  config.data.source = f"tfds:{name}"
  if data_dir:
    common.set_options(config.data.options, data_dir=data_dir)


def set_fashion_mnist(
    config: ml_collections.ConfigDict, path: str, data_dir: str
) -> None:
  """Takes all 60,000 images of Fashion-MNIST, from either of two places.

  Args:
    config: Recipe, which is changed in place.
    path: Folder of the four IDX files, as they are distributed.
    data_dir: Folder of TFDS's prepared set; "" for the files.
  """
  config.data.source = "idx"
  config.data.options = {"path": path}
  if data_dir:
    config.data.options = {}
    set_tfds(config, "fashion_mnist", data_dir)
    config.data.train_split = "train+valid"


def set_image_size(
    config: ml_collections.ConfigDict, *, train: int, test: int
) -> None:
  """Resizes ImageNet's images to 1.2 times the size, and crops views of that.

  Args:
    config: Recipe, which is changed in place.
    train: Pixels a side that the network is trained on.
    test: Pixels a side that it is tested on, without a crop.

  Source: De et al. 2022 (arXiv 2204.13650), and its code.
  """
  stored = int(1.2 * train)
  common.set_options(config.data.options, image_size=(stored, stored))
  common.set_options(config.data.test_options, image_size=(test, test))
  config.data.mean, config.data.std = _IMAGENET_MEAN, _IMAGENET_STD
  config.augment.names = ("random_crop", "flip")
  config.augment.options = {"crop_size": (train, train)}


def nfnet_finetune(
    *, variant: str, train: int, test: int, epsilon: float
) -> ml_collections.ConfigDict:
  """Returns what recipes that fine-tune an NFNet share.

  Batch, steps, learning rate and views are our choice, untried: we did not find
  the papers' own.

  Args:
    variant: Name: "F0" to "F7", or "F0+" to "F7+".
    train: Pixels a side that the network is trained on.
    test: Pixels a side that it is tested on.
    epsilon: Target epsilon.
  """
  config = common.base()
  config.seed = 0
  set_image_size(config, train=train, test=test)
  config.augment.num_views = 4
  config.model.name = "nfnet"
  config.model.options = {"variant": variant}
  config.model.restore.reset = (r"linear\..*",)
  config.dp.epsilon = epsilon
  config.dp.l2_clip_norm = 1.0
  config.train.expected_batch_size = 16_384
  config.train.num_steps = 1000
  config.train.learning_rate = 1.0
  config.train.ema_decays = (0.99,)
  config.physical_batch_size = 8
  return config


def make_imagenet_smoke(
    config: ml_collections.ConfigDict, **model_options: Any
) -> None:
  """Cuts a recipe of images that are cropped down to seconds.

  Args:
    config: Recipe, which is changed in place.
    **model_options: Options of the smallest network of the family.
  """
  common.make_smoke(config, image_shape=(19, 19, 3))
  config.data.test_options = {"image_shape": (24, 24, 3)}
  config.augment.options = {"crop_size": (16, 16)}
  config.augment.num_views = 2
  config.model.options = model_options


def table(*, epsilon: float) -> ml_collections.ConfigDict:
  """Returns what recipes of tables share: a linear model, trained privately.

  Args:
    epsilon: Target of the noise.
  """
  config = common.base()
  config.task.name = "table"
  config.model.name = "table_linear"
  config.dp.epsilon = epsilon
  config.dp.l2_clip_norm = 1.0
  return config


def language(*, epsilon: float) -> ml_collections.ConfigDict:
  """Returns what recipes of text share: a small transformer, by Adam.

  Args:
    epsilon: Target of the noise.
  """
  config = common.base()
  config.task.name = "language"
  config.model.name = "transformer"
  config.dp.epsilon = epsilon
  config.dp.l2_clip_norm = 1.0
  config.train.optimizer = "adam"
  return config


_SHAKESPEARE = {
    "transformer": ("transformer", {}),
    "hawk": ("griffin", {"pattern": ("recurrent",)}),
}


def shakespeare(
    *, epsilon: float, path: str, model: str
) -> ml_collections.ConfigDict:
  """Returns what recipes of Shakespeare share: packed sequences of 128 bytes.

  Args:
    epsilon: Target of the noise.
    path: Path of the folder of texts.
    model: Name, "transformer" or "hawk".
  """
  common.check_choice("model", model, tuple(_SHAKESPEARE))
  config = language(epsilon=epsilon)
  config.seed = 0  # The plays are public.
  config.model.name, options = _SHAKESPEARE[model]
  # Scaled, a tied embedding begins by saying its own input again.
  config.model.options = {
      "width": 128,
      "num_layers": 2,
      "hidden_size": 256,
      "scale_embedding": False,
      **options,
  }
  config.data.source = "text"
  common.set_options(config.data.options, path=path, length=128, packing="pack")
  config.data.num_examples = 37_091
  config.dp.delta = 1e-6
  config.train.expected_batch_size = 1024
  config.train.num_steps = 400
  config.train.learning_rate = 3e-3
  config.train.schedule = "warmup_cosine"
  config.train.schedule_options = {"warmup": 0.1, "end_value": 0.0}
  config.train.ema_decays = (0.98,)
  config.physical_batch_size = 128
  return config


def set_lora(config: ml_collections.ConfigDict, *, rank: int) -> None:
  """Trains low-rank adapters of queries, values and recurrent inputs alone.

  Args:
    config: Recipe, which is changed in place.
    rank: Rank of the adapters.
  """
  targets = r".*\.(query|value|inputs)"
  common.set_options(
      config.model.options, lora={"targets": targets, "rank": rank}
  )
  config.model.restore.reset = (r"(.*\.)?lora_[ab]",)
  config.train.train_only = r"(.*\.)?lora_[ab]"


def make_language_smoke(config: ml_collections.ConfigDict) -> None:
  """Cuts a recipe of text down to seconds, on sequences made on the fly.

  Args:
    config: Recipe, which is changed in place.
  """
  common.make_smoke(config)
  config.data.source = "copy"
  config.data.options = {"length": 8, "num_symbols": 3}
  config.data.unit, config.data.max_rows_per_unit = "", None
  config.data.num_examples = 200
  config.model.options = {"width": 16, "num_layers": 1}
  config.model.restore.reset, config.train.train_only = (), None


def make_table_smoke(config: ml_collections.ConfigDict) -> None:
  """Cuts a recipe of tables down to seconds, on the bundled breast_cancer.

  Args:
    config: Recipe, which is changed in place.
  """
  common.make_smoke(config)
  config.data.source, config.data.options = "breast_cancer", {}
  config.loss.name = "softmax"
