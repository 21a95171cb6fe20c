"""Guarantees that others state, of releases that are not known any closer.

Source: Kairouz, Oh and Viswanath 2015 (1311.0776), Theorem 3.3, for what
(epsilon, delta) guarantees compose to at worst; Bun and Steinke 2016
(1605.02065) for zero-concentrated privacy.

>>> ApproximateDp(epsilon=1.0, delta=1e-6).words
'a stated (1, 1e-06) guarantee'
"""

import dataclasses
import math
from typing import Any

import numpy as np

from accounting import _validate, claims
from accounting.mechanisms.basic import Basic, at_least, positive
from accounting.numerics import atoms, curves, terms

_ALMOST_ONE = math.nextafter(1.0, 0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ApproximateDp(Basic):
  """Any release with an (epsilon, delta) guarantee: the worst of them.

  Attributes:
    epsilon: Epsilon of the guarantee.
    delta: Delta of the guarantee, 0 if it has none.
    neighboring_relation: Name of the relation; see `Mechanism`.
  """

  kind = "approximate_dp"

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

  @property
  def failure(self) -> float:
    """See `Basic`: at worst all is revealed with probability delta."""
    return self.delta

  def of_group(self, count: int) -> Basic:
    """See `Basic`.

    Source: Vadhan 2017, "The complexity of differential privacy", Lemma 2.2:
      (k epsilon, delta (e^(k epsilon) - 1) / (e^epsilon - 1)).
    """
    if count == 1:
      return self
    epsilon, grown = self.epsilon * count, float("inf")
    if epsilon < 700:
      grown = self.delta * math.expm1(epsilon) / math.expm1(self.epsilon)
    # A delta of 1 protects nothing; up by what the division may have rounded.
    return ApproximateDp(
        epsilon=epsilon,
        delta=min(grown * (1 + 1e-12), _ALMOST_ONE) if self.delta else 0.0,
        neighboring_relation=self.neighboring_relation,
    )

  def term(self) -> tuple[terms.Term, int]:
    """See `Basic`."""
    return atoms.Response(at_least(self.epsilon), self.delta), 1

  def divergences(self, orders: np.ndarray) -> np.ndarray:
    """See `Basic`; of what is not a failure."""
    term = atoms.Response(at_least(self.epsilon))
    return np.array([term.divergence(order) for order in orders])


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZeroConcentratedDp(Basic):
  """Any release with rho-zero-concentrated privacy (zCDP).

  Attributes:
    rho: Bound of the Renyi divergence at every order, over the order.
    neighboring_relation: Name of the relation; see `Mechanism`.
  """

  kind = "zcdp"
  is_exact = False

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

  def of_group(self, count: int) -> Basic:
    """See `Basic`. Source: Bun and Steinke 2016, Proposition 27."""
    return dataclasses.replace(self, rho=count**2 * self.rho)

  def term(self) -> tuple[terms.Term, int]:
    """See `Basic`."""
    return curves.ZeroConcentrated(at_least(self.rho)), 1

  def divergences(self, orders: np.ndarray) -> np.ndarray:
    """See `Basic`."""
    return self.rho * orders
