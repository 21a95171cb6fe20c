"""The whole guarantee, of which one (epsilon, delta) is a single point.

Everything here is read off one loss distribution: delta for every epsilon, the
Gaussian guarantee that fits best, and what these mean for someone who attacks
the released model. Invariant: each number is an upper bound on what an
attacker with any method, and with all the other examples in hand, can achieve.

>>> from accounting.mechanism import Mechanism
>>> run = Mechanism(noise_multiplier=2.0, sampling_prob=1.0, num_steps=1)
>>> found = privacy_profile(run)
>>> round(found.gdp_mu, 3), round(found.gdp_regret, 3)
(0.5, 0.0)
>>> round(found.advantage, 4)  # 2 Phi(mu / 2) - 1
0.1974
"""

import dataclasses
import math
from typing import Any

import numpy as np

from accounting import _html, _validate, accountants, claims, plots
from accounting.composition import AnyMechanism
from accounting.epsilons import check_supported
from accounting.numerics import pld

NUM_POINTS = 100
FALSE_POSITIVE_RATES = (0.001, 0.01, 0.1)
# The profile ends where delta does not matter any more.
_LAST_DELTA = 1e-12
# Error rates below this are left out of the Gaussian fit: the far tails hold
# no amplification by sampling, and no attack can be measured there.
GDP_TOLERANCE = 1e-10


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrivacyProfile:
  """A run's whole guarantee, and what it means to an attacker.

  Attributes:
    epsilons: Epsilons from 0 to where delta is 1e-12 or less, evenly spaced by
      a number of two digits, shape [100].
    deltas: Least delta at each, shape [100].
    gdp_mu: The least mu such that distinguishing neighbours is as hard as
      telling N(0, 1) from N(mu, 1), at error rates of at least 1e-10.
    gdp_regret: Largest distance of the Gaussian's trade-off curve from the
      run's own, in each error rate. Below 0.01, mu says it all.
    advantage: Largest true positive rate minus false positive rate of a
      membership attack: the total variation distance, delta at epsilon 0.
    bayes_success: Largest probability of guessing membership right, when it
      was decided by a fair coin.
    tpr_at_fpr: Largest true positive rate at some false positive rates.
    reconstruction_prior: Probability of reconstructing an example (however
      success is defined) by someone who never sees the model.
    reconstruction_bound: The same for someone who does.
  """

  epsilons: np.ndarray
  deltas: np.ndarray
  gdp_mu: float
  gdp_regret: float
  advantage: float
  bayes_success: float
  tpr_at_fpr: dict[float, float]
  reconstruction_prior: float
  reconstruction_bound: float

  def _repr_html_(self) -> str:
    """Returns what a notebook shows."""
    return _html.profile(self)

  def plot(self) -> Any:
    """Returns a figure of Matplotlib: delta at each epsilon, the best attack.

    Raises:
      ImportError: If Matplotlib is missing: the extra is "plots".
    """
    return plots.guarantee(self)


def privacy_profile(
    mechanism: AnyMechanism, *, reconstruction_prior: float = 1e-4
) -> PrivacyProfile:
  """Computes the whole guarantee of a run, by PLD.

  Args:
    mechanism: Description of what the run releases, or a `Composition`.
    reconstruction_prior: Probability, in (0, 1), of reconstructing an example
      without the model.

  Returns:
    The profile.

  Raises:
    ValueError: If PLD has no analysis of the sampler, or the prior is no
      probability.

  Guarantee:
    Upper bounds against every attack on all the iterates, under the
    mechanism's neighbouring relation.

  Source: Kairouz, Oh and Viswanath 2015 (1311.0776) for error rates; Gomez et
    al. 2025 (2503.10945) for mu and its regret; Hayes, Mahloujifar and Balle
    2023 (2302.07225) for reconstruction.
  """
  prior = _validate.real(
      "reconstruction_prior", reconstruction_prior, low=0, high=1
  )
  check_supported(mechanism, accountant=accountants.TIGHTEST)
  tightest = accountants.get(accountants.TIGHTEST)
  # Of disjoint data a unit pays for one part: each number is the worst.
  losses = [
      loss
      for each in mechanism.alternatives
      if (loss := tightest.losses(each)) is not None
  ]
  rates = np.array([*FALSE_POSITIVE_RATES, prior])
  *tprs, reconstruction = np.max(
      [true_positive_rates(loss, rates) for loss in losses], axis=0
  ).tolist()
  last = max(loss.epsilon(_LAST_DELTA) for loss in losses)
  # With no finite epsilon there is no more to show than that.
  epsilons = _grid(last if np.isfinite(last) else 1.0)
  deltas = np.max([loss.deltas(epsilons) for loss in losses], axis=0)
  mu = max(map(_gdp_mu, losses))
  return PrivacyProfile(
      epsilons=epsilons,
      deltas=deltas,
      gdp_mu=mu,
      # The run's own curve is the lowest: its distance is the least.
      gdp_regret=min(_regret(loss, mu) for loss in losses),
      advantage=float(deltas[0]),
      bayes_success=(1 + float(deltas[0])) / 2,
      tpr_at_fpr=dict(zip(FALSE_POSITIVE_RATES, tprs, strict=True)),
      reconstruction_prior=prior,
      reconstruction_bound=reconstruction,
  )


def _grid(last: float) -> np.ndarray:
  """Returns epsilons from 0 to `last` or a little more, evenly spaced.

  Their distance has two significant digits. `last` itself hangs on rounding
  errors, which differ between processors: a grid that ended there would move.
  """
  count = NUM_POINTS - 1
  if not last:
    return np.zeros(NUM_POINTS)
  spacing = float(claims.at_most_short(last / count, digits=2))
  # Each the double nearest to its decimal: 0.067 * 11 is above 0.737.
  places = 1 - math.floor(math.log10(spacing))
  return np.array([round(k * spacing, places) for k in range(NUM_POINTS)])


def true_positive_rates(
    loss: pld.LossDistribution, false_positive_rates: np.ndarray
) -> np.ndarray:
  """Returns the largest true positive rate at each false positive rate.

  At rate x no attack does better than delta(e) + exp(e) x for any e >= 0, nor
  than 1 - exp(-e) (1 - delta'(e) - x), delta' being delta of the hypotheses
  exchanged. Both are linear in exp(e) between bins, hence least at a bin. An
  attacker may take either data set for the null hypothesis.

  Args:
    loss: The run's loss distribution.
    false_positive_rates: Rates in [0, 1].

  Returns:
    An array of the same shape.
  """
  top = max(0.0, *(float(d.losses[-1]) for d in loss.directions))
  width = loss.interval if np.isfinite(loss.interval) else 1.0
  bins = np.arange(int(top / width) + 2) * width
  deltas = [d.deltas(bins) for d in loss.directions]
  with np.errstate(over="ignore"):
    grown, shrunk = np.exp(bins), np.exp(-bins)

  def best(there, back, x: float) -> float:
    return min(
        float(np.min(there + grown * x)),
        float(np.min(1 - shrunk * (1 - back - x))),
        1.0,
    )

  first, last = deltas[0], deltas[-1]
  return np.array(
      [
          max(best(first, last, x), best(last, first, x))
          for x in false_positive_rates
      ]
  )


def _roc(direction: pld.Direction) -> tuple[np.ndarray, np.ndarray]:
  """Corners of the likelihood-ratio test's curve, losses of at least 0.

  Below a loss of 0 the false positive rate multiplies rounding errors by
  exp(-loss); there the other direction, mirrored, is exact.

  Returns:
    False and true positive rates, ascending, of "the loss is at least this".
  """
  first = int(np.searchsorted(direction.losses, 0.0))
  losses = direction.losses[first:][::-1]
  fpr = direction.lower[first:-1][::-1] * np.exp(-losses)
  tpr = direction.infinity_mass + direction.upper[first:-1][::-1]
  return np.minimum(fpr, 1.0), np.minimum(tpr, 1.0)


def _gdp_mu(loss: pld.LossDistribution) -> float:
  """The largest mu that any corner of the curve asks for."""
  from scipy import special

  mu = 0.0
  for direction in loss.directions:
    fpr, tpr = _roc(direction)
    if direction.infinity_mass > GDP_TOLERANCE:
      return float("inf")
    seen = (fpr > GDP_TOLERANCE) & (tpr < 1 - GDP_TOLERANCE)
    if np.any(seen):
      gaps = special.ndtri(tpr[seen]) - special.ndtri(fpr[seen])
      mu = max(mu, float(np.max(gaps)))
  return mu


def _regret(loss: pld.LossDistribution, mu: float) -> float:
  """Least k with f(a + k) - k <= f_mu(a) for all a, f the run's trade-off.

  Such a shift leaves the sum of the two rates as it is, and changes their
  difference by 2 k: so k is half of the largest gap in the difference.
  """
  from scipy import special

  if not np.isfinite(mu):
    return 1.0
  x = special.ndtr(np.linspace(-8.0 - mu, 8.0, 4001))
  y = special.ndtr(special.ndtri(x) + mu)
  sums, gaps = x + y, y - x
  corners = [_roc(d) for d in loss.directions]
  (fpr, tpr), (back_fpr, back_tpr) = corners[0], corners[-1]
  own_sums = np.concatenate(
      [[0.0], fpr + tpr, (2 - back_fpr - back_tpr)[::-1], [2.0]]
  )
  own_gaps = np.concatenate(
      [[0.0], tpr - fpr, (back_tpr - back_fpr)[::-1], [0]]
  )
  order = np.argsort(own_sums, kind="stable")
  own_sums, own_gaps = own_sums[order], own_gaps[order]
  own = np.maximum(
      np.interp(sums, own_sums, own_gaps),
      np.interp(2 - sums, own_sums, own_gaps),
  )
  return max(0.0, float(np.max(gaps - own)) / 2)
