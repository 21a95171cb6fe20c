"""Ratios of sums over examples, such as bits a byte, by document.

Invariant: a ratio is of the sums of all examples, not the mean of each one's
ratio. Standard errors are those of the delta method, and take documents as
independent, not the pieces that a long one was cut into.

>>> import numpy as np
>>> found = ratio(np.array([3.0, 1.0, 2.0]), np.array([2.0, 2.0, 2.0]))
>>> print(found.value, f"{found.standard_error:.4f}")
1.0 0.2357
>>> of_two = ratio(np.array([3.0, 1.0, 2.0]), np.array([2.0, 2.0, 2.0]),
...                clusters=np.array([0, 0, 1]))
>>> print(of_two.value, of_two.standard_error)
1.0 0.0
"""

import math

import numpy as np

from experiments.metrics import estimate as estimate_lib


def ratio(
    numerators: np.ndarray,
    denominators: np.ndarray,
    *,
    clusters: np.ndarray | None = None,
    is_share: bool = False,
    why_undefined: str = "nothing to divide by",
) -> estimate_lib.Estimate:
  """Returns the sum of numerators over the sum of denominators.

  Args:
    numerators: Reals [n].
    denominators: Reals of at least 0, [n].
    clusters: Numbers of what the examples are pieces of, integers [n]; None if
      each is its own.
    is_share: Whether it is a share; see `estimate.Estimate`.
    why_undefined: Text for where the denominators are 0 together.
  """
  numerators, denominators = (
      np.asarray(x, np.float64) for x in (numerators, denominators)
  )
  total = denominators.sum()
  if not total > 0:
    return estimate_lib.undefined(
        len(numerators), why=why_undefined, is_share=is_share
    )
  value = float(numerators.sum() / total)
  # d(A / B) = (dA - A / B dB) / B.
  influence = (numerators - value * denominators) / total
  if clusters is not None:
    influence = _joined(influence, np.asarray(clusters))
  return estimate_lib.Estimate(
      value, influence, len(numerators), is_share=is_share
  )


def exponential(found: estimate_lib.Estimate) -> estimate_lib.Estimate:
  """Returns exp of an estimate, such as the perplexity of a mean loss.

  Args:
    found: Estimate of any number.
  """
  if math.isnan(found.value):
    return found
  value = float(np.exp(found.value))
  return found._replace(value=value, influence=found.influence * value)


def _joined(influence: np.ndarray, clusters: np.ndarray) -> np.ndarray:
  """Gives the first of each cluster the influence of all of it."""
  _, first, member = np.unique(clusters, return_index=True, return_inverse=True)
  joined = np.zeros_like(influence)
  joined[first] = np.bincount(member.reshape(-1), weights=influence)
  return joined
