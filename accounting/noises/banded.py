"""The noise "banded": a Toeplitz strategy of few bands and norm 1 (BandMF).

The strategy C has `strategy_coef` on and below its diagonal. Two columns as far
apart as there are bands share no row, so they are orthogonal; and no column has
a norm above 1, the norm of the coefficients. So what an example does in
steps that far apart is as of independent noise.

It fits "cyclic_poisson" with at least as many groups as bands, and one epoch of
"deterministic", in which an example has one step. It does not fit others: an
example can be in two steps that are near, also where epochs are shuffled, as
the last of one and the first of the next.

Invariant: as of every noise. Sources: Choquette-Choo et al. 2023 (2306.08153),
theorems 2 and 4; Kalinin and Lampert 2024 (2405.13763).

>>> from accounting.mechanism import Mechanism
>>> run = Mechanism(noise_multiplier=1.0, sampling_prob=0.1, num_steps=20,
...                 noise="banded", noise_options={"strategy_coef": [0.8, 0.6]},
...                 sampling="cyclic_poisson",
...                 sampling_options={"cycle_length": 4})
>>> run.noise_options
(('strategy_coef', (0.8, 0.6)),)
"""

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from accounting import _validate
from accounting.noises.noise import Noise

if TYPE_CHECKING:
  from accounting.mechanism import Mechanism

# A norm this far from 1 is off by less than any claim is rounded up by.
_TOLERANCE = 1e-12
# Square roots of 2 to 200 bands have sums of 2.2 to 3.4.
_MAX_SUM = 100.0
_NUM_INVERSE = 1024


class Banded(Noise):
  """See `Noise`."""

  name = "banded"
  options = ("strategy_coef",)
  sentence = (
      "the noise of the steps is C^-1 Z, with independent Z of the stated "
      "noise multiplier and C the lower-triangular Toeplitz matrix of the "
      "stated coefficients, whose norm is 1"
  )

  def checked(self, name: str, value: Any) -> tuple[float, ...]:
    """See `Noise`."""
    if isinstance(value, str) or not isinstance(value, Sequence):
      _validate.fail(name, "a list of numbers", value)
    coef = tuple(_validate.real(name, each) for each in value)
    if not coef or coef[0] <= 0:
      _validate.fail(name, "numbers, the first of them positive", value)
    squared = math.fsum(c * c for c in coef)
    if not abs(squared - 1) <= _TOLERANCE:
      rule = "of norm 1 (divide by the root of the sum of squares)"
      _validate.fail(name, rule, math.sqrt(squared))
    total = _sum_of_inverse(coef)
    if not total <= _MAX_SUM:
      # Noise that large would leave few digits of Z, in float32.
      rule = (
          "those of a C whose inverse has coefficients with absolute values of"
          f" at most {_MAX_SUM:g} in all"
      )
      _validate.fail(name, rule, total)
    return coef

  def overlap(self, run: "Mechanism") -> float:
    """See `Noise`: no eigenvalue of C^T C is above a row's absolute sum."""
    if run.max_participations == 1:
      return 1.0
    coef = _coef(run)
    products = (
        math.fsum(a * b for a, b in zip(coef, coef[lag:], strict=False))
        for lag in range(1, len(coef))
    )
    return 1.0 + 2 * math.fsum(map(abs, products))

  def bands(self, run: "Mechanism") -> int:
    """See `Noise`."""
    return len(_coef(run))


@functools.lru_cache(maxsize=256)
def _sum_of_inverse(coef: tuple[float, ...]) -> float:
  """Absolute values of the first coefficients of C^-1, added up."""
  inverse = np.zeros(_NUM_INVERSE)
  inverse[0] = 1 / coef[0]
  others = np.array(coef[:0:-1]) / coef[0]
  for t in range(1, _NUM_INVERSE):
    seen = min(t, len(others))
    last = inverse[t - seen : t] @ others[len(others) - seen :]
    if not abs(last) <= _MAX_SUM:
      return math.inf
    inverse[t] = -last
  return float(np.abs(inverse).sum())


def _coef(run: "Mechanism") -> tuple[float, ...]:
  return dict(run.noise_options)["strategy_coef"]
