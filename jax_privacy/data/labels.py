"""Labels, their names, and groups of examples: what they are, and the checks.

Invariant: labels are int32 of one of two kinds. [n]: one class an example, in
[0, num_classes). [n, num_labels]: several labels an example, each 1 (present),
0 (absent) or -1 (unknown, not to be counted in a loss or a metric).

>>> import numpy as np
>>> check_labels(np.array([[1, 0], [-1, 1]]), num_classes=2).shape
(2, 2)
>>> check_labels(np.array([[1, 2]]), num_classes=2)
Traceback (most recent call last):
...
ValueError: labels must be 1, 0 or -1 where an example has several, got 2 at \
index 0.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jax_privacy import _validate
from jax_privacy.data import bounded

# It costs memory before any data are read; the most that options may ask for.
_MAX_CLASSES = 2**20


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Group:
  """A column that splits examples into groups, such as sex or age.

  It is read in evaluation only, never in training.

  Args:
    names: The groups; code i is called `names[i]`.
    codes: Integers [n] in [0, len(names)), or -1 where it is unknown.

  Raises:
    ValueError: If a name or a code breaks its rule.
  """

  names: tuple[str, ...]
  codes: np.ndarray

  def __post_init__(self):
    names = _distinct_printable("names of a group", self.names)
    codes = np.asarray(self.codes)
    if codes.ndim != 1 or codes.dtype.kind not in "iu":
      raise ValueError(
          "codes of a group must be a 1-D array of integers, got"
          f" {codes.dtype} {list(codes.shape)}."
      )
    wrong = (codes < -1) | (codes >= len(names))
    if wrong.any():
      first = int(wrong.argmax())
      raise ValueError(
          "codes of a group must be -1 (unknown) or in"
          f" [0, {len(names)}), got {codes[first]} at index {first}."
      )
    object.__setattr__(self, "names", names)
    object.__setattr__(self, "codes", codes.astype(np.int32))


def check_groups(
    groups: Mapping[str, Group] | None, *, length: int
) -> dict[str, Group]:
  """Returns the groups as a dict if each is a code for each example.

  Args:
    groups: Columns by name, or None for none.
    length: The number of examples.

  Returns:
    The groups.

  Raises:
    ValueError: If a name is no printable string, or a column is no `Group` of
      that length.
  """
  groups = {} if groups is None else groups
  if not isinstance(groups, Mapping):
    shown = bounded.short(repr(groups))
    raise ValueError(f"groups must be columns by name, got {shown}.")
  for name, group in groups.items():
    if not (isinstance(name, str) and name and name.isprintable()):
      shown = bounded.short(repr(name))
      raise ValueError(f"groups must have printable names, got {shown}.")
    found = len(group.codes) if isinstance(group, Group) else "no Group"
    if found != length:
      raise ValueError(
          f"groups must hold a code for each example, {length}, got {found} for"
          f" {bounded.short(name)!r}."
      )
  return dict(groups)


def check_names(
    label_names: Sequence[str] | None, num_classes: int | None
) -> tuple[str, ...]:
  """Returns the names of classes, or of labels, which must all differ.

  Args:
    label_names: The names; or None, for the decimal numbers.
    num_classes: Number of classes; None for the number of `label_names`.

  Returns:
    The names.

  Raises:
    ValueError: If neither is given, they disagree, or one breaks its rule.
  """
  if num_classes is not None:
    num_classes = _validate.integer("num_classes", num_classes, at_least=1)
    if num_classes > _MAX_CLASSES:
      raise ValueError(
          f"num_classes must be at most {_MAX_CLASSES}, got {num_classes}."
      )
  if label_names is None:
    if num_classes is None:
      raise ValueError(
          "num_classes must be given where label_names is not, got None: it is"
          " not read off the labels."
      )
    return tuple(str(i) for i in range(num_classes))
  names = _distinct_printable("label_names", label_names)
  if num_classes is not None and num_classes != len(names):
    raise ValueError(
        f"num_classes must be the number of label_names, {len(names)}, got"
        f" {num_classes}."
    )
  return names


def check_labels(labels: np.ndarray, *, num_classes: int) -> np.ndarray:
  """Returns labels as int32 if they are of one of the two kinds.

  Args:
    labels: Integers, [n] in [0, num_classes) or [n, num_classes] of 1, 0, -1.
    num_classes: The number of classes, or of labels an example.

  Returns:
    A copy.

  Raises:
    ValueError: If a label breaks its rule, or there is no example.
  """
  labels = np.asarray(labels)
  if labels.ndim not in (1, 2) or labels.dtype.kind not in "iu":
    raise ValueError(
        "labels must be a 1-D array of integers, or 2-D where an example has"
        f" several, got {labels.dtype} {list(labels.shape)}."
    )
  if not len(labels):
    raise ValueError("labels must hold at least one example, got none.")
  if labels.ndim == 1:
    rule = f"in [0, {num_classes})"
    wrong = (labels < 0) | (labels >= num_classes)
  else:
    if labels.shape[1] != num_classes:
      raise ValueError(
          f"labels must be as many an example as label_names, {num_classes},"
          f" got {labels.shape[1]}."
      )
    rule = "1, 0 or -1 where an example has several"
    wrong = (labels < -1) | (labels > 1)
  if wrong.any():
    first = np.argwhere(wrong)[0]
    raise ValueError(
        f"labels must be {rule}, got {labels[tuple(first)]} at index"
        f" {first[0]}."
    )
  return labels.astype(np.int32)


def check_flag(name: str, value: bool) -> bool:
  """Returns the value if it is True or False.

  Args:
    name: Name of the value, for the error text.
    value: The value to check.

  Returns:
    The value.

  Raises:
    ValueError: If it is anything else.
  """
  if not isinstance(value, bool):
    raise ValueError(f"{name} must be True or False, got {value!r}.")
  return value


def _distinct_printable(
    what: str, given: Sequence[Any] | np.ndarray
) -> tuple[str, ...]:
  # A string is a sequence too, of its letters: not what anyone means.
  is_list = isinstance(given, Sequence | np.ndarray)
  is_list = is_list and not isinstance(given, str)
  names = tuple(str(name) for name in given) if is_list else ()
  # Names are printed: a line break or an escape code in one is a forgery.
  printable = all(name.isprintable() for name in names)
  if not names or len(set(names)) != len(names) or not printable:
    raise ValueError(
        f"{what} must be one or more different printable names, got"
        f" {bounded.short(repr(given))}."
    )
  return names
