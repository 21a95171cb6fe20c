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
from typing import NamedTuple

import numpy as np

from accounting import _validate, _warnings, claims
from accounting.mechanism import Mechanism
from accounting.numerics import pld, rdp

ACCOUNTANTS = ("pld", "rdp")
# Beyond this, a guarantee is said to be vacuous: exp(50) is no bound at all.
VACUOUS_EPSILON = 50.0
# Of this many points each is by itself what `epsilon` returns; of more, those
# within an octave share a grid.
_EXACT_POINTS = 40
# Of more points than this, some have the next one's epsilon, if that has spent
# at most this much more: steps x probability^2, as epsilon grows with.
_STAIRLESS_POINTS = 256
_STAIR = 1.02


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
    `mechanism.sampling` says. PLD's answer is never above RDP's, and within
    0.5% of the truth unless a `WideBoundWarning` says how much it may be
    above. Its arithmetic ends at a delta of 1e-30: below, RDP's bound is
    returned in its place, with a warning. Truncated batches have no RDP bound,
    and a delta below 1e-13 is refused.
  """
  delta = check_delta(mechanism, delta)
  check_supported(mechanism, accountant=accountant)
  found = evaluate(mechanism, delta=delta, accountant=accountant)
  warn([*found.notes, *vacuous(found.epsilon)])
  return found.epsilon


def delta(
    mechanism: Mechanism, *, epsilon: float, accountant: str = "pld"
) -> float:
  """Returns a delta for which the run is (epsilon, delta)-private.

  Args:
    mechanism: What the run releases.
    epsilon: The epsilon of the guarantee, of at least 0.
    accountant: "pld" or "rdp".

  Returns:
    Delta, in [0, 1]. PLD's is never above RDP's, and never below 1e-30 (1e-13
    for truncated batches) unless RDP shows less, since its arithmetic ends
    there.

  Raises:
    ValueError: As `accounting.epsilon`.
  """
  epsilon = _validate.real("epsilon", epsilon, low=0, low_ok=True)
  check_supported(mechanism, accountant=accountant)
  if accountant == "rdp":
    return rdp.delta(mechanism, epsilon=epsilon)
  value = pld.delta_at(mechanism, epsilon)
  if _supports(mechanism, "rdp"):
    value = min(value, rdp.delta(mechanism, epsilon=epsilon))
  return value


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
    the number of steps. RDP's is that of `epsilon` at each. PLD's is so where
    at most 40 are asked for, and at the last; up to 256 it is the same but for
    the grid, by less than 0.2%; of more, some may be those of up to 2% more
    steps. All are upper bounds.

  Raises:
    ValueError: As `accounting.epsilon`.
  """
  delta = check_delta(mechanism, delta)
  check_supported(mechanism, accountant=accountant)
  counts = np.array([_validate.integer("steps", t) for t in steps], dtype=int)
  if counts.size == 0:
    return np.zeros(0)
  if accountant == "rdp":
    return rdp.epsilons(mechanism, steps=counts, delta=delta)[0]
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
  knots = distinct[_knots(mechanism, distinct)]
  values = np.maximum.accumulate(
      _knot_epsilons(mechanism, steps=knots.tolist(), delta=delta)
  )
  return values[np.searchsorted(knots, counts)]


def _knot_epsilons(
    mechanism: Mechanism, *, steps: list[int], delta: float
) -> list[float]:
  """PLD's epsilons at some numbers of steps; where it has none, RDP's."""
  runs = [mechanism.with_num_steps(t) for t in steps]
  plain = any(phase.sampling_prob == 1 for phase in runs[-1].phases)
  if plain or delta < pld.min_delta(mechanism) or len(steps) <= _EXACT_POINTS:
    return [evaluate(r, delta=delta, accountant="pld").epsilon for r in runs]
  values = pld.epsilons(mechanism, steps=steps, delta=delta)
  return [
      value
      if value <= VACUOUS_EPSILON
      else evaluate(run, delta=delta, accountant="pld").epsilon
      for run, value in zip(runs, values, strict=True)
  ]


def _knots(mechanism: Mechanism, steps: np.ndarray) -> np.ndarray:
  """Indices of the numbers of steps that are computed, the last included."""
  if len(steps) <= _STAIRLESS_POINTS:
    return np.arange(len(steps))
  begun, weights = 0, np.zeros(len(steps))
  for phase in mechanism.with_num_steps(int(steps[-1])).phases:
    taken = np.clip(steps - begun, 0, phase.num_steps)
    weights += taken * phase.sampling_prob**2
    begun += phase.num_steps
  places = np.floor(np.log(weights) / math.log(_STAIR))
  return np.flatnonzero(np.append(places[1:] != places[:-1], True))


class Evaluation(NamedTuple):
  """An epsilon, and what there is to know about it.

  Attributes:
    epsilon: The epsilon.
    accountant: Whose bound it is: "pld" or "rdp".
    notes: Warnings not yet issued.
  """

  epsilon: float
  accountant: str
  notes: list[_warnings.AccountingWarning]


def evaluate(
    mechanism: Mechanism,
    *,
    delta: float,
    accountant: str,
    coarsening: float = 1.0,
) -> Evaluation:
  """Computes epsilon from checked arguments, and says rather than warns.

  Args:
    mechanism: What the run releases.
    delta: A checked delta.
    accountant: A checked accountant.
    coarsening: How much wider PLD's bins are, for a quick upper bound; above 1
      it is not compared with RDP's.

  Returns:
    The least of the bounds that the accountant allows.
  """
  if accountant == "rdp":
    return _by_rdp(mechanism, delta=delta)
  if delta < pld.min_delta(mechanism):
    return _by_rdp_for_pld(mechanism, delta=delta)
  found = pld.composed(mechanism, deltas=(delta,), coarsening=coarsening)
  value = found.epsilon(delta)
  # Elsewhere RDP's bound is larger than the grid's share of this one.
  doubtful = found.excess > pld.CLOSE or value > VACUOUS_EPSILON
  best = Evaluation(value, "pld", [])
  if doubtful and coarsening == 1 and _supports(mechanism, "rdp"):
    other = _by_rdp(mechanism, delta=delta)
    if other.epsilon < value:
      best = Evaluation(other.epsilon, "rdp", [])
  return best._replace(notes=_wide(best, value / (1 + found.excess)))


def _wide(best: Evaluation, likely: float) -> list[_warnings.AccountingWarning]:
  """Returns a warning if the bound is far above what it should be."""
  if best.epsilon <= likely * (1 + pld.WIDE) or math.isinf(best.epsilon):
    return []
  name = best.accountant.upper()
  if math.isfinite(likely) and likely > 0:
    text = f"may be {claims.at_most_percent(best.epsilon / likely - 1)} above"
  else:
    text = "may be many times"
  return [
      _warnings.WideBoundWarning(
          f"epsilon {claims.at_most_short(best.epsilon)} is {name}'s bound, "
          f"valid but not tight: it {text} the truth, by estimate. The loss "
          "distribution of so many steps does not fit on a grid of the memory "
          "allowed."
      )
  ]


def _by_rdp(mechanism: Mechanism, *, delta: float) -> Evaluation:
  values, orders = rdp.epsilons(
      mechanism, steps=[mechanism.num_steps], delta=delta
  )
  notes = []
  if 0 < values[0] < math.inf and rdp.at_grid_edge(mechanism, orders[0]):
    notes.append(
        _warnings.OrderGridWarning(
            f"The best Renyi order, {orders[0]:g}, is an end of the grid of "
            "orders: a wider grid might show a smaller epsilon."
        )
    )
  return Evaluation(float(values[0]), "rdp", notes)


def _by_rdp_for_pld(mechanism: Mechanism, *, delta: float) -> Evaluation:
  """Answers for PLD where its arithmetic ends."""
  least = pld.min_delta(mechanism)
  if not _supports(mechanism, "rdp"):
    rule = f"at least {least:g} for pld with {_pair(mechanism)}"
    _validate.fail("delta", rule, delta)
  found = _by_rdp(mechanism, delta=delta)
  text = (
      f"PLD's arithmetic ends at a delta of {least:g}: at "
      f"{claims.at_most_short(delta)} this epsilon is RDP's bound, valid and "
      "looser."
  )
  return found._replace(notes=[_warnings.TinyDeltaWarning(text), *found.notes])


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
