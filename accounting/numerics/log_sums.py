"""Sums of numbers that are given by their logarithms.

As `scipy.special.logsumexp`, in a third to a half of its time: most of the
accountants' time is spent here. Invariant: nothing is lost of a sum that hardly
differs from its largest term, as the moments of a rare loss do.

>>> f"{log_sum_exp(np.array([0.0, -60.0])):.4e}"  # exp(-60), and not 0.
'8.7565e-27'
"""

import numpy as np


def log_sum_exp(logs: np.ndarray, axis: int = 0) -> np.ndarray:
  """Returns log sum exp(logs).

  Args:
    logs: Logarithms, below infinity. Minus infinity is the logarithm of 0.
    axis: The axis to sum over.

  Returns:
    The logarithm of the sum, without that axis.
  """
  if logs.ndim == 1:
    first = int(np.argmax(logs))
    if np.isneginf(logs[first]):
      return logs[first]
    others = np.exp(logs - logs[first])
    others[first] = 0.0
    return logs[first] + np.log1p(np.sum(others))
  place = np.argmax(logs, axis=axis, keepdims=True)
  top = np.take_along_axis(logs, place, axis)
  with np.errstate(invalid="ignore"):  # -inf - -inf, where all terms are 0.
    others = np.exp(logs - top)
  np.put_along_axis(others, place, 0.0, axis)
  top = np.squeeze(top, axis)
  total = top + np.log1p(np.sum(others, axis=axis))
  return np.where(np.isneginf(top), -np.inf, total)
