"""A source of images that are in memory.

Invariant: the arrays are checked once, when the source is made, and the source
never writes to them.

>>> import numpy as np
>>> images = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
>>> source = ArraySource(images, np.array([0, 1, 1]), num_classes=2)
>>> source.image_shape, source[np.array([1])]["image"].ravel().tolist()
((2, 2, 1), [4, 5, 6, 7])
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jax_privacy.data import bounded, digest, source
from jax_privacy.data import columns as columns_lib


class ArraySource(source.Labelled):
  """Images and labels given as arrays.

  Args:
    images: Pixels, uint8 [n, height, width] or [n, height, width, channels].
    labels: Integers [n] in [0, num_classes); or [n, num_classes] of 1, 0 and
      -1, where an example has several.
    label_names: Names of the classes; None for the decimal numbers.
    num_classes: Number of classes; None for the number of `label_names`.
    num_examples: Stated number of examples; must be n.
    groups: Columns for evaluation, by name.
    columns: Other columns [n] by name, such as the ids of the persons whose
      images these are; or a function that reads one by name.

  Raises:
    ValueError: If shape, dtype, a label or a stated number is wrong.
  """

  in_memory = True

  def __init__(
      self,
      images: np.ndarray,
      labels: np.ndarray,
      *,
      label_names: Sequence[str] | None = None,
      num_classes: int | None = None,
      num_examples: int | None = None,
      groups: Mapping[str, source.Group] | None = None,
      columns: Mapping[str, Any] | Callable[[str], np.ndarray] | None = None,
  ):
    images = np.asarray(images)
    if images.ndim == 3:
      images = images[..., None]
    if images.ndim != 4 or images.dtype != np.uint8:
      raise ValueError(
          "images must be uint8 [n, height, width] or [n, height, width,"
          f" channels], got {images.dtype} {list(images.shape)}."
      )
    if 0 in images.shape[1:]:
      raise ValueError(
          f"images must have at least one pixel, got {list(images.shape)}."
      )
    super().__init__(
        labels,
        label_names=label_names,
        num_classes=num_classes,
        num_examples=num_examples,
        groups=groups,
        read_column=(
            columns if callable(columns) else columns_lib.held(columns or {})
        ),
    )
    if len(images) != len(self):
      raise ValueError(
          f"images must be as many as the labels, {len(self)}, got"
          f" {len(images)} ({bounded.PRIVATE})."
      )
    self._images = images
    _, height, width, channels = images.shape
    self.image_shape = (height, width, channels)

  def __getitem__(self, indices: np.ndarray) -> source.Batch:
    """Returns the examples at a 1-D array of integers; -1 is padding."""
    rows, padding = source.check_indices(indices, length=len(self))
    images = self._images[rows]
    images[padding] = 0
    return {"image": images, "label": self._labels_at(rows, padding)}

  def as_arrays(self) -> source.Batch:
    """Returns a copy of all the examples, in order of index."""
    return {"image": self._images.copy(), "label": self._labels.copy()}

  def digest_parts(self) -> Iterator[digest.Part]:
    """Yields what tells these examples from others: pixels and labels."""
    yield from (self._images, self._labels)


def load_arrays(
    *,
    split: str = "train",
    images: np.ndarray,
    labels: np.ndarray,
    label_names: Sequence[str] | None = None,
    num_classes: int | None = None,
    num_examples: int | None = None,
    groups: Mapping[str, source.Group] | None = None,
    columns: Mapping[str, Any] | None = None,
) -> ArraySource:
  """Makes an `ArraySource`, by keyword.

  Args:
    split: Any name for these arrays; nothing depends on it.
    images: Pixels; see `ArraySource` for this and all below.
    labels: Labels of the images.
    label_names: Names of the classes.
    num_classes: Number of classes.
    num_examples: Stated number of examples.
    groups: Columns for evaluation, by name.
    columns: Other columns, by name.

  Returns:
    The source.

  Raises:
    ValueError: If an argument breaks its rule; see `ArraySource`.
  """
  del split
  return ArraySource(
      images,
      labels,
      label_names=label_names,
      num_classes=num_classes,
      num_examples=num_examples,
      groups=groups,
      columns=columns,
  )
