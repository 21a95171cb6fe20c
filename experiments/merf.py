"""Draws images by DP-MERF, a baseline without DP-SGD: one private release.

  python -m experiments.merf --out=merf
    --config=configs/digits_diffusion.py:epsilon=1.0
    [--num_images=1000] [--num_features=2000] [--length_scale=0.5]
    [--num_steps=2000] [--draw_seed=0]

The mean of random features of the config's training images is released once,
with Gaussian noise for dp.epsilon, and a generator is trained to have the same
mean. Of the config, `data`, `dp`, `task` and `seed` count; its model does not.
--out is a folder as `experiments.generate` writes it.

The release is separate from a run's of the same config: whoever sees both pays
for both.
"""

import pathlib

import numpy as np
from absl import flags

from experiments.release import image_files, image_sampling
from experiments.run import cli
from experiments.synthetic import merf

_CONFIG = cli.define_config("A recipe: configs/NAME.py[:key=value,...].")
_OUT = flags.DEFINE_string("out", None, "Folder of images.")
_NUM_IMAGES = flags.DEFINE_integer("num_images", 1000, "Number of images.")
_NUM_FEATURES = flags.DEFINE_integer(
    "num_features", 2000, "Number of random features."
)
_LENGTH_SCALE = flags.DEFINE_float(
    "length_scale",
    0.5,
    "Length scale of the kernel, over the root of the number of pixels.",
)
_NUM_STEPS = flags.DEFINE_integer(
    "num_steps", 2000, "Steps of the generator's training.", lower_bound=1
)
_DRAW_SEED = flags.DEFINE_integer(
    "draw_seed", 0, "Seed of all but the noise.", lower_bound=0
)


def main() -> None:
  """Runs the command line."""
  with cli.exit_on(ValueError, OSError, ImportError), cli.warnings_as_lines():
    options = merf.Options(
        num_features=_NUM_FEATURES.value,
        length_scale=_LENGTH_SCALE.value,
        num_steps=_NUM_STEPS.value,
        seed=_DRAW_SEED.value,
    )
    private = merf.load(_CONFIG.value, options)
    config, names = private.config, private.train.names
    counts = image_sampling.class_counts(
        _NUM_IMAGES.value, num_classes=len(names)
    )
    labels = np.repeat(np.arange(len(counts)), counts)
    found = merf.guarantee(
        private.release,
        private.epsilon,
        config.dp.delta,
        config.dp.accountant,
        seed=config.seed,
    )
    folder = image_files.ImageFolder(
        pathlib.Path(_OUT.value),
        plan={"merf": options._asdict(), "name": config.name, "privacy": found},
        labels=labels,
        names=names,
    )
    # What is there already was drawn from the one release.
    if not folder.is_finished and not folder.parts():
      folder.add(0, merf.draw(private, labels, options))
    folder.finish()
  print(f"{len(labels)} images in {folder.path}. They are {found['statement']}")


if __name__ == "__main__":
  flags.mark_flags_as_required(["config", "out"])
  cli.run(main)
