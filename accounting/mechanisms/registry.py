"""Finds the class of a release by its kind.

Invariant: this table is the only list of them. To add one, write its class in
a file here, and add its line.

>>> get("laplace").__name__
'Laplace'
>>> get("shuffle")
Traceback (most recent call last):
ValueError: kind must be one of laplace, discrete_laplace, gaussian, \
discrete_gaussian, randomized_response, exponential, approximate_dp, zcdp, \
public, got 'shuffle'.
"""

from typing import Any

from accounting import _validate
from accounting.mechanisms import gaussian, laplace, public, responses, stated
from accounting.mechanisms.basic import Basic

_KINDS: tuple[type[Basic], ...] = (
    laplace.Laplace,
    laplace.DiscreteLaplace,
    gaussian.Gaussian,
    gaussian.DiscreteGaussian,
    responses.RandomizedResponse,
    responses.Exponential,
    stated.ApproximateDp,
    stated.ZeroConcentratedDp,
    public.Public,
)


def names() -> tuple[str, ...]:
  """Returns the names of all kinds."""
  return tuple(each.kind for each in _KINDS)


def get(kind: Any) -> type[Basic]:
  """Returns the class of that kind.

  Args:
    kind: Name of the kind.

  Raises:
    ValueError: If there is none.
  """
  _validate.choice("kind", kind, options=names())
  return next(each for each in _KINDS if each.kind == kind)
