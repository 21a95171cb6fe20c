"""Area under the ROC curve, of one label and of many.

Invariant: an example whose label is not to be counted (-1) moves nothing, and
what the examples do not define (a label that all or none of them have) is said
to be undefined and never taken for a number. Standard errors are DeLong's, but
with m for m - 1 (see `estimate.Estimate`): an example's influence is how
often it is ranked right among those of the other kind, less the mean. That
makes one of a macro or micro mean, whose labels share examples, as simple.

>>> found = auc(np.array([1, 0, 1, 0, -1]), np.array([3.0, 1.0, 2.0, 2.0, 9.0]))
>>> found.value  # Of four pairs three are in order, and one is a tie.
0.875
>>> auc(np.array([1, 1]), np.array([0.1, 0.2])).why_undefined
'no example without it'
"""

import math
from collections.abc import Sequence

import numpy as np

from experiments.metrics import estimate as estimate_lib
from jax_privacy import _extras


def auc(labels: np.ndarray, scores: np.ndarray) -> estimate_lib.Estimate:
  """Returns the chance that a positive example scores above a negative one.

  Args:
    labels: Integers [num_examples]: 1, 0, or -1 for one not to be counted.
    scores: Reals [num_examples], in any increasing scale.

  Returns:
    The area, ties counting half; influences of the uncounted are 0.

  Raises:
    ValueError: If a label is none of the three.

  Source: DeLong et al. 1988; the value is scikit-learn's `roc_auc_score`.
  """
  if not np.isin(labels, (-1, 0, 1)).all():
    raise ValueError(f"labels must be 1, 0 or -1, got {np.unique(labels)}.")
  is_counted = labels >= 0
  positive, scores = labels[is_counted] == 1, scores[is_counted]
  found = estimate_lib.Estimate(
      value=math.nan,
      influence=np.zeros(len(labels)),
      num_examples=len(positive),
      num_positive=int(positive.sum()),
      why_undefined=_why_undefined(positive, scores),
  )
  if found.why_undefined:
    return found
  with _extras.needed("data"):
    from sklearn import metrics  # Takes a second to import.

  # By ranks: the same area, and infinite scores are as good as any.
  value = float(metrics.roc_auc_score(positive, _ranks(scores)))
  found.influence[is_counted] = _influence(positive, scores, value)
  return found._replace(value=value)


def macro(estimates: Sequence[estimate_lib.Estimate]) -> estimate_lib.Estimate:
  """Returns the mean over those labels whose area is defined.

  Args:
    estimates: Estimates of the same examples, at least one: one a label.
  """
  num_examples = len(estimates[0].influence)
  influences = [e.influence for e in estimates if not e.why_undefined]
  if not influences:
    return estimate_lib.undefined(num_examples, why="no label is defined")
  value = np.mean([e.value for e in estimates if not e.why_undefined])
  influence = np.sum(influences, axis=0) / len(influences)
  return estimate_lib.Estimate(float(value), influence, num_examples)


def micro(labels: np.ndarray, scores: np.ndarray) -> estimate_lib.Estimate:
  """Returns the area over all pairs of an example and a label at once.

  Args:
    labels: Integers [num_examples, num_labels], as for `auc`.
    scores: Reals of that shape, in a scale that the labels share.

  Returns:
    The area; its influences are summed over each example's labels, which
    come and go together.
  """
  pairs = auc(labels.ravel(), scores.ravel())
  return pairs._replace(
      influence=pairs.influence.reshape(labels.shape).sum(axis=1),
      num_examples=len(labels),
      num_positive=None,
  )


def _why_undefined(positive: np.ndarray, scores: np.ndarray) -> str:
  if not positive.any():
    return "no example with it"
  if positive.all():
    return "no example without it"
  if np.isnan(scores).any():
    return "NaN among the scores"
  return ""


def _influence(positive, scores, value) -> np.ndarray:
  """Each example's share: its placement among the other kind, by ranks."""
  num_positive = positive.sum()
  num_negative = len(positive) - num_positive
  ranks = _ranks(scores)
  influence = np.empty(len(scores))
  below = ranks[positive] - _ranks(scores[positive])
  influence[positive] = (below / num_negative - value) / num_positive
  below = ranks[~positive] - _ranks(scores[~positive])
  influence[~positive] = (1 - below / num_positive - value) / num_negative
  return influence


def _ranks(scores: np.ndarray) -> np.ndarray:
  """Returns ranks from 1; ties share the mean of theirs."""
  from scipy import stats  # An import of a second, before the first line.

  return stats.rankdata(scores)
