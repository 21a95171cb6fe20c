"""A lower bound on epsilon from the difference of two means.

Invariant: valid where scores are normal, and no sharper than the data: the
interval is exact (Student's, not the large-sample one), so it is as valid for
ten canaries as for ten thousand.

Example:
  >>> import numpy as np
  >>> from jax_privacy.auditing import mean_difference
  >>> noise = np.random.default_rng(0).normal(size=(2, 500))
  >>> mu = mean_difference.mu_lower_bound(
  ...     noise[0] + 1.5, noise[1], significance=0.05)
  >>> 1.2 < mu < 1.6
  True
"""

import math

import numpy as np
from scipy import special

from jax_privacy.auditing import _search

# A t statistic beyond which the common normal deviation hardly matters.
_LARGE = 1000.0
# More than SciPy's noncentral t distribution function is off there (by two
# quadratures, of 4 degrees of freedom and more). A significance smaller than
# this refutes nothing.
_ERROR = 1e-9


def mu_lower_bound(
    in_scores: np.ndarray, out_scores: np.ndarray, *, significance: float
) -> float:
  """Bounds (mean of in - mean of out) / standard deviation from below.

  ASSUMES that scores are independent and normal with one common variance. Then
  the two-sample t statistic is noncentral t, with noncentrality mu sqrt(n1 n0
  / (n1 + n0)) and n1 + n0 - 2 degrees of freedom; its distribution function
  falls with mu, and is inverted.

  Args:
    in_scores: Finite scores of canaries that were in, [num_in].
    out_scores: Finite scores of canaries that were out, [num_out].
    significance: Probability that the bound exceeds mu, in (0, 1).

  Returns:
    The bound, at least 0; infinity if all scores within a group are equal and
    the groups differ: no noise at all.

  Raises:
    ValueError: If there are fewer than 3 scores in all, or an argument breaks
      its rule.
  """
  significance = _search.significance(significance)
  num_in, num_out = len(in_scores), len(out_scores)
  freedom = num_in + num_out - 2
  if freedom < 1:
    raise ValueError(
        f"number of scores must be at least 3, got {num_in + num_out}."
    )
  difference, squares = _moments(in_scores, out_scores)
  if difference <= 0:
    return 0.0
  if squares == 0:
    return math.inf
  scale = math.sqrt(num_in * num_out / (num_in + num_out))
  statistic = difference / math.sqrt(squares / freedom) * scale
  return _noncentrality(freedom, statistic, significance) / scale


def _noncentrality(freedom, statistic, significance) -> float:
  """Bounds the noncentrality behind a positive t statistic from below."""
  if statistic > _LARGE:
    from scipy import stats  # An import of a second, when it is needed.

    # T = (Z + c) / W has c >= T w - z unless W < w or Z > z. SciPy's
    # distribution function gives up here; this costs at most 1% of c.
    w = math.sqrt(stats.chi2.ppf(0.99 * significance, freedom) / freedom)
    return max(0.0, statistic * w - float(stats.norm.isf(0.01 * significance)))
  # A noncentrality under which so large a statistic is too rare is refuted.
  return _search.largest_rejected(
      lambda c: 1 - special.nctdtr(freedom, c, statistic) + _ERROR
      < significance
  )


def _moments(in_scores, out_scores):
  """Difference of means and sum of squares, in units in which neither is 0."""
  in_scores = np.asarray(in_scores, np.float64)
  out_scores = np.asarray(out_scores, np.float64)
  # Shifted and scaled first: squares of tiny scores would vanish, and no
  # spread at all would be seen.
  center = np.mean(out_scores)
  shifted = [in_scores - center, out_scores - center]
  unit = max(np.max(np.abs(x)) for x in shifted)
  if unit == 0:
    return 0.0, 0.0
  ins, outs = (x / unit for x in shifted)
  squares = np.sum((ins - np.mean(ins)) ** 2)
  squares += np.sum((outs - np.mean(outs)) ** 2)
  return float(np.mean(ins) - np.mean(outs)), float(squares)
