"""All lower bounds on epsilon, from the scores of canaries.

`CanaryScoreAuditor` has the methods of jax-privacy 2.x's class of this name.
One-run bounds choose guesses in another way. Each bound is a number that, if
the canaries and scores are what it assumes, is above the true epsilon with
probability at most `significance`. None of them is an estimate of epsilon, and
a small one proves nothing: the attack may have been weak. A bound above the
*claimed* epsilon refutes the claim. How strong the attack was, without a claim,
is in `roc.Attack`.

Measured on a Gaussian mechanism of epsilon 8 at delta 1e-5 (mu = 1.666),
1000 canaries with independent scores, significance 0.05; mean and standard
deviation over 200 seeds (`test_auditor.py` repeats it):

  one_run          2.80 +- 0.34  fair coins
  one_run_fdp      4.33 +- 0.56  fair coins; a trade-off curve like a Gaussian's
  clopper_pearson  2.16 +- 0.22  independent scores
  from_gdp         6.27 +- 0.45  independent scores; such a curve
  mean_difference  7.32 +- 0.45  the same; scores normal, with one variance

With a small sampling probability most of epsilon lies in tails that a thousand
canaries do not reach: by log-likelihood ratios of 500 steps at probability 0.01
and noise multiplier 0.6 (epsilon 5.8 by PLD) the five bounds are 1.0, 1.5, 0.7,
1.8 and 2.4, means over 60 seeds. To look for faults, audit with one near 1.

Invariant: what is not a finite score is refused, never ranked.

Example:
  >>> import numpy as np
  >>> from jax_privacy import auditing
  >>> rng = np.random.default_rng(0)
  >>> included = rng.random(1000) < 0.5
  >>> scores = rng.normal(size=1000) + 1.666 * included  # epsilon is 8.
  >>> auditor = auditing.CanaryScoreAuditor(scores[included], scores[~included])
  >>> bounds = auditor.all_bounds(significance=0.05, delta=1e-5)
  >>> all(0 < bound < 8 for bound in bounds.values())
  True
"""

from collections.abc import Sequence

import numpy as np

from jax_privacy import _validate
from jax_privacy.auditing import (
    _search,
    error_rates,
    gdp,
    mean_difference,
    one_run,
    roc,
)

# A fair coin is this far off less often than once in a million audits.
_UNFAIR = 1e-6
_BONFERRONI = error_rates.Bonferroni()


class CanaryScoreAuditor(roc.Attack):
  """Lower bounds on epsilon from scores of canaries that were in or out.

  Higher scores must mean "in": negate losses. Scores may come from one
  run with many canaries or, for the methods that ask for independent scores,
  from many runs.

  Args:
    in_canary_scores: Scores of the canaries that were in, [num_in], finite.
    out_canary_scores: Scores of the canaries that were out, [num_out], finite.
    tie_seed: Seed of the random order of equal scores, for the one-run bounds.
      Fix it before you look at the scores.

  Raises:
    ValueError: If scores are empty, not one-dimensional or not finite.
  """

  def __init__(
      self,
      in_canary_scores: np.typing.ArrayLike,
      out_canary_scores: np.typing.ArrayLike,
      *,
      tie_seed: int = 0,
  ):
    super().__init__(in_canary_scores, out_canary_scores)
    self._tie_seed = _validate.integer("tie_seed", tie_seed, at_least=0)

  @property
  def num_canaries(self) -> int:
    """Number of canaries, in and out."""
    return len(self._in) + len(self._out)

  def epsilon_one_run(
      self,
      significance: float,
      delta: float,
      one_sided: bool = False,
      *,
      num_guesses: int | Sequence[int] | None = None,
  ) -> float:
    """Bounds epsilon assuming nothing but fair coins.

    The canaries of highest score are guessed in, and an equal number of lowest
    score out.

    Args:
      significance: Probability with which the bound may fail, in (0, 1).
      delta: Delta at which epsilon is bounded, in [0, 1).
      one_sided: Whether to guess "in" alone, as jax-privacy does.
      num_guesses: Number of canaries to guess, fixed before looking at scores.
        A sequence of candidates shares the significance, and the best counts.
        None is a half and an eighth of the canaries.

    Returns:
      The bound, at least 0. It cannot exceed log(num_guesses / log(1 /
      significance)), however bad the mechanism.

    Raises:
      ValueError: If an argument breaks its rule, or num_in is not what a fair
        coin would give.

    Guarantee: See `one_run.epsilon_lower_bound`.

    Source: Steinke, Nasr and Jagielski 2023 (2305.08846).
    """
    candidates = self._candidates(num_guesses)
    share = _search.significance(significance) / len(candidates)
    return max(
        one_run.epsilon_lower_bound(
            num_correct=self._num_correct(number, one_sided),
            num_guesses=number,
            num_canaries=self.num_canaries,
            significance=share,
            delta=delta,
        )
        for number in candidates
    )

  def epsilon_one_run_fdp(
      self,
      significance: float,
      delta: float,
      one_sided: bool = False,
      *,
      num_guesses: int | Sequence[int] | None = None,
      family: str = "gaussian",
  ) -> float:
    """Bounds epsilon by refuting a trade-off curve; coins must be fair.

    Args:
      significance: Probability with which the bound may fail, in (0, 1).
      delta: Delta at which epsilon is bounded, in (0, 1); 0 too for
        "approximate".
      one_sided: Whether to guess "in" alone; see `epsilon_one_run`.
      num_guesses: Number of canaries to guess; see `epsilon_one_run`.
      family: Name of the curves to refute. "gaussian" refutes mu-GDP, and
        bounds epsilon for mechanisms with a curve such as the Gaussian's;
        "approximate" refutes (epsilon, delta)-DP for any. See
        `one_run.epsilon_lower_bound_fdp`.

    Returns:
      The bound, at least 0.

    Raises:
      ValueError: If an argument breaks its rule; see `epsilon_one_run`.

    Guarantee: See `one_run.epsilon_lower_bound_fdp`.

    Source: Mahloujifar, Melis and Chaudhuri 2024 (2410.22235).
    """
    candidates = self._candidates(num_guesses)
    share = _search.significance(significance) / len(candidates)
    return max(
        one_run.epsilon_lower_bound_fdp(
            num_correct=self._num_correct(number, one_sided),
            num_guesses=number,
            num_canaries=self.num_canaries,
            significance=share,
            delta=delta,
            family=family,
        )
        for number in candidates
    )

  def epsilon_clopper_pearson(
      self,
      significance: float,
      delta: float = 0,
      one_sided: bool = False,
      *,
      threshold_strategy: error_rates.ThresholdStrategy = _BONFERRONI,
  ) -> float:
    """Bounds epsilon by a threshold attack's error rates.

    Assumes that scores are independent, and identically distributed within
    each group.

    Args:
      significance: Probability with which the bound may fail, in (0, 1).
      delta: Delta at which epsilon is bounded, in [0, 1).
      one_sided: Whether to leave out the second inequality of DP, for false
        negatives over true negatives. It costs nothing, so it counts by
        default; in jax-privacy it does not.
      threshold_strategy: Choice of thresholds: `Bonferroni`, `Split`,
        `MultiSplit` or `Explicit`.

    Returns:
      The bound, at least 0.

    Raises:
      ValueError: If an argument breaks its rule.

    Source: Nasr et al. 2021 (2101.04535).
    """
    delta = _search.delta(delta)

    def objective(rates):
      return error_rates.epsilons_from_rates(
          rates, delta=delta, one_sided=one_sided
      )

    return self._bound(significance, threshold_strategy, objective)

  def epsilon_from_gdp(
      self,
      significance: float,
      delta: float,
      *,
      threshold_strategy: error_rates.ThresholdStrategy = _BONFERRONI,
  ) -> float:
    """Bounds mu by a threshold attack's error rates, and epsilon by mu.

    Assumes what `epsilon_clopper_pearson` does. It also assumes that the
    mechanism's trade-off curve is as good as the curve of the Gaussian
    mechanism with the same epsilon at `delta`: error rates seen at one
    threshold are taken to show the curve elsewhere.

    Args:
      significance: Probability with which the bound may fail, in (0, 1).
      delta: Delta at which epsilon is bounded, in (0, 1).
      threshold_strategy: Choice of thresholds: `Bonferroni`, `Split`,
        `MultiSplit` or `Explicit`.

    Returns:
      The bound, at least 0.

    Raises:
      ValueError: If an argument breaks its rule.

    Source: Nasr et al. 2023 (2302.07956); Dong, Roth and Su 2019 (1905.02383).
    """
    delta = _search.delta(delta, positive=True)
    mu = self._bound(
        significance, threshold_strategy, error_rates.mus_from_rates
    )
    return gdp.epsilon_from_mu(mu, delta=delta)

  def epsilon_mean_difference(self, significance: float, delta: float) -> float:
    """Bounds mu by the difference of mean scores, and epsilon by mu.

    Assumes that scores are independent and normal with one variance, and that
    the mechanism's curve is a Gaussian's; see
    `mean_difference.mu_lower_bound`.

    Args:
      significance: Probability with which the bound may fail, in (0, 1).
      delta: Delta at which epsilon is bounded, in (0, 1).

    Returns:
      The bound, at least 0; infinity if scores show no noise at all.

    Raises:
      ValueError: If an argument breaks its rule.

    Source: Andrew et al. 2023 (2302.03098) for the attack; Student's t for the
      interval.
    """
    delta = _search.delta(delta, positive=True)
    mu = mean_difference.mu_lower_bound(
        self._in, self._out, significance=significance
    )
    return gdp.epsilon_from_mu(mu, delta=delta)

  def all_bounds(self, significance: float, delta: float) -> dict[str, float]:
    """Returns each bound by the name of its method.

    Each holds with the given significance BY ITSELF; for all at once, divide
    the significance by their number.

    Args:
      significance: Probability with which each bound may fail, in (0, 1).
      delta: Delta at which epsilon is bounded, in (0, 1).
    """
    methods = (
        self.epsilon_one_run,
        self.epsilon_one_run_fdp,
        self.epsilon_clopper_pearson,
        self.epsilon_from_gdp,
        self.epsilon_mean_difference,
    )
    return {
        method.__name__.removeprefix("epsilon_"): method(significance, delta)
        for method in methods
    }

  def _bound(self, significance, strategy, objective_fn):
    return error_rates.lower_bound(
        self._in,
        self._out,
        significance=significance,
        threshold_strategy=strategy,
        objective_fn=objective_fn,
    )

  def _candidates(self, num_guesses) -> tuple[int, ...]:
    self._check_coins()
    total = self.num_canaries
    if num_guesses is None:
      return default_num_guesses(total)
    if isinstance(num_guesses, (Sequence, np.ndarray)):
      candidates = tuple(num_guesses)
    else:
      candidates = (num_guesses,)
    for number in candidates:
      if _validate.integer("num_guesses", number, at_least=1) > total:
        _validate.fail("num_guesses", f"at most {total}", number)
    if not candidates:
      _validate.fail("num_guesses", "an int or a sequence of some", num_guesses)
    return candidates

  def _check_coins(self):
    from scipy import stats

    test = stats.binomtest(len(self._in), self.num_canaries, 0.5)
    if test.pvalue < _UNFAIR:
      rule = (
          f"about half of {self.num_canaries} for a one-run bound, which"
          " needs a fair coin per canary"
      )
      _validate.fail("number of in_canary_scores", rule, len(self._in))

  def _num_correct(self, num_guesses: int, one_sided: bool) -> int:
    """Right guesses: half of them for the top scores, half for the bottom.

    All are for the top ones if `one_sided`.
    """
    scores = np.append(self._in, self._out)
    included = np.arange(len(scores)) < len(self._in)
    # Shuffled first, so that ties fall in favour of neither group.
    order = np.random.default_rng(self._tie_seed).permutation(len(scores))
    ranked = included[order][np.argsort(-scores[order], kind="stable")]
    num_top = num_guesses if one_sided else (num_guesses + 1) // 2
    num_bottom = num_guesses - num_top
    right_at_top = np.sum(ranked[:num_top])
    right_at_bottom = np.sum(~ranked[len(ranked) - num_bottom :])
    return int(right_at_top + right_at_bottom)


def default_num_guesses(num_canaries: int) -> tuple[int, ...]:
  """Returns a half and an eighth of the canaries: for weak, strong signals.

  Args:
    num_canaries: Number of canaries, in and out.
  """
  return tuple(sorted({max(1, num_canaries // part) for part in (2, 8)}))
