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
(3.88, 6.67)
"""

import dataclasses
import math

import numpy as np

from accounting import _validate, accountants
from accounting.composition import check_single
from accounting.epsilons import check_delta, check_supported, evaluate
from accounting.mechanism import Mechanism
from accounting.numerics import rdp as rdp_lib

# The shape of the truncated negative binomial of each name.
_SHAPES = {"logarithmic": 0.0, "geometric": 1.0, "poisson": math.inf}
DISTRIBUTIONS = tuple(_SHAPES)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuningCost:
  """Epsilons of one run, of the best of a random number, and of all.

  Attributes:
    epsilon_single: Epsilon of one run alone, by the accountant asked for.
    epsilon_tuned: Epsilon of the best of a random number of runs, by Renyi
      divergences: no other analysis is known.
    epsilon_naive: Epsilon of releasing every one of `ceil(num_trials_mean)`
      runs, by the accountant of `epsilon_single`.
  """

  epsilon_single: float
  epsilon_tuned: float
  epsilon_naive: float


def tuning_cost(
    mechanism: Mechanism,
    *,
    num_trials_mean: float,
    distribution: str,
    delta: float,
    accountant: str = "pld",
) -> TuningCost:
  """Returns what picking the best of a random number of runs costs.

  Args:
    mechanism: Description of one run.
    num_trials_mean: Mean number of runs, at least 1 (above 1 unless
      "poisson").
    distribution: Name of the distribution of the number of runs: "logarithmic",
      "geometric" or "poisson"; the last can give 0 runs, and so no release.
    delta: Delta of each of the guarantees, in (0, 1).
    accountant: Name of the accountant of one run and of all runs: "pld" or
      "rdp".

  Returns:
    Three epsilons.

  Raises:
    ValueError: If an argument breaks its rule, or RDP has no analysis of the
      sampler.

  Guarantee:
    The number of runs must be drawn before the first, from this distribution
    and independently of the data, and neither it nor any other run released.

  Source: Papernot and Steinke 2022 (2110.03620), Theorems 2 and 6.
  """
  from dp_accounting.rdp import rdp_privacy_accountant as rdp

  check_single(mechanism, caller="tuning_cost")
  check_delta(mechanism, delta)
  check_supported(mechanism, accountant=accountant)
  check_supported(mechanism, accountant=accountants.TUNING)
  _validate.choice("distribution", distribution, options=DISTRIBUTIONS)
  mean = _validate.real(
      "num_trials_mean", num_trials_mean, low=1, low_ok=True, high=1e6
  )
  if mean == 1 and math.isfinite(_SHAPES[distribution]):
    _validate.fail("num_trials_mean", f"above 1 for {distribution}", mean)
  orders, divergences = rdp_lib.divergences(mechanism)
  # dp-accounting's event of this name would start from divergences that were
  # not repaired (see `_rdp`), and read one below 0 as a delta of 0.
  finite = np.isfinite(divergences)
  tuned = math.inf
  if finite.any():
    repeated = rdp._compute_rdp_repeat_and_select(  # pylint: disable=protected-access
        orders[finite].tolist(),
        divergences[finite].tolist(),
        mean,
        _SHAPES[distribution],
    )
    # An array, by what made it.
    # pyrefly: ignore[bad-index]
    values, _ = rdp_lib.to_epsilon(orders[finite], repeated[None], delta=delta)
    tuned = float(values[0])
  single, naive = (
      evaluate(run, delta=delta, accountant=accountant).epsilon
      for run in (mechanism, _repeated(mechanism, math.ceil(mean)))
  )
  return TuningCost(
      epsilon_single=single, epsilon_tuned=tuned, epsilon_naive=naive
  )


def _repeated(mechanism: Mechanism, count: int) -> Mechanism:
  """Returns one run that composes as `count` of them do, each whole.

  The order of steps makes no difference, so every phase is that much longer.
  """
  if not mechanism.sampler.amplifies:
    # An example's part in each run is rounded up to whole steps.
    once = mechanism.unsampled()
    return once.with_num_steps(count * once.num_steps)
  return dataclasses.replace(
      mechanism,
      num_steps=count * mechanism.num_steps,
      batch_size_schedule=tuple(
          (count * first, factor)
          for first, factor in mechanism.batch_size_schedule
      ),
  )
