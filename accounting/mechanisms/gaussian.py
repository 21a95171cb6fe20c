"""Gaussian noise on numbers, and its discrete form on an integer.

Source: Balle and Wang 2018 (1805.06530); Canonne, Kamath and Steinke 2020
(2004.00010) for the discrete form.

>>> Gaussian(stddev=3.0, sensitivity=1.0).words
'Gaussian noise of standard deviation 3 on a sensitivity of 1'
"""

import dataclasses
from typing import Any

import numpy as np

from accounting import _validate, claims
from accounting.mechanisms.basic import Basic, positive
from accounting.numerics import atoms, terms

_MAX_NOISE = 1e9
# As many points of the noise are put on a grid as this has.
_MAX_STDDEV = 1e5
_MAX_SENSITIVITY = 1_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gaussian(Basic):
  """Numbers with Gaussian noise.

  Attributes:
    stddev: Standard deviation of the noise.
    sensitivity: Largest change by one unit, as a Euclidean length over all
      numbers (L2).
    neighboring_relation: Name of the relation; see `Mechanism`.
  """

  kind = "gaussian"

  stddev: float
  sensitivity: float = 1.0

  def checked(self) -> dict[str, Any]:
    """See `Basic`."""
    return {n: positive(n, getattr(self, n)) for n in ("stddev", "sensitivity")}

  @property
  def words(self) -> str:
    """See `Basic`."""
    return (
        "Gaussian noise of standard deviation "
        f"{claims.exact(self.stddev)} on a sensitivity of "
        f"{claims.exact(self.sensitivity)}"
    )

  @property
  def largest_loss(self) -> float:
    """See `Basic`; 1e5 at the least noise multiplier of a run, 1e-3."""
    return 0.1 * (self.sensitivity / self.stddev) ** 2

  def _noise(self) -> float:
    return min(self.stddev / self.sensitivity, _MAX_NOISE)

  def of_group(self, count: int) -> Basic:
    """See `Basic`; a group moves it that much further."""
    return dataclasses.replace(self, sensitivity=count * self.sensitivity)

  def term(self) -> tuple[terms.Term, int]:
    """See `Basic`."""
    return terms.SampledGaussian(self._noise(), 1.0, False), 1

  def divergences(self, orders: np.ndarray) -> np.ndarray:
    """See `Basic`."""
    return orders / (2 * self._noise() ** 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiscreteGaussian(Basic):
  """An integer with discrete Gaussian noise.

  Attributes:
    stddev: Parameter sigma: P(x) falls as exp(-x^2 / (2 sigma^2)); at most 1e5.
    sensitivity: Largest change of the integer by one unit, itself an integer.
    neighboring_relation: Name of the relation; see `Mechanism`.
  """

  kind = "discrete_gaussian"

  stddev: float
  sensitivity: int = 1

  def checked(self) -> dict[str, Any]:
    """See `Basic`."""
    most = _validate.integer("sensitivity", self.sensitivity)
    if most > _MAX_SENSITIVITY:
      _validate.fail("sensitivity", f"at most {_MAX_SENSITIVITY}", most)
    stddev = _validate.real(
        "stddev", self.stddev, low=0, high=_MAX_STDDEV, high_ok=True
    )
    return {"stddev": stddev, "sensitivity": most}

  @property
  def words(self) -> str:
    """See `Basic`."""
    return (
        f"discrete Gaussian noise of sigma {claims.exact(self.stddev)} on a "
        f"sensitivity of {self.sensitivity}"
    )

  @property
  def largest_loss(self) -> float:
    """See `Basic`."""
    return 0.5 * (self.sensitivity / self.stddev) ** 2

  def of_group(self, count: int) -> Basic:
    """See `Basic`; a group moves it that much further."""
    return dataclasses.replace(self, sensitivity=count * self.sensitivity)

  def term(self) -> tuple[terms.Term, int]:
    """See `Basic`."""
    return atoms.DiscreteGaussian(self.stddev, self.sensitivity), 1

  def divergences(self, orders: np.ndarray) -> np.ndarray:
    """See `Basic`. Source: Canonne et al., Theorem 4."""
    return orders * (self.sensitivity / self.stddev) ** 2 / 2
