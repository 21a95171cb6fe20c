"""How good predicted probabilities are: log loss, Brier score, calibration.

Invariant: each number is defined for any probabilities in [0, 1], and says so
where it is not; standard errors come from each example's influence (see
`estimate.py`).

>>> import numpy as np
>>> labels = np.array([0, 1, 1])
>>> probabilities = np.array([[0.75, 0.25], [0.5, 0.5], [0.0, 1.0]])
>>> print(f"{log_loss(labels, probabilities).value:.4f}")
0.3269
>>> print(f"{brier(labels, probabilities).value:.4f}")
0.1042
"""

import numpy as np

from experiments.metrics import estimate as estimate_lib

# Of float64, as in scikit-learn: a class of probability 0 costs 36 nats.
_LEAST = float(np.finfo(np.float64).eps)
NUM_BINS = 15
"""Bins of `calibration_error`, as Guo et al. have them."""


def softmax(logits: np.ndarray) -> np.ndarray:
  """Returns probabilities [n, num_classes], float64.

  Args:
    logits: Logits [n, num_classes]; or [n, 1], of the second of two classes.
  """
  logits = np.asarray(logits, np.float64)
  if logits.shape[1] == 1:
    logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
  # An infinite logit is a certain class, and not a NaN.
  highest = logits.max(axis=1, keepdims=True)
  finite = np.where(np.isfinite(highest), highest, 0.0)
  limited = np.clip(logits - finite, -np.inf, 700.0)
  exponents = np.exp(limited)
  return exponents / exponents.sum(axis=1, keepdims=True)


def log_loss(
    labels: np.ndarray, probabilities: np.ndarray
) -> estimate_lib.Estimate:
  """Returns the mean of -log of the right class's probability, in nats.

  Args:
    labels: Integers [n], in [0, num_classes).
    probabilities: Probabilities of the classes, [n, num_classes].

  Returns:
    The mean; probabilities are clipped to [eps, 1 - eps] of float64, as
    scikit-learn's `log_loss` clips them.
  """
  why = _why_undefined(probabilities)
  if why:
    return estimate_lib.undefined(len(labels), why=why, is_share=False)
  clipped = np.clip(_of_right(labels, probabilities), _LEAST, 1 - _LEAST)
  return estimate_lib.mean(-np.log(clipped))


def brier(
    labels: np.ndarray, probabilities: np.ndarray
) -> estimate_lib.Estimate:
  """Returns the mean squared error of the probabilities.

  Args:
    labels: Labels, as for `log_loss`.
    probabilities: Probabilities, as for `log_loss`.

  Returns:
    Of two classes, the mean of (p - y)^2 of either, in [0, 1]; of more, of the
    sum over classes, in [0, 2].

  Source: Brier 1950; scikit-learn's `brier_score_loss`, by whose default the
    score of two classes is halved.
  """
  why = _why_undefined(probabilities)
  if why:
    return estimate_lib.undefined(len(labels), why=why, is_share=False)
  wanted = np.eye(probabilities.shape[1])[labels]
  errors = np.sum((probabilities - wanted) ** 2, axis=1)
  if probabilities.shape[1] == 2:
    errors = errors / 2
  return estimate_lib.mean(errors)


def calibration_error(
    labels: np.ndarray,
    probabilities: np.ndarray,
    *,
    num_bins: int = NUM_BINS,
) -> estimate_lib.Estimate:
  """Returns the expected calibration error of the predicted class.

  Examples are put in `num_bins` bins of equal width by the probability of the
  class that is predicted. It is the mean over examples of |share of right
  predictions - mean probability| of their bin. Of few examples it is too high:
  bins are off by chance.

  Args:
    labels: Labels, as for `log_loss`.
    probabilities: Probabilities, as for `log_loss`.
    num_bins: Bins of (0, 1]; bin i is (i / num_bins, (i + 1) / num_bins].

  Returns:
    The error; its standard error holds the signs of the bins' gaps fixed, and
    is too small where a gap is near 0.

  Source: Naeini et al. 2015; Guo et al. 2017 (arXiv 1706.04599), eq. 3.
  """
  why = _why_undefined(probabilities)
  if why:
    return estimate_lib.undefined(len(labels), why=why)
  highest = probabilities.max(axis=1)
  is_right = probabilities.argmax(axis=1) == labels
  bins = np.ceil(highest * num_bins).astype(int) - 1
  bins = np.clip(bins, 0, num_bins - 1)
  gaps = is_right - highest
  signs = np.sign(np.bincount(bins, gaps, minlength=num_bins))
  # The sum over bins of |sum of gaps|, over n: a mean, once signs are fixed.
  return estimate_lib.mean(gaps * signs[bins], is_share=True)


def _of_right(labels, probabilities) -> np.ndarray:
  return np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]


def _why_undefined(probabilities) -> str:
  if not len(probabilities):
    return "no example"
  return "NaN among the predictions" if np.isnan(probabilities).any() else ""
