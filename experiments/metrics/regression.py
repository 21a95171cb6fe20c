"""How far predicted numbers are off: R2, RMSE and MAE.

Invariant: standard errors come from each example's influence (see
`estimate.py`); of R2 and RMSE they are those of the delta method.

>>> import numpy as np
>>> targets, predictions = np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 5.0])
>>> print(r2(targets, predictions).value, mae(targets, predictions).value)
-1.0 0.6666666666666666
"""

import math

import numpy as np

from experiments.metrics import estimate as estimate_lib


def r2(targets: np.ndarray, predictions: np.ndarray) -> estimate_lib.Estimate:
  """Returns 1 - sum of squared errors / sum of squares about the mean.

  Args:
    targets: Reals [n].
    predictions: Reals [n].

  Returns:
    At most 1, of any sign; undefined where all targets are equal.
  """
  targets, predictions, why = _checked(targets, predictions)
  if not why and np.ptp(targets) == 0:
    why = "all targets are equal"
  if why:
    return estimate_lib.undefined(len(targets), why=why, is_share=False)
  errors = np.square(targets - predictions)
  spread = np.square(targets - targets.mean())
  unexplained = errors.mean() / spread.mean()
  # d(A / B) = (dA - A / B dB) / B; the mean's own influence on B is 0.
  influence = (errors.mean() - errors) - unexplained * (spread.mean() - spread)
  return estimate_lib.Estimate(
      float(1 - unexplained),
      influence / spread.mean() / len(targets),
      len(targets),
      is_share=False,
  )


def rmse(targets: np.ndarray, predictions: np.ndarray) -> estimate_lib.Estimate:
  """Returns the root of the mean squared error, in the target's units.

  Args:
    targets: Reals [n].
    predictions: Reals [n].
  """
  targets, predictions, why = _checked(targets, predictions)
  if why:
    return estimate_lib.undefined(len(targets), why=why, is_share=False)
  squared = estimate_lib.mean(np.square(targets - predictions))
  value = math.sqrt(squared.value)
  influence = squared.influence
  if value:
    influence = influence / (2 * value)
  return squared._replace(value=value, influence=influence)


def mae(targets: np.ndarray, predictions: np.ndarray) -> estimate_lib.Estimate:
  """Returns the mean absolute error, in the target's units.

  Args:
    targets: Reals [n].
    predictions: Reals [n].
  """
  targets, predictions, why = _checked(targets, predictions)
  if why:
    return estimate_lib.undefined(len(targets), why=why, is_share=False)
  return estimate_lib.mean(np.abs(targets - predictions))


def _checked(targets, predictions):
  """Returns both in float64, and why nothing can be said of them, or ""."""
  targets = np.asarray(targets, np.float64)
  predictions = np.asarray(predictions, np.float64)
  why = ""
  if not len(targets):
    why = "no example"
  elif not np.isfinite(predictions).all():
    why = "predictions that are not finite"
  return targets, predictions, why
