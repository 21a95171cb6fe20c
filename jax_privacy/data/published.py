"""Where papers cut the public image sets into train, valid and test.

Invariant: every number here is published, and none is read off a data set: the
sizes may be used in accounting. Positions are those in the order that
TensorFlow Datasets gives a set.

"train" and "valid" are the public training set in two, "train+valid" is all of
it. "test" is what papers report on: the public validation set where the labels
of the test set are not published (ImageNet, Places-365).

>>> size("cifar10", split="train"), size("cifar10", split="train+valid")
(45000, 50000)
>>> SETS["imagenet2012"].cut("valid"), SETS["imagenet2012"].cut("test")
(('train', 0, 10000), ('validation', 0, 50000))
"""

import dataclasses
import types

from jax_privacy.data import source

SPLITS = ("train", "valid", "train+valid", "test")
"""The splits of every set."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cuts:
  """Where a set is cut.

  Attributes:
    train: Start and stop of "train" in the public training set.
    valid: Start and stop of "valid" there.
    test: Number of examples of "test".
    test_name: TFDS's name of "test".
  """

  train: tuple[int, int]
  valid: tuple[int, int]
  test: int
  test_name: str = "test"

  def cut(self, split: str) -> tuple[str, int, int]:
    """Returns where a split is found.

    Args:
      split: One of `SPLITS`.

    Returns:
      (TFDS's name of the set that it is cut from, start, stop).

    Raises:
      ValueError: If there is no such split.
    """
    split = source.check_split(split, choices=SPLITS)
    if split == "test":
      return self.test_name, 0, self.test
    whole = (0, max(self.train[1], self.valid[1]))
    cuts = {"train": self.train, "valid": self.valid, "train+valid": whole}
    return "train", *cuts[split]


# Source: the code of De et al. 2022 and its successors (jax_privacy 1.0,
# experiments/image_data), whose cut of MNIST is Fashion-MNIST's here too.
_MNIST = Cuts(train=(0, 50_000), valid=(50_000, 60_000), test=10_000)
_CIFAR = Cuts(train=(0, 45_000), valid=(45_000, 50_000), test=10_000)

SETS: types.MappingProxyType[str, Cuts] = types.MappingProxyType(
    {
        "cifar10": _CIFAR,
        "cifar100": _CIFAR,
        "fashion_mnist": _MNIST,
        "imagenet2012": Cuts(
            train=(10_000, 1_281_167),
            valid=(0, 10_000),
            test=50_000,
            test_name="validation",
        ),
        "mnist": _MNIST,
        "places365_small": Cuts(
            train=(10_000, 1_803_460),
            valid=(0, 10_000),
            test=36_500,
            test_name="validation",
        ),
        "svhn_cropped": Cuts(
            train=(0, 68_257), valid=(68_257, 73_257), test=26_032
        ),
    }
)
"""The sets, by TFDS's names."""


def size(name: str, *, split: str) -> int:
  """Returns the published number of examples of a split.

  Args:
    name: One of `SETS`.
    split: One of `SPLITS`.

  Returns:
    The number of examples.

  Raises:
    ValueError: If there is no such set or split.
  """
  _, start, stop = cuts(name).cut(split)
  return stop - start


def cuts(name: str) -> Cuts:
  """Returns where a set is cut.

  Args:
    name: One of `SETS`.

  Returns:
    The cuts.

  Raises:
    ValueError: If there is no such set.
  """
  if name not in SETS:
    raise ValueError(f"name must be one of {', '.join(SETS)}, got {name!r}.")
  return SETS[name]
