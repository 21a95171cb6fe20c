"""What a threshold attack reaches: ROC curve, accuracy, raw estimates.

`Attack` holds the scores. Its numbers say how strong the attack was on these
canaries. They are ESTIMATES: none bounds epsilon with a stated confidence, as
the methods of `CanaryScoreAuditor` do. Their spread comes from a bootstrap.

The invariant: an attack may toss a coin between two thresholds, so the best
true positive rate at a false positive rate lies on the upper hull of the ROC
curve.

Example:
  >>> from jax_privacy.auditing import roc
  >>> attack = roc.Attack([1.0, 3.0], [0.0, 2.0])
  >>> print(attack.tpr_at_given_fpr([0.0, 0.25, 0.5]), attack.max_accuracy())
  [0.5  0.75 1.  ] 0.75
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jax_privacy import _validate
from jax_privacy.auditing import _search, error_rates


@dataclasses.dataclass(frozen=True)
class BootstrapParams:
  """How often scores are drawn anew, and which quantiles are reported.

  Attributes:
    num_samples: Number of times that scores are drawn with replacement.
    quantiles: Quantiles to report, in (0, 1): a number or several.
    bias_correction: Whether to move the quantiles by the share of draws that
      are below the metric of the scores themselves.
    acceleration: Whether to correct for a spread that changes with the metric
      too. It computes the metric once for each canary, without that canary.
    seed: Seed of the draws; None for another one each time.

  Source: Efron 1987, Better bootstrap confidence intervals, for both.

  Raises:
    ValueError: At construction, if one breaks its rule.
  """

  num_samples: int = 1000
  quantiles: float | Sequence[float] = (0.025, 0.975)
  bias_correction: bool = True
  acceleration: bool = False
  seed: int | None = None

  def __post_init__(self):
    _validate.integer("num_samples", self.num_samples, at_least=1)
    quantiles = np.asarray(self.quantiles)
    if quantiles.size == 0:
      _validate.fail("quantiles", "one or several numbers", self.quantiles)
    if not np.all((quantiles > 0) & (quantiles < 1)):
      _validate.fail("quantiles", "in (0, 1)", self.quantiles)
    if self.acceleration and not self.bias_correction:
      rule = "True with acceleration"
      _validate.fail("bias_correction", rule, self.bias_correction)

  @classmethod
  def confidence_interval(
      cls,
      num_samples: int = 1000,
      confidence: float = 0.95,
      seed: int | None = None,
  ) -> "BootstrapParams":
    """Returns the two quantiles of an interval.

    Args:
      num_samples: Number of times that scores are drawn.
      confidence: Share of the draws within the interval, in (0, 1).
      seed: Seed of the draws.

    Raises:
      ValueError: If an argument breaks its rule.
    """
    share = _validate.as_float(confidence)
    if not 0 < share < 1:
      _validate.fail("confidence", "in (0, 1)", confidence)
    tail = (1 - share) / 2
    return cls(num_samples, (tail, 1 - tail), seed=seed)


class Attack:
  """Scores of canaries that were in or out, and what they give away.

  Args:
    in_canary_scores: Scores of the canaries that were in, [num_in], finite.
    out_canary_scores: Scores of the canaries that were out, [num_out], finite.

  Raises:
    ValueError: If scores are empty, not one-dimensional or not finite.
  """

  def __init__(
      self,
      in_canary_scores: np.typing.ArrayLike,
      out_canary_scores: np.typing.ArrayLike,
  ):
    self._in = _scores("in_canary_scores", in_canary_scores)
    self._out = _scores("out_canary_scores", out_canary_scores)

  def tpr_at_given_fpr(
      self,
      fpr: np.typing.ArrayLike,
      *,
      bootstrap_params: BootstrapParams | None = None,
  ) -> Any:
    """Returns the best true positive rate at a false positive rate.

    Args:
      fpr: False positive rates, in [0, 1], any shape.
      bootstrap_params: Quantiles to return instead; `fpr` is a number then.

    Returns:
      Rates of the shape of `fpr`; or quantiles.

    Raises:
      ValueError: If an argument breaks its rule.
    """
    rates = np.asarray(fpr, np.float64)
    if not np.all((rates >= 0) & (rates <= 1)):
      _validate.fail("fpr", "in [0, 1]", fpr)
    if bootstrap_params is not None:
      if rates.ndim:
        _validate.fail(
            "fpr", "a number: fpr must be a scalar for bootstrap", fpr
        )
      return self._bootstrap(
          lambda attack: attack.tpr_at_given_fpr(fpr), bootstrap_params
      )
    found = np.interp(rates, *_upper_hull(self._in, self._out))
    return found if rates.ndim else float(found)

  def attack_auroc(
      self, *, bootstrap_params: BootstrapParams | None = None
  ) -> Any:
    """Returns the area under the ROC curve; ties count one half.

    It is the chance that a canary that was in scores higher than one that was
    out. An attack that is wrong most of the time is below a half.

    Args:
      bootstrap_params: Quantiles to return instead.
    """
    if bootstrap_params is not None:
      return self._bootstrap(Attack.attack_auroc, bootstrap_params)
    from scipy import stats  # An import of a second, when it is needed.

    ranks = stats.rankdata(np.append(self._in, self._out))
    num_in, num_out = len(self._in), len(self._out)
    above = np.sum(ranks[:num_in]) - num_in * (num_in + 1) / 2
    return float(above / (num_in * num_out))

  def max_accuracy(
      self,
      *,
      prevalence: float | None = None,
      significance: float | None = None,
  ) -> float:
    """Returns the best accuracy of one threshold.

    Args:
      prevalence: Share of canaries that are in, in [0, 1]; None for their share
        here.
      significance: Probability, in (0, 1), with which an upper bound of each
        threshold's accuracy may fail; the largest is returned. None for the
        accuracy on these scores.

    Raises:
      ValueError: If an argument breaks its rule.
    """
    num_in, num_out = len(self._in), len(self._out)
    share = num_in / (num_in + num_out) if prevalence is None else prevalence
    if not 0 <= _validate.as_float(share) <= 1:
      _validate.fail("prevalence", "in [0, 1]", prevalence)
    false_pos, true_pos = _counts(self._in, self._out)
    true_neg = num_out - false_pos
    if significance is None:
      right_in, right_out = true_pos / num_in, true_neg / num_out
    else:
      half = _search.significance(significance) / 2
      upper = error_rates.clopper_pearson_upper
      right_in = upper(true_pos, num_in, half)
      right_out = upper(true_neg, num_out, half)
    return float(np.max(share * right_in + (1 - share) * right_out))

  def epsilon_raw_counts(
      self,
      min_count: int = 50,
      delta: float = 0.0,
      one_sided: bool = True,
      *,
      bootstrap_params: BootstrapParams | None = None,
  ) -> Any:
    """Estimates epsilon by the observed rates alone, without an interval.

    An ESTIMATE of the attack's epsilon: it may well exceed the truth. To refute
    a claim, take a bound such as `epsilon_clopper_pearson`.

    Args:
      min_count: Least number of false positives of a threshold that counts. A
        small one makes the estimate noisy, a large one makes it low.
      delta: Delta at which epsilon is estimated, in [0, 1).
      one_sided: Whether to leave out the reverse attack, which calls low scores
        "in".
      bootstrap_params: Quantiles of the estimate to return instead.

    Returns:
      The largest log((TPR - delta) / FPR), at least 0; or quantiles.

    Raises:
      ValueError: If an argument breaks its rule.
    """
    min_count = _validate.integer("min_count", min_count, at_least=0)
    delta = _search.delta(delta)
    if bootstrap_params is not None:
      return self._bootstrap(
          lambda a: a.epsilon_raw_counts(min_count, delta, one_sided),
          bootstrap_params,
      )
    found = _raw_epsilon(self._in, self._out, min_count, delta)
    if not one_sided:
      reverse = _raw_epsilon(-self._out, -self._in, min_count, delta)
      found = max(found, reverse)
    return found

  def _bootstrap(
      self, metric_fn: Callable[["Attack"], float], params: BootstrapParams
  ) -> Any:
    """Returns quantiles of a metric of scores drawn with replacement."""
    rng = np.random.default_rng(params.seed)
    values = [
        metric_fn(
            Attack(
                rng.choice(self._in, len(self._in)),
                rng.choice(self._out, len(self._out)),
            )
        )
        for _ in range(params.num_samples)
    ]
    quantiles = np.asarray(params.quantiles)
    if params.bias_correction:
      found = metric_fn(self)
      accel = self._acceleration(metric_fn) if params.acceleration else 0.0
      quantiles = _corrected(quantiles, np.asarray(values), found, accel)
    return np.quantile(values, quantiles)

  def _acceleration(self, metric_fn: Callable[["Attack"], float]) -> float:
    """A sixth of the skewness of the metric without one canary at a time."""
    without = [
        metric_fn(Attack(np.delete(self._in, i), self._out))
        for i in range(len(self._in) if len(self._in) > 1 else 0)
    ] + [
        metric_fn(Attack(self._in, np.delete(self._out, i)))
        for i in range(len(self._out) if len(self._out) > 1 else 0)
    ]
    if not without:
      return 0.0
    below = np.mean(without) - np.asarray(without)
    spread = np.sum(below**2) ** 1.5
    return float(np.sum(below**3) / (6 * spread)) if spread > 0 else 0.0


def _corrected(quantiles, values, found, accel) -> np.ndarray:
  """Quantiles of `values` to take instead; draws equal to `found` count half.

  Two draws are added, one on each side: shares are never 0 or 1.
  """
  from scipy import special

  below = np.sum(values < found) + np.sum(values == found) / 2
  shift = special.ndtri((below + 1) / (len(values) + 2))
  moved = shift + special.ndtri(quantiles)
  return special.ndtr(shift + moved / (1 - accel * moved))


def _raw_epsilon(in_scores, out_scores, min_count, delta):
  """The largest log((TPR - delta) / FPR) with enough false positives."""
  least = min_count / len(out_scores)
  if least >= 1:
    return 0.0
  fpr, tpr = _upper_hull(in_scores, out_scores)
  # The hull's own corners, and where it is cut.
  points = np.append(fpr, least)
  heights = np.append(tpr, np.interp(least, fpr, tpr))
  counts = (points >= least) & (heights > delta)
  with np.errstate(divide="ignore"):
    found = np.log(heights[counts] - delta) - np.log(points[counts])
  return float(np.max(found, initial=0.0))


def _counts(in_scores, out_scores):
  """False and true positives of every threshold, from none to all."""
  thresholds = np.append(np.inf, np.unique(np.append(in_scores, out_scores)))
  thresholds[1:] = thresholds[:0:-1]
  ins, outs = np.sort(in_scores), np.sort(out_scores)
  false_pos = len(outs) - np.searchsorted(outs, thresholds, side="left")
  true_pos = len(ins) - np.searchsorted(ins, thresholds, side="left")
  return false_pos, true_pos


def _upper_hull(in_scores, out_scores):
  """Corners of the ROC curve's upper hull: false and true positive rates.

  At a false positive rate of 0 it begins at the highest point there.
  """
  false_pos, true_pos = _counts(in_scores, out_scores)
  hull: list[tuple[int, int]] = []
  for x, y in zip(false_pos.tolist(), true_pos.tolist(), strict=True):
    while hull and hull[-1][0] == x and hull[-1][1] <= y:
      hull.pop()
    while len(hull) > 1 and _is_below(hull[-2], hull[-1], (x, y)):
      hull.pop()
    hull.append((x, y))
  corners = np.array(hull, np.float64)
  return corners[:, 0] / len(out_scores), corners[:, 1] / len(in_scores)


def _is_below(left, middle, right):
  """Whether the middle point is on or below the line, in exact integers."""
  rise = (middle[1] - left[1]) * (right[0] - left[0])
  return rise <= (right[1] - left[1]) * (middle[0] - left[0])


def _scores(name, values) -> np.ndarray:
  scores = np.asarray(values)
  is_real = np.issubdtype(scores.dtype, np.floating) or np.issubdtype(
      scores.dtype, np.integer
  )
  if scores.ndim != 1 or scores.size == 0 or not is_real:
    rule = "a one-dimensional array of at least one real number"
    _validate.fail(name, rule, f"{scores.dtype} {scores.shape}")
  scores = scores.astype(np.float64)
  num_bad = int(np.sum(~np.isfinite(scores)))
  if num_bad:
    rule = "finite (a NaN or infinite score cannot be ranked)"
    _validate.fail(name, rule, f"{num_bad} of {len(scores)} that are not")
  return scores
