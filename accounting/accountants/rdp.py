"""The accountant "rdp": Renyi divergences, older and looser than "pld".

Invariant: as of every accountant; its numbers come from `numerics.rdp`.

>>> from accounting.mechanism import Mechanism
>>> run = Mechanism(noise_multiplier=4.0, sampling_prob=0.01, num_steps=10_000)
>>> round(RenyiDivergences().evaluate(run, delta=1e-5).epsilon, 3)
1.035
"""

import math
from typing import TYPE_CHECKING

import numpy as np

from accounting import _warnings
from accounting.accountants.accountant import Accountant, Evaluation
from accounting.numerics import rdp

if TYPE_CHECKING:
  from accounting.composition import AnyMechanism
  from accounting.mechanism import Mechanism


class RenyiDivergences(Accountant):
  """See `Accountant`."""

  name = "rdp"
  title = "Renyi differential privacy (RDP)"
  remark = "It is an upper bound that PLD usually improves by about 10%."
  misses_replacement = True
  composes = True

  def evaluate(
      self, run: "AnyMechanism", *, delta: float, coarsening: float = 1.0
  ) -> Evaluation:
    """See `Accountant`."""
    del coarsening  # There is no grid of losses.
    values, orders = rdp.epsilons(run, delta=delta)
    notes: list[_warnings.AccountingWarning] = []
    if 0 < values[0] < math.inf and rdp.at_grid_edge(run, orders[0]):
      notes.append(
          _warnings.OrderGridWarning(
              f"The best Renyi order, {orders[0]:g}, is an end of the grid of "
              "orders: a wider grid might show a smaller epsilon."
          )
      )
    return Evaluation(float(values[0]), self.name, notes)

  def delta(self, run: "AnyMechanism", *, epsilon: float) -> float:
    """See `Accountant`."""
    return rdp.delta(run, epsilon=epsilon)

  def curve(
      self, run: "Mechanism", *, steps: np.ndarray, delta: float
  ) -> np.ndarray:
    """See `Accountant`."""
    return rdp.epsilons(run, steps=steps.tolist(), delta=delta)[0]
