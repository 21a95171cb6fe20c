"""What an accountant is: from a mechanism to its guarantee.

An accountant adds up what the steps of a run leak. Invariant: every number that
it gives is a valid upper bound, and `supports` is False for a run of which it
has no proven analysis.

>>> from accounting import accountants
>>> accountants.names()
('pld', 'rdp')
>>> accountants.get("rdp").title
'Renyi differential privacy (RDP)'
"""

import abc
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from accounting import _warnings

if TYPE_CHECKING:
  from accounting.composition import AnyMechanism
  from accounting.mechanism import Mechanism
  from accounting.numerics import pld

# Beyond this, a guarantee is said to be vacuous: exp(50) is no bound at all.
VACUOUS_EPSILON = 50.0


class Evaluation(NamedTuple):
  """An epsilon, and what there is to know about it.

  Attributes:
    epsilon: The epsilon.
    accountant: Name of the accountant whose bound it is.
    notes: Warnings not yet issued.
  """

  epsilon: float
  accountant: str
  notes: list[_warnings.AccountingWarning]


class Accountant(abc.ABC):
  """Adds up what the steps of a run leak.

  Arguments are checked before they come here, and the run is one that the
  accountant supports.

  Attributes:
    name: Value of the arguments `accountant` and `--accountant`.
    title: Name in a statement.
    remark: Sentence on how tight it is, for a statement.
    misses_replacement: Whether dp-accounting's accountant of this name
      overlooks that replacing an example moves a sum by two clip norms.
    accounts_for_users: Whether it has an analysis of users with several
      examples; see `accounting.user_epsilon`.
    composes: Whether a run may be an `accounting.Composition`, but for `curve`.
  """

  name: ClassVar[str]
  title: ClassVar[str]
  remark: ClassVar[str]
  misses_replacement: ClassVar[bool] = False
  accounts_for_users: ClassVar[bool] = False
  composes: ClassVar[bool] = False

  def supports(self, run: "AnyMechanism") -> bool:
    """Returns whether there is an analysis of the run, under its relation.

    Args:
      run: Mechanism of the run.
    """
    return all(self.name in part.analyses for part, _ in run.parts)

  @abc.abstractmethod
  def evaluate(
      self, run: "AnyMechanism", *, delta: float, coarsening: float = 1.0
  ) -> Evaluation:
    """Returns the least epsilon that holds at a delta.

    Args:
      run: Mechanism of the run.
      delta: Delta of the guarantee, in (0, 1).
      coarsening: Factor of the width of the grid; above 1, a quick upper bound
        will do.
    """

  @abc.abstractmethod
  def delta(self, run: "AnyMechanism", *, epsilon: float) -> float:
    """Returns the least delta, in [0, 1], that holds at an epsilon.

    Args:
      run: Mechanism of the run.
      epsilon: Epsilon of the guarantee, at least 0.
    """

  def curve(
      self, run: "Mechanism", *, steps: np.ndarray, delta: float
  ) -> np.ndarray:
    """Returns epsilon after some numbers of steps.

    Args:
      run: Mechanism of the run; its own number of steps is not used.
      steps: Integers of at least 1, shape [n], in any order.
      delta: Delta of the guarantee, in (0, 1).

    Returns:
      Epsilons, shape [n], which never fall with the number of steps.
    """
    distinct, places = np.unique(steps, return_inverse=True)
    values = [
        self.evaluate(run.with_num_steps(int(t)), delta=delta).epsilon
        for t in distinct
    ]
    return np.maximum.accumulate(values)[places]

  def losses(self, run: "AnyMechanism") -> "pld.LossDistribution | None":
    """Returns the distribution of the run's loss; None without one.

    It is what `accounting.privacy_profile` reads the whole guarantee from.

    Args:
      run: Mechanism of the run.
    """
    del run
    return None
