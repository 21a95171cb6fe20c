"""From a mechanism to its guarantee: epsilon, delta, and epsilon over time.

Two accountants: "pld" (privacy loss distributions, tight) and "rdp" (Renyi
divergences, looser and older). The invariant is that every number returned is
a valid upper bound, and that a pair of sampler and accountant for which no
analysis is known is refused by name, never approximated.

>>> from accounting.mechanism import Mechanism
>>> run = Mechanism(noise_multiplier=4.0, sampling_prob=0.01, num_steps=10_000)
>>> round(epsilon(run, delta=1e-5), 3)
0.947
>>> round(epsilon(run, delta=1e-5, accountant="rdp"), 3)
1.035
"""

import dataclasses
import math
import warnings
from collections.abc import Sequence

import numpy as np

from accounting import _pld, _rdp, _validate, _warnings, claims
from accounting.mechanism import Mechanism

ACCOUNTANTS = ("pld", "rdp")
# Beyond this, a guarantee is said to be vacuous: exp(50) is no bound at all.
VACUOUS_EPSILON = 50.0
# Curves of more points than this are interpolated between about as many.
_KNOTS_PER_OCTAVE = 2
_EXACT_POINTS = 40


def epsilon(
    mechanism: Mechanism, *, delta: float, accountant: str = "pld"
) -> float:
  """Returns an epsilon for which the run is (epsilon, delta)-private.

  Args:
    mechanism: What the run releases.
    delta: The delta of the guarantee, in (0, 1).
    accountant: "pld" or "rdp".

  Returns:
    Epsilon, in nats; infinity only where no finite bound can be shown.

  Raises:
    ValueError: If an argument breaks its rule, or no analysis is known for
      the pair of sampler and accountant.

  Guarantee:
    The run, all its iterates released, is (epsilon, delta)-differentially
    private under `mechanism.neighboring_relation`, if batches are drawn as
    `mechanism.sampling` says. PLD's answer is within its bins' width of the
    truth and rounded up; at a delta of 1e-13 or less, where its arithmetic
    ends, RDP's bound is returned in its place, with a warning.
  """
  delta = check_delta(mechanism, delta)
  check_supported(mechanism, accountant=accountant)
  value, notes = evaluate(mechanism, delta=delta, accountant=accountant)
  warn(notes + vacuous(value))
  return value


def delta(
    mechanism: Mechanism, *, epsilon: float, accountant: str = "pld"
) -> float:
  """Returns a delta for which the run is (epsilon, delta)-private.

  Args:
    mechanism: What the run releases.
    epsilon: The epsilon of the guarantee, of at least 0.
    accountant: "pld" or "rdp".

  Returns:
    Delta, in [0, 1]. PLD's is never below 1e-13 unless RDP shows less, since
    its arithmetic ends there.

  Raises:
    ValueError: As `accounting.epsilon`.
  """
  epsilon = _validate.real("epsilon", epsilon, low=0, low_ok=True)
  check_supported(mechanism, accountant=accountant)
  if accountant == "rdp":
    return _rdp.delta(mechanism, epsilon=epsilon)
  value = float(_pld.composed(mechanism).deltas(np.array([epsilon]))[0])
  if _supports(mechanism, "rdp") and not _pld.MIN_DELTA < value < 1:
    value = max(value, _pld.MIN_DELTA)
    return min(value, _rdp.delta(mechanism, epsilon=epsilon))
  return max(value, _pld.MIN_DELTA)


def epsilon_curve(
    mechanism: Mechanism,
    *,
    steps: Sequence[int],
    delta: float,
    accountant: str = "pld",
) -> np.ndarray:
  """Returns epsilon after each of some numbers of steps.

  Args:
    mechanism: The run; its own `num_steps` is not used. A schedule's phases
      stay at their steps, and the last one goes on.
    steps: Numbers of steps, each of at least 1, in any order.
    delta: The delta of the guarantee.
    accountant: "pld" or "rdp".

  Returns:
    An array of epsilons, one for each entry of `steps`, never falling with
    the number of steps. RDP's is exact at each. PLD's is exact at the last, at
    about two points an octave of each phase, and where at most 40 are asked
    for; elsewhere it is interpolated (monotone cubic in the logarithms).

  Raises:
    ValueError: As `accounting.epsilon`.
  """
  delta = check_delta(mechanism, delta)
  check_supported(mechanism, accountant=accountant)
  counts = np.array([_validate.integer("steps", t) for t in steps], dtype=int)
  if counts.size == 0:
    return np.zeros(0)
  if accountant == "rdp":
    return _rdp.epsilons(mechanism, steps=counts, delta=delta)[0]
  if mechanism.sampling == "deterministic":
    # A staircase: smooth, and cheap, in how often an example takes part.
    counts = np.array(
        [
            dataclasses.replace(mechanism, num_steps=int(t)).max_participations
            for t in counts
        ]
    )
    mechanism = dataclasses.replace(
        mechanism, sampling="poisson", sampling_prob=1.0
    )
  distinct = np.unique(counts)
  if len(distinct) <= _EXACT_POINTS or delta <= _pld.MIN_DELTA:
    values = _exact_curve(mechanism, steps=distinct, delta=delta)
  else:
    values = _interpolated_curve(mechanism, steps=distinct, delta=delta)
  return values[np.searchsorted(distinct, counts)]


def evaluate(
    mechanism: Mechanism,
    *,
    delta: float,
    accountant: str,
    coarsening: float = 1.0,
) -> tuple[float, list[_warnings.AccountingWarning]]:
  """Computes epsilon from checked arguments, and says rather than warns.

  Args:
    mechanism: What the run releases.
    delta: A checked delta.
    accountant: A checked accountant.
    coarsening: How much wider PLD's bins are, for a quick upper bound.

  Returns:
    Epsilon, and warnings not yet issued.
  """
  if accountant == "rdp":
    return _by_rdp(mechanism, delta=delta)
  if delta <= _pld.MIN_DELTA:
    return _by_rdp_for_pld(mechanism, delta=delta)
  value = _pld.composed(mechanism, coarsening=coarsening).epsilon(delta)
  if math.isinf(value) and _supports(mechanism, "rdp"):
    return _by_rdp(mechanism, delta=delta)
  return value, []


def _by_rdp(mechanism: Mechanism, *, delta: float):
  values, orders = _rdp.epsilons(
      mechanism, steps=[mechanism.num_steps], delta=delta
  )
  notes = []
  if 0 < values[0] < math.inf and _rdp.at_grid_edge(orders[0]):
    notes.append(
        _warnings.OrderGridWarning(
            f"The best Renyi order, {orders[0]:g}, is an end of the grid of "
            "orders: a wider grid might show a smaller epsilon. Use pld."
        )
    )
  return float(values[0]), notes


def _by_rdp_for_pld(mechanism: Mechanism, *, delta: float):
  """Answers for PLD where its arithmetic ends."""
  if not _supports(mechanism, "rdp"):
    rule = f"above {_pld.MIN_DELTA:g} for pld with {_pair(mechanism)}"
    _validate.fail("delta", rule, delta)
  value, notes = _by_rdp(mechanism, delta=delta)
  text = (
      f"At delta {claims.at_most_short(delta)} PLD's rounding errors matter "
      f"({_pld.MIN_DELTA:g} or less): this epsilon is RDP's bound, valid and "
      "looser."
  )
  return value, [_warnings.TinyDeltaWarning(text), *notes]


def _exact_curve(
    mechanism: Mechanism, *, steps: np.ndarray, delta: float
) -> np.ndarray:
  values = [
      evaluate(mechanism.with_num_steps(int(t)), delta=delta, accountant="pld")[
          0
      ]
      for t in steps
  ]
  return np.maximum.accumulate(values)


def _interpolated_curve(
    mechanism: Mechanism, *, steps: np.ndarray, delta: float
) -> np.ndarray:
  """Computes epsilon at geometric knots, and interpolates between them."""
  from scipy import interpolate

  last = int(steps[-1])
  knots = _knots(mechanism, int(steps[0]), last)
  prefixes = _pld.composed_prefixes(mechanism, steps=[int(t) for t in knots])
  values = np.maximum.accumulate([p.epsilon(delta) for p in prefixes])
  if not np.all(np.isfinite(values)):
    return _exact_curve(mechanism, steps=steps, delta=delta)
  # Where epsilon is still 0 there is no logarithm: the next knot bounds it.
  result = values[np.searchsorted(knots, steps)]
  begun = 0
  for phase in mechanism.with_num_steps(last).phases:
    # Each by itself: across a kink the slope would be neither side's.
    end = begun + phase.num_steps
    own = (begun <= knots) & (knots <= end) & (values > 0)
    if np.count_nonzero(own) >= 2:
      shape = interpolate.PchipInterpolator(
          np.log(knots[own]), np.log(values[own])
      )
      inside = (knots[own][0] <= steps) & (steps <= end)
      result[inside] = np.exp(shape(np.log(steps[inside])))
    begun = end
  return np.maximum.accumulate(result)


def _knots(mechanism: Mechanism, first: int, last: int) -> np.ndarray:
  """Numbers of steps, geometric from `first` and from each phase's beginning.

  Where a phase begins the curve has a kink, and is steep in its logarithms.
  """
  run, begun, knots = mechanism.with_num_steps(last), 0, []
  for phase in run.phases:
    low, high = max(first - begun, 1), phase.num_steps
    if low <= high:
      count = 2 + math.ceil(_KNOTS_PER_OCTAVE * math.log2(high / low))
      knots.append(begun + np.rint(np.geomspace(low, high, count)).astype(int))
    begun += phase.num_steps
  return np.unique(np.concatenate(knots))


def check_supported(mechanism: Mechanism, *, accountant: str) -> None:
  """Refuses a pair of run and accountant that has no known analysis.

  Args:
    mechanism: What the run releases.
    accountant: "pld" or "rdp".

  Raises:
    ValueError: Naming the pair, and what would work.
  """
  _validate.choice("accountant", accountant, options=ACCOUNTANTS)
  if _supports(mechanism, accountant):
    return
  if mechanism.sampling == "fixed_without_replacement":
    remedy = "accountant 'rdp' with neighboring_relation 'replace_one'"
  else:
    remedy = "accountant 'pld'"
  raise ValueError(
      f"accountant must be one with an analysis of {_pair(mechanism)}, got "
      f"{accountant!r}. {remedy[0].upper() + remedy[1:]} has one."
  )


def _supports(mechanism: Mechanism, accountant: str) -> bool:
  relation = mechanism.neighboring_relation
  if mechanism.sampling == "fixed_without_replacement":
    return accountant == "rdp" and relation == "replace_one"
  if accountant == "pld" or mechanism.sampling == "deterministic":
    return True
  if mechanism.sampling == "truncated_poisson":
    return False
  unsampled = all(phase.sampling_prob == 1 for phase in mechanism.phases)
  return relation != "replace_one" or unsampled


def _pair(mechanism: Mechanism) -> str:
  return (
      f"sampling {mechanism.sampling!r} under "
      f"{mechanism.neighboring_relation!r}"
  )


def check_delta(mechanism: Mechanism, delta: float) -> float:
  """Checks a delta, and warns where it is large for the data set."""
  value = _validate.real("delta", delta, low=0, high=1)
  total = mechanism.num_examples
  if total is not None and value >= 1 / total:
    warn(
        [
            _warnings.LargeDeltaWarning(
                f"delta {claims.exact(value)} is 1 / num_examples "
                f"({1 / total:g}) or more: publishing one example at "
                "random would satisfy it."
            )
        ]
    )
  return value


def vacuous(value: float) -> list[_warnings.AccountingWarning]:
  """Returns a warning if this epsilon promises nothing of use."""
  if value <= VACUOUS_EPSILON:
    return []
  text = (
      f"epsilon {claims.at_most_short(value)} is above "
      f"{VACUOUS_EPSILON:g}: this guarantee is vacuous, and the run "
      "should not be called private."
  )
  return [_warnings.VacuousGuaranteeWarning(text)]


def warn(notes: Sequence[Warning]) -> None:
  """Issues warnings on behalf of whoever called the public function."""
  for note in notes:
    warnings.warn(note, stacklevel=3)
