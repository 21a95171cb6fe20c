"""dp-accounting's loss of one step, inverted for a whole grid at once.

To discretise a step, dp-accounting finds the noise at which the loss takes
each value of the grid: in Python, one by one, at 2 microseconds a value for a
Gaussian and 75 for a mixture of them. Here the same is done on arrays.
Everything else, what is pessimistic about it included, is dp-accounting's.

Importing this module imports dp-accounting.

>>> pld = gaussian(noise=2.0, sampling_prob=0.1, interval=1e-3)
>>> float(round(pld.get_delta_for_epsilon(0.0), 5))  # 0.1 (2 Phi(1 / 4) - 1)
0.01974
"""

import math

import numpy as np
from dp_accounting.pld import privacy_loss_distribution, privacy_loss_mechanism
from scipy import special

_Adjacency = privacy_loss_mechanism.AdjacencyType
# Halvings of the range of a mixture's noise, about 100 wide: to 1e-12.
_HALVINGS = 47


class _Gaussian(privacy_loss_mechanism.GaussianPrivacyLoss):
  """The loss of a sampled Gaussian of sensitivity 1."""

  def get_delta_for_epsilon(self, epsilon):
    """Returns the hockey-stick divergences at ascending epsilons."""
    epsilons = np.asarray(epsilon, float)
    deltas = np.zeros_like(epsilons)
    q, sampled = self.sampling_prob, self.sampling_prob < 1
    taken = np.ones_like(epsilons, dtype=bool)
    if sampled and self.adjacency_type == _Adjacency.ADD:
      taken = epsilons < -math.log1p(-q)  # No loss is larger.
    elif sampled and self.adjacency_type == _Adjacency.REMOVE:
      taken = epsilons > math.log1p(-q)  # No loss is smaller.
      deltas[~taken] = -np.expm1(epsilons[~taken])
    x = self._inverses(epsilons[taken])
    deltas[taken] = self.mu_upper_cdf(x) - np.exp(
        epsilons[taken] + self.mu_lower_log_cdf(x)
    )
    return np.clip(deltas, 0.0, 1.0)

  def _inverses(self, epsilons: np.ndarray) -> np.ndarray:
    """Returns the noise at which the loss takes each of the values."""
    variance = self._standard_deviation**2
    if self.adjacency_type == _Adjacency.REMOVE:
      return -0.5 - variance * _unsampled(epsilons, self.sampling_prob)
    if self.adjacency_type == _Adjacency.ADD:
      return 0.5 + variance * _unsampled(-epsilons, self.sampling_prob)
    if self.sampling_prob == 1:
      return -0.5 * variance * epsilons
    # asinh(odds sinh(|e| / 2)) in logarithms: either factor may overflow.
    half = 0.5 * np.abs(epsilons)
    odds = 0.5 / variance + math.log1p(-self.sampling_prob)
    odds -= math.log(self.sampling_prob)
    with np.errstate(divide="ignore"):
      log_sinh = half + np.log(-np.expm1(-2 * half)) - math.log(2)
    inner = odds + log_sinh
    asinh = np.logaddexp(0.5 * np.logaddexp(0.0, 2 * inner), inner)
    return -np.sign(epsilons) * variance * (asinh + half)


def _unsampled(losses: np.ndarray, q: float) -> np.ndarray:
  """Returns l with log(1 - q + q exp(l)) = loss, for losses above log(1-q)."""
  small = np.minimum(losses, 1.0)
  large = np.maximum(losses, 1.0)
  with np.errstate(divide="ignore"):
    near = np.log1p(np.expm1(small) / q)
  far = large - math.log(q) + np.log1p((q - 1) * np.exp(-large))
  return np.where(losses < 1, near, far)


class _Mixture(privacy_loss_mechanism.MixtureGaussianPrivacyLoss):
  """The loss of a Gaussian whose mean moves by a random amount."""

  def _inverse_privacy_losses_with_range(self, losses, bounds, precision=0.0):
    """Returns the noise at which the loss takes each of the values."""
    del precision  # Reaches 1e-12; dp-accounting's default is 1e-6.
    low, high = (np.full(len(losses), float(b)) for b in bounds)
    for _ in range(_HALVINGS):
      middle = 0.5 * (low + high)
      above = self._losses(middle) > losses  # The loss falls with the noise.
      low = np.where(above, middle, low)
      high = np.where(above, high, middle)
    return high

  def _losses(self, x: np.ndarray) -> np.ndarray:
    moved = np.multiply.outer(x, self.sensitivities) / self._variance
    terms = self._precompute_privacy_loss_constants
    if self.adjacency_type == _Adjacency.REMOVE:
      return special.logsumexp(terms - moved, axis=1)
    return -special.logsumexp(terms + moved, axis=1)


def gaussian(
    *,
    noise: float,
    sampling_prob: float,
    interval: float,
    replace: bool = False,
) -> privacy_loss_distribution.PrivacyLossDistribution:
  """Discretises one step of the Poisson-sampled Gaussian.

  Args:
    noise: Noise multiplier.
    sampling_prob: Sampling probability, in (0, 1].
    interval: Width of a bin.
    replace: Whether an example is replaced, not added, removed or blanked.

  Returns:
    dp-accounting's object, pessimistic.
  """

  def loss(adjacency):
    return _Gaussian(
        noise, sampling_prob=sampling_prob, adjacency_type=adjacency
    )

  if replace:
    return _discretise([loss(_Adjacency.REPLACE)], interval)
  if sampling_prob == 1:
    return _discretise([loss(_Adjacency.REMOVE)], interval)
  return _discretise([loss(_Adjacency.REMOVE), loss(_Adjacency.ADD)], interval)


def mixture(
    *,
    noise: float,
    sensitivities: list[float],
    weights: list[float],
    interval: float,
) -> privacy_loss_distribution.PrivacyLossDistribution:
  """Discretises one release of a Gaussian whose mean moves at random.

  Args:
    noise: Standard deviation of the noise.
    sensitivities: How far the mean may move, non-negative.
    weights: Probability of each.
    interval: Width of a bin.

  Returns:
    dp-accounting's object, pessimistic.
  """
  losses = [
      _Mixture(noise, sensitivities, weights, adjacency_type=adjacency)
      for adjacency in (_Adjacency.REMOVE, _Adjacency.ADD)
  ]
  return _discretise(losses, interval)


def _discretise(losses, interval: float):
  """Applies dp-accounting's Connect the Dots in each direction."""
  build = privacy_loss_distribution._create_pld_pmf_from_monotone_privacy_loss
  return privacy_loss_distribution.PrivacyLossDistribution(
      *[
          build(
              loss,
              value_discretization_interval=interval,
              use_connect_dots=True,
          )
          for loss in losses
      ]
  )
