"""The accountant "pld": privacy loss distributions, tight.

Where its arithmetic ends, or memory is too small for it to be tight, it gives
RDP's bound instead, and says so. Invariant: its epsilon is never above RDP's.

>>> from accounting.mechanism import Mechanism
>>> run = Mechanism(noise_multiplier=4.0, sampling_prob=0.01, num_steps=10_000)
>>> round(LossDistributions().evaluate(run, delta=1e-5).epsilon, 3)
0.947
"""

import functools
import math
from typing import TYPE_CHECKING

import numpy as np

from accounting import _validate, _warnings, claims
from accounting.accountants.accountant import (
    VACUOUS_EPSILON,
    Accountant,
    Evaluation,
)
from accounting.accountants.rdp import RenyiDivergences
from accounting.numerics import limits, pld, terms

if TYPE_CHECKING:
  from accounting.composition import AnyMechanism
  from accounting.mechanism import Mechanism

# Of this many points of a curve each is by itself what `epsilon` returns; of
# more, those within an octave share a grid.
_EXACT_POINTS = 40
# Of more points than this, some have the next one's epsilon, if that has spent
# at most this much more: steps x probability^2, as epsilon grows with.
_STAIRLESS_POINTS = 256
_STAIR = 1.02
# What else may have a bound, where this one is wide or has none.
_FALLBACK = RenyiDivergences()


class LossDistributions(Accountant):
  """See `Accountant`."""

  name = "pld"
  title = "privacy loss distributions (PLD)"
  remark = (
      "Its losses are put on a grid, rounded so that epsilon can only come "
      "out too large, by 0.1% or so at most in usual settings."
  )
  accounts_for_users = True
  composes = True

  def evaluate(
      self, run: "AnyMechanism", *, delta: float, coarsening: float = 1.0
  ) -> Evaluation:
    """See `Accountant`."""
    if delta < pld.min_delta(run):
      return _beyond_arithmetic(run, delta=delta)
    value, excess = _reached(run, delta, coarsening)
    # Elsewhere RDP's bound is larger than the grid's share of this one.
    doubtful = excess > pld.CLOSE or value > VACUOUS_EPSILON
    doubtful |= not all(part.is_exact for part, _ in run.parts)
    # Without a run, epsilon may be the sum of largest losses, which RDP has
    # exactly; it costs little there.
    doubtful |= not any(part.num_steps for part, _ in run.parts)
    best = Evaluation(value, self.name, [])
    if doubtful and coarsening == 1 and _FALLBACK.supports(run):
      other = _FALLBACK.evaluate(run, delta=delta)
      if other.epsilon < value:
        best = other._replace(notes=[])
    return best._replace(notes=_wide(best, value / (1 + excess)))

  def delta(self, run: "AnyMechanism", *, epsilon: float) -> float:
    """See `Accountant`."""
    value = pld.delta_at(run, epsilon)
    if _FALLBACK.supports(run):
      value = min(value, _FALLBACK.delta(run, epsilon=epsilon))
    return value

  def curve(
      self, run: "Mechanism", *, steps: np.ndarray, delta: float
  ) -> np.ndarray:
    """See `Accountant`."""
    counts = steps
    if not run.sampler.amplifies:
      # A staircase: smooth, and cheap, in how often an example takes part.
      counts = np.array([run.sampler.compositions(run, int(t)) for t in steps])
      run = run.unsampled()
    distinct = np.unique(counts)
    knots = distinct[_knots(run, distinct)]
    values = np.maximum.accumulate(
        self._knot_epsilons(run, steps=knots.tolist(), delta=delta)
    )
    return values[np.searchsorted(knots, counts)]

  def losses(self, run: "AnyMechanism") -> pld.LossDistribution:
    """See `Accountant`."""
    return pld.composed(run, deltas=pld.PROFILE_DELTAS)

  def _knot_epsilons(
      self, run: "Mechanism", *, steps: list[int], delta: float
  ) -> list[float]:
    """Epsilons at some numbers of steps; where PLD has none, RDP's."""
    runs = [run.with_num_steps(t) for t in steps]
    plain = any(phase.sampling_prob == 1 for phase in runs[-1].phases)
    if plain or delta < pld.min_delta(run) or len(steps) <= _EXACT_POINTS:
      return [self.evaluate(r, delta=delta).epsilon for r in runs]
    values = pld.epsilons(run, steps=steps, delta=delta)
    return [
        value
        if value <= VACUOUS_EPSILON
        else self.evaluate(r, delta=delta).epsilon
        for r, value in zip(runs, values, strict=True)
    ]


def _reached(run, delta, coarsening) -> tuple[float, float]:
  """Epsilon, and the excess of the distribution that it is from."""
  if limits.hopeless(run):
    return math.inf, math.inf
  if not run.parts:  # Public steps alone.
    return 0.0, 0.0
  return _kept(terms.terms_of(run), delta, coarsening)


@functools.lru_cache(maxsize=4096)  # Two numbers; what they are from is large.
def _kept(its_terms, delta, coarsening):
  found = pld.compose(its_terms, deltas=(delta,), coarsening=coarsening)
  return found.epsilon(delta), found.excess


def _knots(run: "Mechanism", steps: np.ndarray) -> np.ndarray:
  """Indices of the numbers of steps that are computed, the last included."""
  if len(steps) <= _STAIRLESS_POINTS:
    return np.arange(len(steps))
  begun, weights = 0, np.zeros(len(steps))
  for phase in run.with_num_steps(int(steps[-1])).phases:
    taken = np.clip(steps - begun, 0, phase.num_steps)
    weights += taken * phase.sampling_prob**2
    begun += phase.num_steps
  places = np.floor(np.log(weights) / math.log(_STAIR))
  return np.flatnonzero(np.append(places[1:] != places[:-1], True))


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
          "distribution of all steps does not fit on a grid of the memory "
          "allowed."
      )
  ]


def _beyond_arithmetic(run: "AnyMechanism", *, delta: float) -> Evaluation:
  """Answers at a delta where PLD's arithmetic ends."""
  least = pld.min_delta(run)
  if not _FALLBACK.supports(run):
    rule = f"at least {least:g} for pld with {run.described}"
    _validate.fail("delta", rule, delta)
  found = _FALLBACK.evaluate(run, delta=delta)
  text = (
      f"PLD's arithmetic ends at a delta of {least:g}: at "
      f"{claims.at_most_short(delta)} this epsilon is RDP's bound, valid and "
      "looser."
  )
  return found._replace(notes=[_warnings.TinyDeltaWarning(text), *found.notes])
