"""Guarantees that others state, of releases that are not known any closer.

Source: Kairouz, Oh and Viswanath 2015 (1311.0776), Theorem 3.3, for what
(epsilon, delta) guarantees compose to at worst; Bun and Steinke 2016
(1605.02065) for zero-concentrated privacy.

>>> ApproximateDp(epsilon=1.0, delta=1e-6).words
'a stated (1, 1e-06) guarantee'
"""

import dataclasses
from typing import Any

import numpy as np

from accounting import _validate, claims
from accounting.mechanisms.basic import Basic, at_least, positive
from accounting.numerics import atoms, terms


@dataclasses.dataclass(frozen=True, kw_only=True)
class ApproximateDp(Basic):
  """Any release with an (epsilon, delta) guarantee: the worst of them.

  Attributes:
    epsilon: Epsilon of the guarantee.
    delta: Delta of the guarantee, 0 if it has none.
    neighboring_relation: Name of the relation; see `Mechanism`.
  """

  kind = "approximate_dp"
  analyses = ("pld",)

  epsilon: float
  delta: float = 0.0

  def checked(self) -> dict[str, Any]:
    """See `Basic`."""
    return {
        "epsilon": positive("epsilon", self.epsilon),
        "delta": _validate.real(
            "delta", self.delta, low=0, high=1, low_ok=True
        ),
    }

  @property
  def words(self) -> str:
    """See `Basic`."""
    return (
        f"a stated ({claims.exact(self.epsilon)}, {claims.exact(self.delta)}) "
        "guarantee"
    )

  @property
  def largest_loss(self) -> float:
    """See `Basic`."""
    return self.epsilon

  def term(self) -> tuple[terms.Term, int]:
    """See `Basic`."""
    return atoms.Response(at_least(self.epsilon), self.delta), 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZeroConcentratedDp(Basic):
  """Any release with rho-zero-concentrated privacy (zCDP).

  Attributes:
    rho: Bound of the Renyi divergence at every order, over the order.
    neighboring_relation: Name of the relation; see `Mechanism`.
  """

  kind = "zcdp"
  analyses = ("rdp",)

  rho: float

  def checked(self) -> dict[str, Any]:
    """See `Basic`."""
    return {"rho": positive("rho", self.rho)}

  @property
  def words(self) -> str:
    """See `Basic`."""
    return f"a stated {claims.exact(self.rho)}-zCDP guarantee"

  @property
  def largest_loss(self) -> float:
    """See `Basic`."""
    return self.rho

  def divergences(self, orders: np.ndarray) -> np.ndarray:
    """See `Basic`."""
    return self.rho * orders
