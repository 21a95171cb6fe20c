"""Sources for workers to read, and a program that reads with workers.

Run as a program, it prints its workers' process ids and waits to be killed.
"""

import os
import sys
import time

import numpy as np

from jax_privacy import data
from jax_privacy.data import reading, source


class Telling(source.Labelled):
  """A source whose labels tell of the process that read them."""

  image_shape = (8, 8, 1)

  def __init__(self, length=1000):
    super().__init__(
        np.zeros(length, np.int32),
        label_names=None,
        num_classes=10,
        num_examples=length,
    )

  def __getitem__(self, indices):
    from jax._src import xla_bridge

    told = [os.getpid(), xla_bridge.backends_are_initialized()]
    told += ["PLANTED" in globals()]
    shape = (len(indices), *self.image_shape)
    return {
        "image": np.zeros(shape, np.uint8),
        "label": np.array([told], np.int32),
    }


class Failing(Telling):
  """A source of which one example cannot be read."""

  def __getitem__(self, indices):
    if 7 in indices:
      raise data.ImageError("image 7 must be readable")
    if 8 in indices:
      raise FileNotFoundError(2, "No such file", "8.png")
    return super().__getitem__(indices)


def main():
  batches = reading.read(
      Telling(), [np.arange(3)] * 100, num_workers=2, prefetch=1
  )
  pids = {int(next(batches)["label"][0, 0]) for _ in range(2)}
  print(*pids, flush=True)
  time.sleep(float(sys.argv[1]))


if __name__ == "__main__":
  main()
