"""A number that was found from examples, with its standard error.

Invariant: every number carries each example's share in its error, so that
standard errors, also of differences on the same examples, are one formula. The
influence of example i is what the estimate would move by if the example counted
for a little more, over the number of examples; the squares sum to the variance
(Efron's infinitesimal jackknife). For an accuracy p of n examples the root of
that is exactly the binomial sqrt(p (1 - p) / n).

>>> first = mean(np.array([1.0, 0.0, 1.0, 0.0]), is_share=True)
>>> print(first.value, first.standard_error)
0.5 0.25
>>> mean(np.zeros(0)).why_undefined
'no example'
>>> shown(0.5, is_share=True), shown(0.5, is_share=False, sign="+")
('50.00%', '+0.5')
"""

import math
from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
  """A number that was found from examples.

  Attributes:
    value: NaN where it is not defined.
    influence: Influences, float64, an entry for each example that was looked
      at, see above; zeros where not defined.
    num_examples: Number of them that were counted.
    num_positive: Number of these that have the label; None where there is no
      one label.
    why_undefined: Text of what was missing; "" where it is defined.
    is_share: Whether it is a share or a probability, which people read in
      percent.
  """

  value: float
  influence: np.ndarray
  num_examples: int
  num_positive: int | None = None
  why_undefined: str = ""
  is_share: bool = True

  @property
  def standard_error(self) -> float:
    """By how much another sample of examples would move it; NaN as `value`.

    It is 0 for an accuracy of 0 or 1, as the binomial formula has it: look at
    the number of examples too.
    """
    if math.isnan(self.value):
      return math.nan
    return float(np.sqrt(np.sum(self.influence**2)))

  def minus(self, other: "Estimate") -> "Estimate":
    """Returns the difference to an estimate from the same examples, in order.

    What the two share cancels in its standard error: it is a paired one.

    Args:
      other: Estimate of the same metric.
    """
    return Estimate(
        self.value - other.value,
        self.influence - other.influence,
        self.num_examples,
        self.num_positive,
        self.why_undefined or other.why_undefined,
        self.is_share,
    )


def mean(values: np.ndarray, *, is_share: bool = False) -> Estimate:
  """Returns the mean over examples of what each of them gives.

  Args:
    values: Reals [num_examples].
    is_share: Whether it is a share; see `Estimate`.
  """
  values = np.asarray(values, np.float64)
  if not len(values):
    return undefined(0, why="no example", is_share=is_share)
  value = values.mean()
  influence = (values - value) / len(values)
  return Estimate(float(value), influence, len(values), is_share=is_share)


def undefined(
    num_looked_at: int, *, why: str, is_share: bool = True
) -> Estimate:
  """Returns the estimate of a number that the examples do not define.

  Args:
    num_looked_at: Number of examples that were looked at.
    why: Text of what was missing.
    is_share: Whether it is a share; see `Estimate`.
  """
  return Estimate(
      math.nan,
      np.zeros(num_looked_at),
      num_looked_at,
      why_undefined=why,
      is_share=is_share,
  )


def shown(value: float, *, is_share: bool, sign: str = "") -> str:
  """Returns a number as people read it: a share in percent.

  Args:
    value: An estimate's value, or its standard error.
    is_share: Whether it is a share; see `Estimate`.
    sign: Format: "+" puts a sign before what is positive, too.
  """
  return f"{value:{sign}.2%}" if is_share else f"{value:{sign}.4g}"
