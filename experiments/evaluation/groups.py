"""Who the examples are of: columns of groups, their intersections, their gaps.

Invariant: no group is dropped in silence. One that is too small for a number
has that said in the number's place, an example of unknown group is counted as
such, and intersections that are too many to be shown are named.

>>> columns = {"sex": np.array([0, 1, 1, -1])}
>>> for split in splits(columns, {"sex": ("F", "M")}):
...   print(split.column, {k: v.tolist() for k, v in split.rows.items()})
...   print(split.num_unknown)
sex {'F': [0], 'M': [1, 2]}
1
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from experiments.metrics import estimate as estimate_lib

# Of one column or pair of columns: more fill no screen, and hold few examples.
MAX_GROUPS = 200
# Between them, pairs of columns: some 45 of 10 columns.
_MAX_SPLITS = 60


class Split(NamedTuple):
  """The examples, divided by a column or by two.

  Attributes:
    column: Its name; "sex x age" for two.
    rows: Indices of the examples of each group, ascending.
    num_unknown: Examples that are in no group.
    left_out: Why `rows` is empty, or "".
  """

  column: str
  rows: dict[str, np.ndarray]
  num_unknown: int = 0
  left_out: str = ""


class Gap(NamedTuple):
  """The largest difference between two groups of a column.

  Attributes:
    value: The highest less the lowest.
    standard_error: Standard error for these two groups, which share no example.
      That they were chosen for being furthest apart is not accounted for: of
      many small groups without any difference, two are some errors apart.
    highest: The group with the highest value.
    lowest: The group with the lowest.
  """

  value: float
  standard_error: float
  highest: str
  lowest: str


def splits(
    codes: Mapping[str, np.ndarray], names: Mapping[str, tuple[str, ...]]
) -> Iterator[Split]:
  """Divides examples by each column, and by each two of them.

  Args:
    codes: Numbers of the examples' groups, by column, int [num_examples]; -1 if
      unknown.
    names: Names of the groups, by column.

  Yields:
    One column after the other, then pairs; at most 60 in all, of at most 200
    groups each. Where there are more, that is said in `left_out`.
  """
  singles = [(column,) for column in codes]
  wanted = [*singles, *itertools.combinations(codes, 2)]
  for i, columns in enumerate(wanted):
    if i == _MAX_SPLITS:
      rest = f"{len(wanted) - i} more pairs of columns"
      yield Split(rest, {}, left_out=f"only {_MAX_SPLITS} are shown")
      return
    yield _split(columns, codes, names)


def largest_gap(groups: Mapping[str, estimate_lib.Estimate]) -> Gap | None:
  """Returns the gap of the defined groups, or None if they are under two.

  Args:
    groups: Estimate of each group, by name.
  """
  defined = {k: v for k, v in groups.items() if not v.why_undefined}
  if len(defined) < 2:
    return None
  highest = max(defined, key=lambda k: defined[k].value)
  # The last of equals, so that the two are never the same group.
  lowest = min(reversed(defined), key=lambda k: defined[k].value)
  high, low = defined[highest], defined[lowest]
  return Gap(
      value=high.value - low.value,
      standard_error=math.hypot(high.standard_error, low.standard_error),
      highest=highest,
      lowest=lowest,
  )


def _split(columns, codes, names) -> Split:
  title = " x ".join(columns)
  sizes = [len(names[column]) for column in columns]
  if math.prod(sizes) > MAX_GROUPS:
    why = f"{math.prod(sizes)} groups, of which at most {MAX_GROUPS} are shown"
    return Split(title, {}, left_out=why)
  of_columns = [codes[column] for column in columns]
  is_known = np.all([code >= 0 for code in of_columns], axis=0)
  rows = {}
  for picked in itertools.product(*map(range, sizes)):
    is_in = np.all(
        [c == k for c, k in zip(of_columns, picked, strict=True)], axis=0
    )
    group = (names[c][k] for c, k in zip(columns, picked, strict=True))
    rows[", ".join(group)] = np.flatnonzero(is_in)
  return Split(title, rows, num_unknown=int((~is_known).sum()))
