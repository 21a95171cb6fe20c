"""A lower bound of what shuffled epochs leak: an attack, computed exactly.

Nobody has proven that a shuffle amplifies privacy as Poisson sampling does, and
this shows that it does not. Let every other example contribute -1 along one
direction, and this one +1 (or 0 if it is blanked, -1 if it is replaced). Up to
a constant, the sum of its batch is 2 (or 1, or 0), and the sums of the t - 1
others are 0. The attack asks of each epoch whether the largest of its t noisy
sums is above a threshold C, and counts the epochs in which it is. With M the
largest,

  P(M <= C) = rho Phi((C - 2) / sigma) Phi(C / sigma)^(t - 1)
              + (1 - rho) Phi(C / sigma)^t,

where rho is the probability that the example is in the epoch at all: an epoch
drops what does not fill a batch. Permutations of epochs are independent, so the
counts are binomial. An epsilon below log((P(S) - delta) / Q(S)), for any set S
of counts, does not hold.

Invariant: each number is a lower bound of the true epsilon.

Source: Chua et al. 2024 (2403.17673), for one epoch.

>>> found = epsilon_at_least(noise=0.5, num_steps=100, in_epoch=1.0,
...                          num_epochs=1, blank=True, delta=1e-6)
>>> round(found, 2)
11.0
"""

import math

import numpy as np

_THRESHOLDS, _COUNTS = 400, 400
# What rounding may have added to a probability, relatively.
_SLACK = 1e-9


def epsilon_at_least(
    *,
    noise: float,
    num_steps: int,
    in_epoch: float,
    num_epochs: int,
    blank: bool,
    delta: float,
) -> float:
  """Returns an epsilon below which shuffled epochs are not private.

  Args:
    noise: Noise multiplier.
    num_steps: Number of steps of an epoch.
    in_epoch: Probability that an example is in an epoch.
    num_epochs: Number of epochs.
    blank: Whether an example is blanked; otherwise it is replaced.
    delta: Delta of the guarantee.
  """
  from scipy import stats

  thresholds = np.linspace(-4.0, 2.0 + 10.0 * noise, _THRESHOLDS)
  here = _log_below(thresholds, 2.0, noise, num_steps, in_epoch)
  moved = 1.0 if blank else 0.0
  there = _log_below(thresholds, moved, noise, num_steps, in_epoch)
  counts = np.unique(np.linspace(0, num_epochs, _COUNTS).astype(int))[:, None]
  best = 0.0
  for p, q in ((here, there), (there, here)):
    above = stats.binom(num_epochs, -np.expm1(p)), stats.binom(
        num_epochs, -np.expm1(q)
    )
    for tail in ("logsf", "logcdf"):
      log_p, log_q = (getattr(law, tail)(counts) for law in above)
      left = np.exp(log_p) * (1 - _SLACK) - delta
      with np.errstate(divide="ignore", invalid="ignore"):
        found = np.log(left) - log_q - _SLACK
      usable = (left > 0) & np.isfinite(log_q)
      best = max(best, float(np.max(found, where=usable, initial=0.0)))
  return best


def _log_below(thresholds, mean, noise, num_steps, in_epoch) -> np.ndarray:
  """Logarithms of the probability that the largest sum is below each."""
  from scipy import special

  others = special.log_ndtr(thresholds / noise)
  own = special.log_ndtr((thresholds - mean) / noise)
  absent = num_steps * others
  if in_epoch == 1:
    return own + (num_steps - 1) * others
  present = own + (num_steps - 1) * others
  return np.logaddexp(
      math.log(in_epoch) + present, math.log1p(-in_epoch) + absent
  )
