"""Bounds on a threshold attack's error rates, and the epsilon they refute.

An attacker calls a canary "in" if its score is at least a threshold. Under
(epsilon, delta)-DP the false positive and false negative rates cannot both be
small. Clopper and Pearson's intervals bound them from above. The choice of the
threshold is paid for.

Invariant: with probability at least 1 - significance, ALL the pairs of rates
that `upper_bounds` returns hold at once, whatever the distributions, ties
included, provided that scores of "in" canaries are independent draws of one
distribution and those of "out" canaries of another. That holds for canaries in
runs of their own; in one run it is an ASSUMPTION (true of Dirac canaries under
Gaussian noise, where each has coordinates of its own).

Example:
  >>> import numpy as np
  >>> from jax_privacy.auditing import error_rates
  >>> rates = error_rates.upper_bounds(
  ...     np.full(500, 1.0), np.zeros(500), significance=0.05,
  ...     threshold_strategy=error_rates.Explicit(0.5))
  >>> print(rates.false_positive.round(4), rates.false_negative.round(4))
  [0.0074] [0.0074]
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy import special

from jax_privacy import _validate
from jax_privacy.auditing import _search


@dataclasses.dataclass(frozen=True)
class Bonferroni:
  """Try thresholds at several ranks at once, and share the significance.

  Attributes:
    num_ranks: Number of thresholds among the highest "out" scores, and among
      the lowest "in" scores.
  """

  num_ranks: int = 7

  def __post_init__(self):
    _validate.integer("num_ranks", self.num_ranks, at_least=1)


@dataclasses.dataclass(frozen=True)
class Explicit:
  """Use one threshold, chosen without a look at these scores.

  Attributes:
    threshold: A finite score; scores at or above it are called "in".
  """

  threshold: float

  def __post_init__(self):
    if not np.isfinite(_validate.as_float(self.threshold)):
      _validate.fail("threshold", "a finite number", self.threshold)


@dataclasses.dataclass(frozen=True)
class Split:
  """Choose the threshold on some of the scores, and bound on the others.

  Attributes:
    threshold_estimation_frac: Share of scores to choose with, in (0, 1).
    seed: Seed of the random split: a whole number, fixed beforehand.
  """

  threshold_estimation_frac: float = 0.5
  seed: int = 0

  def __post_init__(self):
    share = _validate.probability(
        "threshold_estimation_frac", self.threshold_estimation_frac
    )
    if share == 1:
      _validate.fail("threshold_estimation_frac", "in (0, 1)", share)
    _validate.integer("seed", self.seed, at_least=0)


@dataclasses.dataclass(frozen=True)
class MultiSplit:
  """Take the median of the bounds of many splits, each at half significance.

  Less a matter of luck than `Split`. If the median is above the truth, half of
  the bounds are; by Markov's inequality that is at most twice as likely as that
  one bound is.

  Attributes:
    num_samples: Number of splits.
    threshold_estimation_frac: Share of scores to choose with, in (0, 1).
    seed: Seed of the random splits: a whole number, fixed beforehand.

  Source: Meinshausen, Meier and Buehlmann 2009 (0811.2177), theorem 3.1.
  """

  num_samples: int = 100
  threshold_estimation_frac: float = 0.5
  seed: int = 0

  def __post_init__(self):
    _validate.integer("num_samples", self.num_samples, at_least=1)
    Split(self.threshold_estimation_frac, self.seed)  # Checks them.

  def splits(self) -> list[Split]:
    """Returns the splits, each of a seed of its own."""
    seeds = np.random.SeedSequence(self.seed).generate_state(
        self.num_samples, np.uint64
    )
    return [Split(self.threshold_estimation_frac, int(seed)) for seed in seeds]


ThresholdStrategy = Bonferroni | Explicit | Split | MultiSplit


@dataclasses.dataclass(frozen=True)
class ErrorRates:
  """Upper bounds on error rates, by threshold.

  Attributes:
    thresholds: Scores from which on a canary is called "in", [num_thresholds].
    false_positive: Bounds on the rate of calling an "out" canary "in",
      [num_thresholds].
    false_negative: Bounds on the rate of calling an "in" canary "out",
      [num_thresholds].
  """

  thresholds: np.ndarray
  false_positive: np.ndarray
  false_negative: np.ndarray


def lower_bound(
    in_scores: np.ndarray,
    out_scores: np.ndarray,
    *,
    significance: float,
    threshold_strategy: ThresholdStrategy,
    objective_fn: Callable[[ErrorRates], np.ndarray],
) -> float:
  """Returns the largest lower bound that the error rates give.

  Args:
    in_scores: Finite scores of canaries that were in, [num_in].
    out_scores: Finite scores of canaries that were out, [num_out].
    significance: Probability that the bound fails, in (0, 1).
    threshold_strategy: Choice of thresholds.
    objective_fn: Function from rates to lower bounds, [num_thresholds].

  Raises:
    ValueError: If an argument breaks its rule.
  """
  significance = _search.significance(significance)
  several = isinstance(threshold_strategy, MultiSplit)
  strategies = threshold_strategy.splits() if several else [threshold_strategy]
  bounds = [
      np.max(
          objective_fn(
              upper_bounds(
                  in_scores,
                  out_scores,
                  significance=significance / 2 if several else significance,
                  threshold_strategy=strategy,
                  objective_fn=objective_fn,
              )
          )
      )
      for strategy in strategies
  ]
  return float(np.median(bounds))


def upper_bounds(
    in_scores: np.ndarray,
    out_scores: np.ndarray,
    *,
    significance: float,
    threshold_strategy: Bonferroni | Explicit | Split,
    objective_fn: Callable[[ErrorRates], np.ndarray] | None = None,
) -> ErrorRates:
  """Bounds the error rates at one threshold or more, all at once.

  Args:
    in_scores: Finite scores of canaries that were in, [num_in].
    out_scores: Finite scores of canaries that were out, [num_out].
    significance: Probability that any of the bounds fails, in (0, 1).
    threshold_strategy: Choice of thresholds; it says what the choice costs. No
      `MultiSplit`, which has no bounds that hold at once: see `lower_bound`.
    objective_fn: Function that `Split` makes largest by its choice: rates ->
      [num_thresholds]. None for `mus_from_rates`.

  Returns:
    The bounds.

  Raises:
    ValueError: If an argument breaks its rule.

  Source: Clopper and Pearson 1934; Jagielski, Ullman and Oprea 2020
    (2006.07709) and Nasr et al. 2021 (2101.04535) for their use in audits.
  """
  significance = _search.significance(significance)
  if isinstance(threshold_strategy, Bonferroni):
    return _at_ranks(in_scores, out_scores, significance, threshold_strategy)
  if isinstance(threshold_strategy, Split):
    rng = np.random.default_rng(threshold_strategy.seed)
    share = threshold_strategy.threshold_estimation_frac
    in_first, in_scores = _split(rng, "in", in_scores, share)
    out_first, out_scores = _split(rng, "out", out_scores, share)
    # Without a share of the significance each: this picks and claims nothing.
    picked = _at(
        np.unique(np.append(in_first, out_first)),
        in_first,
        out_first,
        significance,
    )
    worth = (objective_fn or mus_from_rates)(picked)
    threshold = picked.thresholds[np.argmax(worth)]
  elif isinstance(threshold_strategy, Explicit):
    threshold = threshold_strategy.threshold
  else:
    rule = "a Bonferroni, Explicit, Split or MultiSplit"
    _validate.fail("threshold_strategy", rule, threshold_strategy)
  return _at(np.array([threshold]), in_scores, out_scores, significance)


def epsilons_from_rates(
    rates: ErrorRates, *, delta: float, one_sided: bool = False
) -> np.ndarray:
  """Returns the least epsilon >= 0 that the rates allow, by threshold.

  Under (epsilon, delta)-DP, 1 - FNR <= exp(epsilon) FPR + delta, and the same
  with the two exchanged.

  Args:
    rates: Upper bounds on the error rates.
    delta: Delta at which epsilon is bounded, in [0, 1).
    one_sided: Whether the first inequality alone counts.

  Source: Kairouz, Oh and Viswanath 2015 (1311.0776), theorem 2.1.
  """
  delta = _search.delta(delta)
  a, b = rates.false_positive, rates.false_negative
  # Bounds are above 0: a finite number of trials never shows a rate of 0.
  tiny = np.finfo(np.float64).tiny
  first = np.log(np.maximum(1 - delta - b, tiny)) - np.log(a)
  if one_sided:
    return np.maximum(0.0, first)
  second = np.log(np.maximum(1 - delta - a, tiny)) - np.log(b)
  return np.maximum(0.0, np.maximum(first, second))


def mus_from_rates(rates: ErrorRates) -> np.ndarray:
  """Returns the least mu >= 0 whose GDP the rates allow, by threshold.

  Args:
    rates: Upper bounds on the error rates.

  Source: Dong, Roth and Su 2019 (1905.02383), equation 6: a mu-GDP mechanism
    has Phi^{-1}(1 - FPR) - Phi^{-1}(FNR) <= mu.
  """
  mus = -special.ndtri(rates.false_positive) - special.ndtri(
      rates.false_negative
  )
  return np.maximum(0.0, mus)


def clopper_pearson_upper(
    counts: np.ndarray, total: int, significance: float
) -> np.ndarray:
  """Returns upper bounds on the probability behind counts of `total` trials.

  Args:
    counts: Numbers of successes, any shape.
    total: Number of trials.
    significance: Probability that each bound fails, in (0, 1).
  """
  counts = np.asarray(counts)
  bounds = np.ones(counts.shape)
  some = counts < total
  bounds[some] = special.betainccinv(
      counts[some] + 1.0, total - counts[some] + 0.0, significance
  )
  return bounds


def _at(thresholds, in_scores, out_scores, significance) -> ErrorRates:
  """Bounds at thresholds that do not depend on these scores, each by itself."""
  false_pos, false_neg = _counts(thresholds, in_scores, out_scores)
  return ErrorRates(
      thresholds,
      clopper_pearson_upper(false_pos, len(out_scores), significance / 2),
      clopper_pearson_upper(false_neg, len(in_scores), significance / 2),
  )


def _at_ranks(in_scores, out_scores, significance, strategy) -> ErrorRates:
  """Bounds at thresholds of several ranks, which hold all at once.

  Take the (x+1)-th largest of n "out" scores for threshold, and call "in" what
  is above it. Write scores as G(U), U uniform and G falling: the false positive
  rate is then at most the (x+1)-th smallest U, ties or not. That is Beta(x + 1,
  n - x), whose quantile is Clopper and Pearson's bound for x of n. The "in"
  scores are independent of this threshold, so false negatives are binomial. The
  same holds with the (y+1)-th smallest "in" score for threshold, and "in" what
  is not below it. Ranks are fixed beforehand, so it is for them, and not for
  all thresholds there are, that the union bound pays.
  """
  ins, outs = np.sort(in_scores), np.sort(out_scores)
  out_ranks = _ranks(len(outs), strategy.num_ranks)
  in_ranks = _ranks(len(ins), strategy.num_ranks)
  share = significance / 2 / (len(out_ranks) + len(in_ranks))
  above, at_least = outs[len(outs) - 1 - out_ranks], ins[in_ranks]
  missed = np.searchsorted(ins, above, side="right")
  called = len(outs) - np.searchsorted(outs, at_least, side="left")
  false_positive = np.append(out_ranks, called)
  false_negative = np.append(missed, in_ranks)
  return ErrorRates(
      np.append(above, at_least),
      clopper_pearson_upper(false_positive, len(outs), share),
      clopper_pearson_upper(false_negative, len(ins), share),
  )


def _ranks(total: int, num_ranks: int) -> np.ndarray:
  """About num_ranks ranks from 0 to total / 2, evenly spaced in square root.

  A count's standard deviation is about its square root, so neighbours are
  equally many standard deviations apart. Half is enough: of two error rates
  that add up to less than 1, one is below a half.
  """
  roots = np.linspace(0, np.sqrt(total // 2), num_ranks)
  return np.unique(np.minimum(np.round(roots**2), total - 1).astype(np.int64))


def _counts(thresholds, in_scores, out_scores):
  """False positives and false negatives at each threshold."""
  below_out = np.searchsorted(np.sort(out_scores), thresholds, side="left")
  below_in = np.searchsorted(np.sort(in_scores), thresholds, side="left")
  return len(out_scores) - below_out, below_in


def _split(rng, name, scores, share):
  size = int(len(scores) * share)
  if not 0 < size < len(scores):
    rule = "enough to split in two"
    _validate.fail(f"number of {name} scores", rule, len(scores))
  order = rng.permutation(len(scores))
  return scores[order[:size]], scores[order[size:]]
