"""The 8x8 handwritten digits that scikit-learn bundles: no download.

Invariant: the split is fixed by the rule below and uses no random generator, so
it is the same under every version of every library.

The rule: sort the 1797 images by label, ties by position in the bundled set;
every fifth image of that order, the first included, is held out. This gives 360
test images, 35 to 37 a class, and 1437 training images; both keep the bundled
order. A pixel p in 0..16 becomes floor(255 p / 16 + 1/2).

>>> len(load_digits(split="train")), len(load_digits(split="test"))
(1437, 360)
"""

import functools
import math
import numbers
from collections.abc import Sequence

import numpy as np

from jax_privacy import _extras
from jax_privacy.data import arrays, labels, source

# By label, 0 to 9.
_NUM_EXAMPLES = {
    "train": (142, 146, 141, 147, 144, 146, 145, 143, 139, 144),
    "test": (36, 36, 36, 36, 37, 36, 36, 36, 35, 36),
}
_MAX_PIXEL = 16
_HELD_OUT_EVERY = 5
_MAX_VALUES = 2**20  # Of one image: 1.5 GB for the training split.


def load_digits(
    *,
    split: str = "train",
    num_examples: int | None = None,
    image_shape: Sequence[int] = (8, 8, 1),
    classes: Sequence[int] = tuple(range(10)),
    multi_label: bool = False,
) -> arrays.ArraySource:
  """Loads the bundled digits.

  Args:
    split: Name: "train" (1437 images) or "test" (360).
    num_examples: The stated number of examples; or None, for the published
      number of the split.
    image_shape: Height, width and channels to which images are enlarged, so
      that they can replace others in a test: each pixel becomes a block, the
      frame that is left is black, and channels are copies.
    classes: The digits to keep, each once; class k is the k-th of them.
    multi_label: Whether an image has all the classes as labels, of which its
      own alone is present, to replace sets of several labels in a test.

  Returns:
    A source of images of these classes.

  Raises:
    ValueError: If the split is unknown, the stated number is wrong, or the
      shape is smaller than 8x8x1.
    ImportError: If scikit-learn is not installed.

  Source: Alpaydin and Kaynak 1998, "Optical recognition of handwritten
  digits", UCI; the test part, as `sklearn.datasets.load_digits`.
  """
  source.check_split(split)
  classes = _check_classes(classes)
  labels.check_flag("multi_label", multi_label)
  # Imported here: scikit-learn takes a second, and no other source needs it.
  with _extras.needed("data"):
    from sklearn import datasets

  images, target = _parsed(datasets.load_digits)
  is_test = np.zeros(len(target), bool)
  order = np.argsort(target, kind="stable")
  is_test[order[::_HELD_OUT_EVERY]] = True
  is_kept = np.isin(target, classes)
  rows = np.flatnonzero(is_kept & (is_test == (split == "test")))
  digits = np.array([classes.index(digit) for digit in target[rows]])
  return arrays.ArraySource(
      _enlarge(images[rows], image_shape),
      np.eye(len(classes), dtype=np.int32)[digits] if multi_label else digits,
      label_names=[str(digit) for digit in classes],
      num_examples=(
          sum(_NUM_EXAMPLES[split][digit] for digit in classes)
          if num_examples is None
          else num_examples
      ),
  )


@functools.cache  # To parse the text takes longer than all the rest.
def _parsed(load) -> tuple[np.ndarray, np.ndarray]:
  """Images, uint8 [n, 8, 8], and their digits: what scikit-learn loads."""
  bundled = load()
  pixels = np.floor(bundled.images * (255 / _MAX_PIXEL) + 0.5)
  return pixels.astype(np.uint8), bundled.target


def _check_classes(classes: Sequence[int]) -> list[int]:
  is_digits = isinstance(classes, list | tuple) and all(
      isinstance(digit, numbers.Integral)
      and not isinstance(digit, bool)
      and 0 <= int(digit) <= 9
      for digit in classes
  )
  if not is_digits or not classes or len(set(classes)) < len(classes):
    raise ValueError(
        f"classes must be different digits, 0 to 9, got {classes!r}."
    )
  return [int(digit) for digit in classes]


def _enlarge(images: np.ndarray, shape: Sequence[int]) -> np.ndarray:
  """[n, 8, 8] to [n, *shape]: blocks of pixels, centred, channels alike."""
  height, width, channels = _check_shape(shape)
  factor = min(height // 8, width // 8)
  blocks = images.repeat(factor, axis=1).repeat(factor, axis=2)
  top, left = (height - 8 * factor) // 2, (width - 8 * factor) // 2
  bottom, right = height - 8 * factor - top, width - 8 * factor - left
  framed = np.pad(blocks, ((0, 0), (top, bottom), (left, right)))
  return np.repeat(framed[..., None], channels, axis=-1)


def _check_shape(shape: Sequence[int]) -> Sequence[int]:
  is_shape = isinstance(shape, list | tuple) and len(shape) == 3
  is_shape = is_shape and all(
      isinstance(size, numbers.Integral) and size >= least
      for size, least in zip(shape, (8, 8, 1), strict=True)
  )
  if not is_shape or math.prod(shape) > _MAX_VALUES:
    raise ValueError(
        "image_shape must be integers of at least (8, 8, 1) and a product of"
        f" at most {_MAX_VALUES}, got {shape!r}."
    )
  return shape
