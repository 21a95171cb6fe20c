"""What a source of labelled images is, and the checks that sources share.

Invariant: `source[indices]` is a pure function of the indices. Index -1 is
padding and gives a zero image of label 0 (labels -1 where an example has
several, which no loss counts), so a padded batch never shows an example that it
did not draw. Any other index outside the source is an error.

>>> import numpy as np
>>> rows, padding = check_indices(np.array([2, -1, 0]), length=3)
>>> rows.tolist(), padding.tolist()
([2, 0, 0], [False, True, False])
>>> check_indices(np.array([3]), length=3)
Traceback (most recent call last):
...
IndexError: indices must be -1 (padding) or in [0, 3), got 3.
"""

import contextlib
import os
import pathlib
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Protocol, TypeAlias

import numpy as np

from jax_privacy import _validate
from jax_privacy.data import bounded, columns
from jax_privacy.data import labels as labels_lib

Group = labels_lib.Group

Batch: TypeAlias = dict[str, np.ndarray]
"""{"image": uint8 [n, height, width, channels], "label": int32 [n]}; where an
example has several labels, "label" is int32 [n, num_labels] of 1, 0 and -1. A
`FeatureSource` has float32 features for images."""

# It costs memory before any data are read; the most that options may ask for.
_MAX_SIDE = 2**13
_SPLIT_ALIASES = {"train_valid": "train+valid"}


class ExampleError(ValueError):
  """An example that cannot be used; found when it is first read: private."""


class Source(Protocol):
  """Labelled images with random access.

  Attributes:
    num_examples: The STATED, public number of examples, which accounting uses.
      It equals `len(source)`, which is checked when the source is made.
      Reading it is a ValueError where none was stated.
    label_names: The classes; label i is called `label_names[i]`.
    num_classes: The number of classes, or of labels an example.
    image_shape: Height, width and channels of every image.
    is_multi_label: Whether each example has all the labels, every one present
      (1), absent (0) or not to be counted (-1), instead of being of one class.
    groups: Columns such as sex or age group, by name; for evaluation only.
    image_dtype: Type of the images: uint8, or float32 for features.
    in_memory: Whether reading copies pixels, and decodes nothing.
  """

  label_names: tuple[str, ...]
  image_shape: tuple[int, int, int]
  is_multi_label: bool
  groups: Mapping[str, Group]
  image_dtype: np.dtype
  in_memory: bool

  @property
  def num_examples(self) -> int:
    """The stated number of examples."""

  @property
  def num_classes(self) -> int:
    """The number of classes."""

  def __len__(self) -> int:
    """The number of examples there really are: private."""

  def __getitem__(self, indices: np.ndarray) -> Batch:
    """Returns the examples at a 1-D array of integers; -1 is padding."""

  def as_arrays(self) -> Batch:
    """Returns all the examples, in order of index; they must fit in memory."""

  def column(self, name: str) -> np.ndarray:
    """Returns a column that is in no example, such as whose each is: private.

    Args:
      name: Name of the column.

    Returns:
      Values [len(self)], in order of index.

    Raises:
      ValueError: If there is none of that name.
    """


class Described:
  """The length, class names and stated size that every source has.

  Args:
    length: The number of examples there really are.
    label_names: Names of the classes; None for the decimal numbers.
    num_classes: Number of classes; None for the number of `label_names`.
    num_examples: The stated number of examples, or None where none is stated.
    groups: Columns by name, or None for none.
    read_column: Function that returns a column by name, see `Source.column`;
      None where there is none.

  Raises:
    ValueError: If a stated number is not what was found, or a group is not as
      long as the source.
  """

  is_multi_label = False
  image_dtype = np.dtype(np.uint8)
  in_memory = False

  def __init__(
      self,
      length: int,
      *,
      label_names: Sequence[str] | None,
      num_classes: int | None,
      num_examples: int | None,
      groups: Mapping[str, Group] | None = None,
      read_column: Callable[[str], np.ndarray] | None = None,
  ):
    self._read_column = read_column or columns.held({})
    self.label_names = labels_lib.check_names(label_names, num_classes)
    self.groups: Mapping[str, Group] = labels_lib.check_groups(
        groups, length=length
    )
    self._length = length
    self._stated = num_examples
    if num_examples is not None:
      self._stated = _validate.integer("num_examples", num_examples, at_least=1)
      if num_examples != len(self):
        raise ValueError(
            "num_examples must be the number of examples of the source,"
            f" {len(self)} ({bounded.PRIVATE}, unless you state it in a config"
            f" as data.num_examples), got {num_examples}."
        )

  def __len__(self) -> int:
    return self._length

  @property
  def num_classes(self) -> int:
    """The number of classes."""
    return len(self.label_names)

  @property
  def num_examples(self) -> int:
    """The stated number of examples.

    Raises:
      ValueError: If none was stated. It is not read off the data: under
        add-or-remove-one neighbours the true number is private.
    """
    if self._stated is None:
      raise ValueError(
          "num_examples must be stated to be used in accounting, got None: pass"
          " num_examples=... when the source is made."
      )
    return self._stated

  def column(self, name: str) -> np.ndarray:
    """Returns a column that is in no example, such as whose each is: private.

    Args:
      name: Name of the column.

    Returns:
      Values [len(self)], in order of index.

    Raises:
      ValueError: If there is none of that name, or it is of another length.
    """
    values = self._read_column(name)
    if values.ndim != 1 or len(values) != len(self):
      raise ValueError(
          f"column {bounded.short(repr(name))} must hold one value an example,"
          f" {len(self)}, got {list(values.shape)} ({bounded.PRIVATE})."
      )
    return values


class Labelled(Described):
  """A source whose labels are all known when it is made.

  Args:
    labels: Integers [n] in [0, num_classes); or [n, num_classes] of 1, 0 and
      -1, where an example has several.
    label_names: Names of the classes; see `Described`, and for all below.
    num_classes: Number of classes.
    num_examples: Stated number of examples.
    groups: Columns for evaluation, by name.
    read_column: Function that reads a column, by name.

  Raises:
    ValueError: If there is no example, a label breaks its rule, or a stated
      number is not what was found.
  """

  def __init__(
      self,
      labels: np.ndarray,
      *,
      label_names: Sequence[str] | None,
      num_classes: int | None,
      num_examples: int | None,
      groups: Mapping[str, Group] | None = None,
      read_column: Callable[[str], np.ndarray] | None = None,
  ):
    names = labels_lib.check_names(label_names, num_classes)
    self._labels = labels_lib.check_labels(labels, num_classes=len(names))
    self.is_multi_label = self._labels.ndim == 2
    super().__init__(
        len(self._labels),
        label_names=names,
        num_classes=None,
        num_examples=num_examples,
        groups=groups,
        read_column=read_column,
    )

  def _labels_at(self, rows: np.ndarray, padding: np.ndarray) -> np.ndarray:
    labels = self._labels[rows]
    labels[padding] = -1 if self.is_multi_label else 0
    return labels


@contextlib.contextmanager
def named(path: str) -> Generator[None, None, None]:
  """Puts the file's name before an error that does not hold it.

  Args:
    path: Path of the data that are checked.

  Yields:
    Nothing.

  Raises:
    ValueError: With that name in its text.
  """
  try:
    yield
  except ValueError as error:
    if path in str(error):
      raise
    raise ValueError(f"{path}: {error}") from error


def check_indices(
    indices: np.ndarray, *, length: int
) -> tuple[np.ndarray, np.ndarray]:
  """Checks indices, and splits them into rows to read and a padding mask.

  Args:
    indices: Integers [n], each -1 or in [0, length).
    length: The number of examples, at least 1.

  Returns:
    (rows, padding): int64 rows, 0 where padded, and a boolean mask.

  Raises:
    IndexError: If an index is out of range; the text names the first.
    ValueError: If the indices are not a 1-D array of integers.
  """
  indices = np.asarray(indices)
  if indices.ndim != 1 or (indices.size and indices.dtype.kind not in "iu"):
    raise ValueError(
        "indices must be a 1-D array of integers, got"
        f" {indices.dtype} {list(indices.shape)}."
    )
  wrong = (indices < -1) | (indices >= length)
  if wrong.any():
    raise IndexError(
        f"indices must be -1 (padding) or in [0, {length}), got"
        f" {indices[wrong.argmax()]}."
    )
  rows = indices.astype(np.int64)
  padding = rows == -1
  return np.where(padding, 0, rows), padding


def check_split(
    split: str, *, choices: Sequence[str] = ("train", "test")
) -> str:
  """Returns the split's name if it is one of those that a source has.

  The names are "train", "valid" (the part of the public training set that
  papers hold out), "train+valid" (all of it; also written "train_valid") and
  "test".

  Args:
    split: The name to check.
    choices: Those of the four that the source has.

  Returns:
    The name, one of `choices`.

  Raises:
    ValueError: If it is any other.
  """
  is_text = isinstance(split, str)
  name = _SPLIT_ALIASES.get(split, split) if is_text else split
  if name not in choices:
    *others, last = map(repr, choices)
    raise ValueError(
        f"split must be {', '.join(others)} or {last}, got {split!r}."
    )
  return name


def split_parts(split: str) -> frozenset[str]:
  """Returns the parts that a split's name joins by "+".

  Args:
    split: A name as of `check_split`, or any folder's.

  Returns:
    The parts; two splits share examples where they share a part.
  """
  return frozenset(_SPLIT_ALIASES.get(split, split).split("+"))


def check_path(path: str | os.PathLike, *, name: str = "path") -> pathlib.Path:
  """Returns the path if it is a string or a path, and not a number, say.

  Args:
    path: The path to check; whether it exists is another matter.
    name: Name of the option, for the error text.

  Returns:
    The path.

  Raises:
    ValueError: If it is anything else.
  """
  if not isinstance(path, str | os.PathLike):
    raise ValueError(f"{name} must be a string or a path, got {path!r}.")
  return pathlib.Path(path)


def check_image_size(
    image_size: Sequence[int], *, name: str = "image_size"
) -> tuple[int, int]:
  """Returns (height, width) if both are positive integers.

  Args:
    image_size: The size to check, in pixels.
    name: Name of the option, for the error text.

  Returns:
    The size as a tuple of Python ints.

  Raises:
    ValueError: If it is anything else.
  """
  is_pair = isinstance(image_size, Sequence) and len(image_size) == 2
  if not is_pair or isinstance(image_size, str):
    raise ValueError(f"{name} must be (height, width), got {image_size!r}.")
  height, width = (
      _validate.integer(name, side, at_least=1) for side in image_size
  )
  if max(height, width) > _MAX_SIDE:
    raise ValueError(
        f"{name} must be at most {_MAX_SIDE} a side, got {image_size!r}."
    )
  return height, width
