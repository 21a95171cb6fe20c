"""Small sets that TFDS has prepared, and what it would say of whole ones."""

import importlib.util
import io
import pathlib
import struct

import numpy as np
import PIL.Image

from jax_privacy.data import tfds as tfds_source

_EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "prepare_idx.py"


def prepare(name, data_dir, *, train, test, seed=0):
  """Writes a set of random images by the example; returns them by split.

  Image i has i, at most 255, as its first pixel, so that it can be told apart.
  """
  rng = np.random.default_rng(seed)
  path = pathlib.Path(data_dir) / "idx"
  path.mkdir(parents=True)
  arrays = {}
  for split, prefix, size in (
      ("train", "train", train),
      ("test", "t10k", test),
  ):
    images = rng.integers(0, 256, (size, 28, 28), dtype=np.uint8)
    images[:, 0, 0] = range(size)
    labels = rng.integers(0, 10, size).astype(np.uint8)
    _write(path / f"{prefix}-images-idx3-ubyte", images)
    _write(path / f"{prefix}-labels-idx1-ubyte", labels)
    arrays[split] = images, labels
  spec = importlib.util.spec_from_file_location("prepare_idx", _EXAMPLE)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  module.prepare(name, path=str(path), data_dir=str(data_dir))
  return arrays


def describe(name, data_dir, sizes):
  """Writes the description of a prepared set of these sizes, but no record."""
  import tensorflow_datasets as tfds

  builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
  template = tfds.core.ShardedFileTemplate(
      dataset_name=name,
      data_dir=builder.data_path,
      filetype_suffix="array_record",
  )
  splits = [
      tfds.core.SplitInfo(
          name=split,
          shard_lengths=[size],
          num_bytes=0,
          filename_template=template,
      )
      for split, size in sizes.items()
  ]
  builder.info.set_splits(tfds.core.splits.SplitDict(splits))
  builder.data_path.mkdir(parents=True)
  builder.info.write_to_directory(builder.data_path)


class Records:
  """A sequence of records that are made when they are read."""

  def __init__(self, length, record_fn):
    self._length, self._record_fn = length, record_fn

  def __len__(self):
    return self._length

  def __getitems__(self, indices):
    return [self._record_fn(i) for i in indices]


def source(record, image_shape=(5, 4, 3), resize=False):
  return tfds_source.TfdsSource(
      Records(3, lambda i: record),
      description="tfds:x, 'train'",
      image_shape=image_shape,
      resize=resize,
      label_names=("a", "b"),
      num_examples=3,
  )


def png(image):
  file = io.BytesIO()
  PIL.Image.fromarray(image).save(file, "PNG")
  return file.getvalue()


def _write(path, array):
  shape = struct.pack(f">{array.ndim}I", *array.shape)
  path.write_bytes(bytes([0, 0, 8, array.ndim]) + shape + array.tobytes())
