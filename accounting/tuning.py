"""What it costs to pick the best of several runs.

Trying settings on the private data and publishing the best run releases more
than that one run. If the number of runs is itself drawn at random, and kept
secret, the cost is a fraction of the cost of releasing them all. Invariant: the
bound holds for any way of scoring, and for runs whose settings differ, as long
as each satisfies the mechanism given here.

>>> from accounting.mechanism import Mechanism
>>> run = Mechanism(
...     noise_multiplier=3.0, sampling_prob=4096 / 50_000, num_steps=1000)
>>> cost = tuning_cost(
...     run, num_trials_mean=10, distribution="logarithmic", delta=1e-5)
>>> round(cost.epsilon_single, 2), round(cost.epsilon_tuned, 2)
(3.88, 5.54)
>>> cost.accountant_tuned
'pld'
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from accounting import _validate, accountants, selection
from accounting.composition import AnyMechanism, Composition
from accounting.epsilons import check_delta, check_supported, evaluate
from accounting.numerics import rdp as rdp_lib

FIXED, BINOMIAL = "fixed", "binomial"
_RANDOM = {
    "logarithmic": selection.logarithmic_of,
    "geometric": selection.geometric_of,
    "poisson": selection.poisson_of,
}
DISTRIBUTIONS = (*_RANDOM, BINOMIAL, FIXED)
# With a mean of 1 there is always one run.
_ABOVE_ONE = ("logarithmic", "geometric")
_MOST = 10**6


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuningCost:
  """Epsilons of one run, of the best of several, and of all.

  Attributes:
    epsilon_single: Epsilon of one run alone, by the accountant asked for.
    epsilon_tuned: Epsilon of the best of the runs: the least of the bounds that
      are known.
    epsilon_naive: Epsilon of releasing every one of `ceil(num_trials_mean)`
      runs, by the accountant of `epsilon_single`.
    accountant_tuned: Name of the accountant whose bound `epsilon_tuned` is:
      "pld" where it is from the whole profile, "rdp" from Renyi divergences.
  """

  epsilon_single: float
  epsilon_tuned: float
  epsilon_naive: float
  accountant_tuned: str = accountants.TUNING


def tuning_cost(
    mechanism: AnyMechanism,
    *,
    num_trials_mean: float,
    distribution: str,
    delta: float,
    accountant: str = "pld",
    num_trials_max: int | None = None,
) -> TuningCost:
  """Returns what picking the best of several runs costs.

  Args:
    mechanism: Description of one run, or a `Composition` of all that one trial
      releases.
    num_trials_mean: Mean number of runs, at least 1 (above 1 for "logarithmic"
      and "geometric"); for "fixed" the number itself.
    distribution: Name of the distribution of the number of runs: "logarithmic",
      "geometric", "poisson", "binomial", or "fixed" for a grid of settings. A
      "poisson" or "binomial" number can be 0, and then nothing is released.
    delta: Delta of each of the guarantees, in (0, 1).
    accountant: Name of the accountant of one run and of all runs: "pld" or
      "rdp". With "rdp" the best run's bound is by RDP too.
    num_trials_max: Largest number of runs of "binomial"; None for all others.

  Returns:
    Three epsilons, and the accountant of the best run's.

  Raises:
    ValueError: If an argument breaks its rule, or no analysis of the sampler
      is known.

  Guarantee:
    A random number of runs must be drawn before the first, from this
    distribution and independently of the data, and neither it nor any other run
    released. The best of a fixed number costs what releasing all of them does.

  Source: Papernot and Steinke 2022 (2110.03620), Theorems 2 and 6, by RDP;
    Koskela, Redberg and Wang 2024 (2402.06701), by profiles: see
    `accounting.selection`.
  """
  check_delta(mechanism, delta)
  check_supported(mechanism, accountant=accountant)
  _validate.choice("distribution", distribution, options=DISTRIBUTIONS)
  mean = _validate.real(
      "num_trials_mean", num_trials_mean, low=1, low_ok=True, high=_MOST
  )
  ask = {"delta": delta, "accountant": accountant}
  single, naive = (
      evaluate(run, **ask).epsilon
      for run in (mechanism, math.ceil(mean) * mechanism)
  )
  if (trials := _trials(distribution, mean, num_trials_max)) is None:
    tuned, name = naive, accountant
  else:
    tuned, name = _of_best(mechanism, trials, **ask)
  return TuningCost(
      epsilon_single=single,
      epsilon_tuned=tuned,
      epsilon_naive=naive,
      accountant_tuned=name,
  )


def all_of(
    runs: Sequence[AnyMechanism], *, delta: float, accountant: str
) -> tuple[list[float], float]:
  """Returns the epsilon of each of some runs, and of all, hence of the best.

  Args:
    runs: Description of each run of a fixed grid of settings.
    delta: Delta of each of the guarantees, in (0, 1).
    accountant: Name of the accountant: "pld" or "rdp".

  Returns:
    The epsilon of each alone, and of all together.

  Raises:
    ValueError: If an argument breaks its rule; see `accounting.epsilon`.
  """
  together = Composition(runs)
  check_delta(together, delta)
  check_supported(together, accountant=accountant)
  ask = {"delta": delta, "accountant": accountant}
  return [evaluate(run, **ask).epsilon for run in runs], evaluate(
      together, **ask
  ).epsilon


def _trials(
    distribution: str, mean: float, most: Any
) -> selection.NumTrials | None:
  """Returns the distribution of the number of runs; None for a fixed one."""
  if distribution != BINOMIAL and most is not None:
    _validate.fail("num_trials_max", f"None for {distribution}", most)
  if distribution == BINOMIAL:
    if most is None:
      _validate.fail("num_trials_max", "given for binomial", None)
    most = _validate.integer("num_trials_max", most)
    if most > _MOST or most <= mean:
      rule = f"above num_trials_mean and at most {_MOST}"
      _validate.fail("num_trials_max", rule, most)
    return selection.binomial_of(mean, most)
  if distribution == FIXED:
    if mean != math.floor(mean):
      _validate.fail("num_trials_mean", "a whole number for fixed", mean)
    return None
  if mean == 1 and distribution in _ABOVE_ONE:
    _validate.fail("num_trials_mean", f"above 1 for {distribution}", mean)
  return _RANDOM[distribution](mean)


def _of_best(
    mechanism: AnyMechanism,
    trials: selection.NumTrials,
    *,
    delta: float,
    accountant: str,
) -> tuple[float, str]:
  """Returns the least of the bounds that are known, and its accountant."""
  found = []
  if accountant == accountants.TIGHTEST:
    value = max(_by_profile(a, trials, delta) for a in mechanism.alternatives)
    found.append((value, accountants.TIGHTEST))
  by_rdp = [_by_rdp(a, trials, delta) for a in mechanism.alternatives]
  known = [value for value in by_rdp if value is not None]
  if len(known) == len(by_rdp):
    found.append((max(known), accountants.TUNING))
  if not found:
    rule = f"{accountants.TIGHTEST}: no bound by RDP is known here"
    _validate.fail("accountant", rule, accountant)
  return min(found)


def _by_profile(
    run: AnyMechanism, trials: selection.NumTrials, delta: float
) -> float:
  tightest = accountants.get(accountants.TIGHTEST)
  losses = tightest.losses(run)
  assert losses is not None, "pld has a distribution of every run's losses"
  one = tightest.evaluate(run, delta=delta / trials.mean)
  return trials.shift(losses.deltas) + one.epsilon


def _by_rdp(
    run: AnyMechanism, trials: selection.NumTrials, delta: float
) -> float | None:
  """Returns RDP's bound; None where no theorem has the run or the number."""
  from dp_accounting.rdp import rdp_privacy_accountant as rdp

  if trials.shape is None or any(part.failure for part, _ in run.parts):
    return None
  if not accountants.get(accountants.TUNING).supports(run):
    return None
  orders, divergences = rdp_lib.divergences(run)
  # dp-accounting's event of this name would start from divergences that were
  # not repaired (see `_rdp`), and read one below 0 as a delta of 0.
  finite = np.isfinite(divergences)
  if not finite.any():
    return math.inf
  repeated = rdp._compute_rdp_repeat_and_select(  # pylint: disable=protected-access
      orders[finite].tolist(),
      divergences[finite].tolist(),
      trials.mean,
      trials.shape,
  )
  # An array, by what made it.
  # pyrefly: ignore[bad-index]
  values, _ = rdp_lib.to_epsilon(orders[finite], repeated[None], delta=delta)
  return float(values[0])
