"""Answers chosen at random: randomised response, the exponential mechanism.

Source: Warner 1965; McSherry and Talwar 2007; Cesar and Rogers 2021
(2004.07223) for the Renyi divergences of the exponential mechanism.

>>> RandomizedResponse(epsilon=1.0, num_answers=4).words
'randomised response with epsilon 1 among 4 answers'
"""

import dataclasses
from typing import Any

import numpy as np

from accounting import _validate, claims
from accounting.mechanisms.basic import Basic, at_least, positive
from accounting.numerics import atoms, terms


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomizedResponse(Basic):
  """Each unit's answer, true with a probability that epsilon sets.

  The true one of k answers is given with probability exp(epsilon) /
  (exp(epsilon) + k - 1), and each other with an equal share of the rest.

  Attributes:
    epsilon: Logarithm of the ratio of a true and a false answer's probability.
    num_answers: Number of answers, at least 2.
    neighboring_relation: Name of the relation: "replace_one", since the number
      of answers tells how many units there are.
  """

  kind = "randomized_response"

  epsilon: float
  num_answers: int = 2
  neighboring_relation: str = "replace_one"

  def checked(self) -> dict[str, Any]:
    """See `Basic`."""
    _validate.choice(
        f"neighboring_relation of {self.kind}",
        self.neighboring_relation,
        options=("replace_one",),
    )
    return {
        "epsilon": positive("epsilon", self.epsilon),
        "num_answers": _validate.integer(
            "num_answers", self.num_answers, low=2
        ),
    }

  @property
  def words(self) -> str:
    """See `Basic`."""
    return (
        f"randomised response with epsilon {claims.exact(self.epsilon)} among "
        f"{self.num_answers} answers"
    )

  @property
  def largest_loss(self) -> float:
    """See `Basic`."""
    return self.epsilon

  def of_group(self, count: int) -> Basic:
    """See `Basic`; each unit's answer is drawn by itself.

    A person's answers are together an answer with `count` times the epsilon.
    """
    return Exponential(
        epsilon=count * self.epsilon,
        neighboring_relation=self.neighboring_relation,
    )

  def term(self) -> tuple[terms.Term, int]:
    """See `Basic`."""
    epsilon = at_least(self.epsilon)
    return atoms.Response(epsilon, num_answers=self.num_answers), 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exponential(Basic):
  """The exponential mechanism: one answer, the likelier the better it scores.

  Attributes:
    epsilon: Epsilon of its guarantee: an answer's probability is proportional
      to exp(epsilon x score / (2 x the score's sensitivity)).
    neighboring_relation: Name of the relation; see `Mechanism`.
  """

  kind = "exponential"

  epsilon: float

  def checked(self) -> dict[str, Any]:
    """See `Basic`."""
    return {"epsilon": positive("epsilon", self.epsilon)}

  @property
  def words(self) -> str:
    """See `Basic`."""
    epsilon = claims.exact(self.epsilon)
    return f"the exponential mechanism with epsilon {epsilon}"

  @property
  def largest_loss(self) -> float:
    """See `Basic`."""
    return self.epsilon

  def of_group(self, count: int) -> Basic:
    """See `Basic`; as any epsilon-private release."""
    return dataclasses.replace(self, epsilon=count * self.epsilon)

  def term(self) -> tuple[terms.Term, int]:
    """See `Basic`; as any mechanism with this epsilon."""
    return atoms.Response(at_least(self.epsilon)), 1

  def divergences(self, orders: np.ndarray) -> np.ndarray:
    """See `Basic`; its range of losses is bounded, which gives the second."""
    return np.minimum(super().divergences(orders), orders * self.epsilon**2 / 8)
