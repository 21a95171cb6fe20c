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

import numpy as np

from jax_privacy.data import arrays, source

_NUM_EXAMPLES = {"train": 1437, "test": 360}
_MAX_PIXEL = 16
_HELD_OUT_EVERY = 5


def load_digits(
    *, split: str = "train", num_examples: int | None = None
) -> arrays.ArraySource:
  """Loads the bundled digits.

  Args:
    split: "train" (1437 images) or "test" (360).
    num_examples: the stated number of examples; or None, for the published
      number of the split.

  Returns:
    A source of 8x8x1 images of 10 classes.

  Raises:
    ValueError: if the split is unknown, or the stated number is wrong.

  Source: Alpaydin and Kaynak 1998, "Optical recognition of handwritten
  digits", UCI; the test part, as `sklearn.datasets.load_digits`.
  """
  source.check_split(split)
  # Imported here: scikit-learn takes a second, and no other source needs it.
  from sklearn import datasets

  bundled = datasets.load_digits()
  is_test = np.zeros(len(bundled.target), bool)
  order = np.argsort(bundled.target, kind="stable")
  is_test[order[::_HELD_OUT_EVERY]] = True
  rows = np.flatnonzero(is_test == (split == "test"))
  pixels = np.floor(bundled.images[rows] * (255 / _MAX_PIXEL) + 0.5)
  return arrays.ArraySource(
      pixels.astype(np.uint8),
      bundled.target[rows],
      num_classes=10,
      num_examples=(
          _NUM_EXAMPLES[split] if num_examples is None else num_examples
      ),
  )
