"""One step of a fresh subset of fixed size, where an example is replaced.

Lemma. With q the size over the number of examples, and g, g' what the example
and its replacement contribute, the step is P = (1 - q) M0 + q M1 against Q = (1
- q) M0 + q M1'. Proof: without the example the batch is T and one other
example y, with it T and the example, T the same in both. Given T and y, M0 =
N(s + g_y, sigma^2 I), M1 = N(s + g, sigma^2 I) and M1' = N(s + g', sigma^2 I),
whose means are at most 2 apart. For epsilon >= 0 advanced joint convexity then
gives

  H(P || Q) <= q H_e(N(2, sigma^2) || N(0, sigma^2)),  at
  exp(epsilon) = 1 + q (exp(e) - 1),

which is the divergence of (1 - q) N(0) + q N(2) from N(0): one Poisson step of
half the noise. Both directions have this bound, so that below 0 the curve is
its mirror image. Blanking is a replacement by a contribution of 0.

Source: Balle, Barthe and Gaboardi 2018 (1807.01647), Theorem 2; Zhu,
Dong and Wang 2022 (2106.08567), Proposition 9, for a pair from a curve.

Invariant: what is on the grid is at least as easy to tell apart as the step.

>>> [step] = SubstitutedGaussian(2.0, 0.1).steps(1e-3, tail=1e-20)
>>> print(f"{float(np.sum(step.probs)):.3f}")
1.000
"""

import dataclasses
import math

import numpy as np

from accounting.numerics import discretise

_DEFAULT, _BINS = 1e-4, 50_000


@dataclasses.dataclass(frozen=True)
class SubstitutedGaussian:
  """A sum over a fresh subset of which one example may be replaced.

  Attributes:
    noise: Noise multiplier.
    sampling_prob: Size of the subset over the number of examples, below 1.
  """

  noise: float
  sampling_prob: float
  max_bins = 2**22

  def steps(
      self, interval: float, *, tail: float
  ) -> tuple[discretise.Step, ...]:
    """Returns the loss; it is the same in both directions.

    Args:
      interval: Width of a bin.
      tail: Probability left out at either end.
    """
    one = discretise.on_grid(self._pair, interval=interval, tail=tail)
    above = one.probs[max(0, 1 - one.first) :]  # At losses above 0.
    losses = interval * np.arange(1, len(above) + 1)
    below = above * np.exp(-losses)
    middle = 1.0 - one.infinite - math.fsum(above) - math.fsum(below)
    probs = np.concatenate([below[::-1], [max(0.0, middle)], above])
    found = discretise.Step(-len(above), probs, one.infinite, one.infinite)
    return (found,)

  def span(self, tail: float) -> tuple[float, float]:
    """Returns the least and largest loss on the grid.

    Args:
      tail: Probability left out at either end.
    """
    _, most = self._pair.span(tail)
    return -most, most

  def interval(self, tail: float) -> float:
    """Returns the width of a bin to begin with; see `SampledGaussian`.

    Args:
      tail: Probability left out at either end.
    """
    exponent = min(4 * self.noise**-2, 500.0)
    deviation = self.sampling_prob * math.sqrt(math.expm1(exponent))
    _, most = self.span(tail)
    return max(min(_DEFAULT, deviation / 16), min(most / _BINS, deviation / 14))

  @property
  def _pair(self) -> discretise.Pair:
    return discretise.sampled_gaussian(
        noise=self.noise / 2, sampling_prob=self.sampling_prob
    )
