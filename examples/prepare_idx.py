"""Prepares MNIST or Fashion-MNIST for `tfds:` sources, from files at hand.

TFDS prepares a set from the archives that it downloads and checks, with
TensorFlow. This takes the IDX files that you have, and needs TFDS alone:

  python examples/prepare_idx.py --name=fashion_mnist \
    --path=data/fashion-mnist --data_dir=data/tfds

The keys of the examples are TFDS's own, and so is the order that it gives them,
its "train" and "valid" included. Pixels and labels are the files'.
"""

import io
from typing import Any

import PIL.Image
from absl import app, flags

from jax_privacy import data

_NAME = flags.DEFINE_enum(
    "name", None, ["fashion_mnist", "mnist"], "What the files hold."
)
_PATH = flags.DEFINE_string("path", None, "The folder of the four IDX files.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where to write.")


def prepare(name, *, path, data_dir):
  """Writes both splits of the IDX files in `path`, in TFDS's format."""
  import tensorflow_datasets as tfds

  # TFDS's builder writes the set's description and calls these two methods.
  class FromFiles(tfds.builder_cls(name), skip_registration=True):

    def _split_generators(self, dl_manager):
      return {split: self._examples(split) for split in ("train", "test")}

    def _examples(self, split):
      arrays = data.load("idx", path=path, split=split).as_arrays()
      pairs = zip(arrays["image"], arrays["label"], strict=True)
      for key, (image, label) in enumerate(pairs):
        png = io.BytesIO()  # Encoded here, or TFDS would use TensorFlow.
        PIL.Image.fromarray(image[..., 0]).save(png, "PNG")
        png.seek(0)
        yield key, {"image": png, "label": int(label)}

  FromFiles.name = name
  # TFDS's base class fills in what it declares abstract.
  make_builder: Any = FromFiles
  make_builder(
      data_dir=data_dir, file_format="array_record"
  ).download_and_prepare()


def main(argv):
  """Prepares the set that the flags name."""
  if len(argv) > 1:
    raise app.UsageError(f"Arguments must be flags, got {argv[1]!r}.")
  prepare(_NAME.value, path=_PATH.value, data_dir=_DATA_DIR.value)
  print(f"tfds:{_NAME.value} is prepared: data_dir={_DATA_DIR.value}")


if __name__ == "__main__":
  flags.mark_flags_as_required(["name", "path", "data_dir"])
  app.run(main)
