"""Losses of random allocation by chance, where no sum of them is known.

An example is in k of t steps of each of E rounds. With the ratios X of
`allocation.py` the round's ratio is A = e_k(X) / C(t, k), e_k the elementary
symmetric polynomial, and the run's the product of E independent ones. Lemma 1
there holds for any random set of steps, so that these are the dominating pair.

Divergences are means of bounded numbers, drawn from a law under which large
losses are usual. With mu >= 1 and theta >= 0,

  H(P || Q) = E_mu w (1 - e^epsilon / A)_+,
  w = A(1) / A(mu),  A(m) = avg_S exp(sum_{i in S} (m z_i - m^2 / 2) / sigma^2),

where the steps S with the example have mean mu. By the power mean A(mu) >=
avg_S(exp(sum_S z_i / sigma^2))^mu exp(-k mu^2 / (2 sigma^2)). So, wherever the
number is not 0, that is A >= e^epsilon, with K = k E,

  log w <= (1 - mu) (epsilon + K / (2 sigma^2)) + K (mu^2 - 1) / (2 sigma^2).

  H(Q || P) = E_theta v (1 - e^epsilon A)_+,
  log v = sum_i (z_i theta + theta^2 / 2) / sigma^2,

where all steps have mean -theta. By Jensen log A >= (k / t) sum_i (z_i - 1 / 2)
/ sigma^2. So, wherever A <= e^-epsilon,

  log v <= theta (E t / (2 sigma^2) - t epsilon / k)
           + E t theta^2 / (2 sigma^2).

Invariant: no number that is drawn exceeds the bound that is returned with it.

>>> drawn = Allocation(noise=1.0, num_steps=4, num_selected=2, num_rounds=1)
>>> rng = np.random.default_rng(0)
>>> [mean], [largest] = drawn.removed(np.array([1.0]), 1.0, 10_000, rng)
>>> print(f"{mean:.2f}, at most {largest}")
0.15, at most 1.0
"""

import dataclasses
import math

import numpy as np

# Numbers drawn at a time.
_BLOCK = 2**21


@dataclasses.dataclass(frozen=True)
class Allocation:
  """Rounds in each of which an example is in some steps, drawn uniformly.

  Attributes:
    noise: Noise multiplier.
    num_steps: Number of steps of a round.
    num_selected: Number of them that an example is in.
    num_rounds: Number of rounds.
  """

  noise: float
  num_steps: int
  num_selected: int
  num_rounds: int

  def removed(
      self,
      epsilons: np.ndarray,
      typical: float,
      num_samples: int,
      rng: np.random.Generator,
  ) -> tuple[np.ndarray, np.ndarray]:
    """Draws numbers whose mean is the divergence of P from Q.

    Args:
      epsilons: Epsilons, at least 0, shape [n].
      typical: Epsilon for which mu is chosen.
      num_samples: Number of samples.
      rng: Source of randomness.

    Returns:
      Sums over the samples, shape [n], over their number; and the largest value
      that a sample may have, shape [n].
    """
    variance = self.noise**2
    total = self.num_selected * self.num_rounds
    mu = max(1.0, variance * typical / total + 0.5)
    log_bound = (1 - mu) * (epsilons + total / (2 * variance))
    log_bound = log_bound + total * (mu**2 - 1) / (2 * variance)

    def values(z):
      z[:, :, : self.num_selected] += mu
      loss = self._log_ratio(z, 1.0)
      log_weight = loss - self._log_ratio(z, mu) if mu > 1 else 0.0
      return loss, log_weight

    return self._means(values, epsilons, num_samples, rng), np.exp(log_bound)

  def added(
      self,
      epsilons: np.ndarray,
      typical: float,
      num_samples: int,
      rng: np.random.Generator,
  ) -> tuple[np.ndarray, np.ndarray]:
    """Draws numbers whose mean is the divergence of Q from P.

    Args:
      epsilons: Epsilons, as all below as of `removed`.
      typical: Epsilon for which theta is chosen.
      num_samples: Number of samples.
      rng: Source of randomness.

    Returns:
      Means, and the largest value of a sample; see `removed`.
    """
    variance = self.noise**2
    total, size = self.num_selected * self.num_rounds, self.num_steps
    theta = max(0.0, variance * typical / total - 0.5)
    steps = self.num_rounds * size
    log_bound = theta * (
        steps / (2 * variance) - size * epsilons / self.num_selected
    )
    log_bound = log_bound + steps * theta**2 / (2 * variance)

    def values(z):
      z -= theta
      log_weight = np.sum(z * theta + theta**2 / 2, axis=(1, 2)) / variance
      return -self._log_ratio(z, 1.0), log_weight

    return self._means(values, epsilons, num_samples, rng), np.exp(log_bound)

  def _means(self, values, epsilons, num_samples, rng) -> np.ndarray:
    sums, left = np.zeros(len(epsilons)), num_samples
    each = max(1, _BLOCK // (self.num_rounds * self.num_steps))
    while left:
      count = min(left, each)
      shape = count, self.num_rounds, self.num_steps
      loss, log_weight = values(self.noise * rng.standard_normal(shape))
      for i, epsilon in enumerate(epsilons):
        above = np.maximum(-np.expm1(np.minimum(epsilon - loss, 0.0)), 0.0)
        with np.errstate(over="ignore", invalid="ignore"):
          drawn = np.where(above > 0, above * np.exp(log_weight), 0.0)
        sums[i] += np.sum(drawn)
      left -= count
    return sums / num_samples

  def _log_ratio(self, z: np.ndarray, mean: float) -> np.ndarray:
    """Logarithm of A(mean) of the run, shape [num_samples]."""
    logs = (mean * z - mean**2 / 2) / self.noise**2
    top = np.max(logs, axis=2, keepdims=True)
    scaled = np.exp(logs - top)
    polynomials = [np.ones(scaled.shape[:2])]
    polynomials += [np.zeros(scaled.shape[:2])] * self.num_selected
    for i in range(self.num_steps):
      for j in range(min(self.num_selected, i + 1), 0, -1):
        polynomials[j] = polynomials[j] + scaled[:, :, i] * polynomials[j - 1]
    sets = math.lgamma(self.num_steps + 1)
    sets -= math.lgamma(self.num_selected + 1)
    sets -= math.lgamma(self.num_steps - self.num_selected + 1)
    with np.errstate(divide="ignore"):
      found = np.log(polynomials[-1]) + self.num_selected * top[:, :, 0] - sets
    return np.sum(found, axis=1)
