"""Laplace noise on numbers, and its discrete form on integers.

Source: Dwork, McSherry, Nissim and Smith 2006; Ghosh, Roughgarden and
Sundararajan 2009 (0811.2841) for the discrete form; Mironov 2017 (1702.07476),
Proposition 6, for Renyi divergences.

>>> Laplace(scale=2.0, sensitivity=1.0).words
'Laplace noise of scale 2 on a sensitivity of 1'
"""

import dataclasses
from typing import Any

from accounting import _validate, claims
from accounting.mechanisms.basic import Basic, at_least, positive
from accounting.numerics import atoms, terms

_MAX_SENSITIVITY = 1_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Laplace(Basic):
  """Numbers with Laplace noise, such as a histogram.

  Attributes:
    scale: Scale of the noise: P(x) falls as exp(-|x| / scale).
    sensitivity: Largest change by one unit, as a sum of absolute values over
      all numbers (L1). In a histogram it is 1 if a unit is in one bin and is
      added or removed, and 2 if it is replaced.
    neighboring_relation: Name of the relation; see `Mechanism`.
  """

  kind = "laplace"

  scale: float
  sensitivity: float = 1.0

  def checked(self) -> dict[str, Any]:
    """See `Basic`."""
    return {n: positive(n, getattr(self, n)) for n in ("scale", "sensitivity")}

  @property
  def words(self) -> str:
    """See `Basic`."""
    return (
        f"Laplace noise of scale {claims.exact(self.scale)} on a sensitivity "
        f"of {claims.exact(self.sensitivity)}"
    )

  @property
  def largest_loss(self) -> float:
    """See `Basic`."""
    return self.sensitivity / self.scale

  def of_group(self, count: int) -> Basic:
    """See `Basic`; a group moves it that much further."""
    return dataclasses.replace(self, sensitivity=count * self.sensitivity)

  def term(self) -> tuple[terms.Term, int]:
    """See `Basic`."""
    return atoms.Laplace(at_least(self.largest_loss)), 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiscreteLaplace(Basic):
  """An integer with two-sided geometric noise.

  Attributes:
    scale: Scale of the noise: P(x) falls as exp(-|x| / scale).
    sensitivity: Largest change of the integer by one unit, itself an integer.
    neighboring_relation: Name of the relation; see `Mechanism`.
  """

  kind = "discrete_laplace"

  scale: float
  sensitivity: int = 1

  def checked(self) -> dict[str, Any]:
    """See `Basic`."""
    most = _validate.integer("sensitivity", self.sensitivity)
    if most > _MAX_SENSITIVITY:
      _validate.fail("sensitivity", f"at most {_MAX_SENSITIVITY}", most)
    return {"scale": positive("scale", self.scale), "sensitivity": most}

  @property
  def words(self) -> str:
    """See `Basic`."""
    return (
        f"discrete Laplace noise of scale {claims.exact(self.scale)} on a "
        f"sensitivity of {self.sensitivity}"
    )

  @property
  def largest_loss(self) -> float:
    """See `Basic`."""
    return self.sensitivity / self.scale

  def of_group(self, count: int) -> Basic:
    """See `Basic`; a group moves it that much further."""
    return dataclasses.replace(self, sensitivity=count * self.sensitivity)

  def term(self) -> tuple[terms.Term, int]:
    """See `Basic`."""
    rate = at_least(1 / self.scale)
    return atoms.DiscreteLaplace(rate, self.sensitivity), 1
