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

import warnings
from collections.abc import Sequence

import numpy as np

from accounting import _validate, _warnings, accountants, claims
from accounting.accountants.accountant import VACUOUS_EPSILON
from accounting.composition import AnyMechanism, Composition, mechanisms_of
from accounting.mechanism import Mechanism

# Numbers of steps of a composition of which each is computed.
_MAX_KNOTS = 64


def epsilon(
    mechanism: AnyMechanism, *, delta: float, accountant: str = "pld"
) -> float:
  """Returns an epsilon for which the run is (epsilon, delta)-private.

  Args:
    mechanism: Description of what the run releases, or a `Composition`.
    delta: Delta of the guarantee, in (0, 1).
    accountant: Name of the accountant: "pld" or "rdp".

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
    mechanism: AnyMechanism, *, epsilon: float, accountant: str = "pld"
) -> float:
  """Returns a delta for which the run is (epsilon, delta)-private.

  Args:
    mechanism: Description of what the run releases, or a `Composition`.
    epsilon: Epsilon of the guarantee, at least 0.
    accountant: Name of the accountant: "pld" or "rdp".

  Returns:
    Delta, in [0, 1]. PLD's is never above RDP's, and never below 1e-30 (1e-13
    for truncated batches) unless RDP shows less, since its arithmetic ends
    there.

  Raises:
    ValueError: If an argument breaks its rule; see `accounting.epsilon`.
  """
  epsilon = _validate.real("epsilon", epsilon, low=0, low_ok=True)
  check_supported(mechanism, accountant=accountant)
  chosen = accountants.get(accountant)
  return max(chosen.delta(a, epsilon=epsilon) for a in mechanism.alternatives)


def epsilon_curve(
    mechanism: AnyMechanism,
    *,
    steps: Sequence[int],
    delta: float,
    accountant: str = "pld",
) -> np.ndarray:
  """Returns epsilon after each of some numbers of steps.

  Args:
    mechanism: The run; its own `num_steps` is not used. A schedule's phases
      stay at their steps, and the last one goes on. Or a `Composition`, whose
      runs follow each other as listed; its other releases count from the start.
    steps: Numbers of steps, each of at least 1, in any order.
    delta: Delta of the guarantee, in (0, 1).
    accountant: Name of the accountant: "pld" or "rdp".

  Returns:
    An array of epsilons, one for each entry of `steps`, never falling with
    the number of steps. RDP's equals `epsilon` at each. PLD's is so where
    at most 40 are asked for, and at the last; up to 256 it is the same but for
    the grid, by less than 0.2%; of more, some may be those of up to 2% more
    steps. Of a `Composition` each of up to 64 is what `epsilon` returns, and of
    more some are those of more steps. All are upper bounds.

  Raises:
    ValueError: If an argument breaks its rule, see `accounting.epsilon`, or a
      number of steps is beyond the end of a `Composition`.
  """
  delta = check_delta(mechanism, delta)
  check_supported(mechanism, accountant=accountant)
  counts = np.array([_validate.integer("steps", t) for t in steps], dtype=int)
  if counts.size == 0:
    return np.zeros(0)
  chosen = accountants.get(accountant)
  if not isinstance(mechanism, Mechanism):
    return _curve_of_all(Composition([mechanism]), counts, delta, accountant)
  return chosen.curve(mechanism, steps=counts, delta=delta)


def _curve_of_all(
    composition: Composition, steps: np.ndarray, delta: float, accountant: str
) -> np.ndarray:
  """Returns epsilons as the runs of a composition go on, one after another."""
  runs = [r for r in composition.releases if isinstance(r.mechanism, Mechanism)]
  total = Composition(runs).num_steps if runs else 0
  if np.max(steps) > total:
    _validate.fail("steps", f"at most {total}, of all runs", int(np.max(steps)))
  knots, places = np.unique(steps, return_inverse=True)
  if len(knots) > _MAX_KNOTS:  # Those between have the next one's epsilon.
    chosen = np.linspace(0, len(knots) - 1, _MAX_KNOTS).astype(int)
    places = np.searchsorted(chosen, places)
    knots = knots[chosen]
  values = [
      evaluate(
          _after(composition, int(t)), delta=delta, accountant=accountant
      ).epsilon
      for t in knots
  ]
  return np.maximum.accumulate(values)[places]


def _after(composition: Composition, num_steps: int) -> Composition:
  """Returns what was released after some steps of all runs, as listed.

  What has no steps counts from the start, and so do disjoint data.
  """
  left, found = num_steps, []
  for m, count in composition.releases:
    if not isinstance(m, Mechanism):
      found.append((m, count))
      continue
    whole = min(count, left // m.num_steps)
    left -= whole * m.num_steps
    found += [(m, whole)] if whole else []
    if whole < count and left:
      found.append(m.with_num_steps(left))
      left = 0
  return Composition(found, unit=composition.unit)


def evaluate(
    mechanism: AnyMechanism,
    *,
    delta: float,
    accountant: str,
    coarsening: float = 1.0,
) -> accountants.Evaluation:
  """Computes epsilon from checked arguments, and says rather than warns.

  Args:
    mechanism: Description of what the run releases.
    delta: Delta of the guarantee, checked.
    accountant: Name of the accountant, checked.
    coarsening: Factor of the width of PLD's bins, for a quick upper bound;
      above 1 the bound is not compared with RDP's.

  Returns:
    The least of the bounds that the accountant allows; of disjoint data, the
    largest of the parts'.
  """
  chosen = accountants.get(accountant)
  found = [
      chosen.evaluate(each, delta=delta, coarsening=coarsening)
      for each in mechanism.alternatives
  ]
  return max(found, key=lambda each: each.epsilon)


def check_supported(mechanism: AnyMechanism, *, accountant: str) -> None:
  """Refuses a pair of run and accountant that has no known analysis.

  Args:
    mechanism: Description of what the run releases, or a `Composition`.
    accountant: Name of the accountant: "pld" or "rdp".

  Raises:
    ValueError: Naming the pair, and what would work.
  """
  chosen = accountants.get(accountant)
  if not isinstance(mechanism, Mechanism) and not chosen.composes:
    known = [n for n in accountants.names() if accountants.get(n).composes]
    _validate.choice("accountant", accountant, options=known)
  for each in mechanisms_of(mechanism):
    if not chosen.supports(each):
      remedy = (
          mechanism.sampler.remedy
          if isinstance(mechanism, Mechanism)
          else _remedy(mechanism)
      )
      raise ValueError(
          f"accountant must be one with an analysis of {each.described}, got "
          f"{accountant!r}. {remedy[0].upper() + remedy[1:]} has one."
      )


def _remedy(composition: AnyMechanism) -> str:
  """Names an accountant with an analysis of every release."""
  for name in accountants.names():
    chosen = accountants.get(name)
    if chosen.composes and chosen.supports(composition):
      return f"accountant {name!r}"
  return "no accountant for all releases together"


def check_delta(mechanism: AnyMechanism, delta: float) -> float:
  """Returns a checked delta, and warns if it is large for the data set.

  Args:
    mechanism: Mechanism of the run, of which the number of examples is read.
    delta: Delta of the guarantee.

  Raises:
    ValueError: If delta is not in (0, 1).
  """
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
  """Returns a warning if this epsilon promises nothing of use.

  Args:
    value: Epsilon.
  """
  if value <= VACUOUS_EPSILON:
    return []
  text = (
      f"epsilon {claims.at_most_short(value)} is above "
      f"{VACUOUS_EPSILON:g}: this guarantee is vacuous, and the run "
      "should not be called private."
  )
  return [_warnings.VacuousGuaranteeWarning(text)]


def warn(notes: Sequence[Warning]) -> None:
  """Issues warnings on behalf of whoever called the public function.

  Args:
    notes: Warnings to issue.
  """
  for note in notes:
    warnings.warn(note, stacklevel=3)
