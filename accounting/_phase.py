"""What the arithmetic asks of one phase of a run, answered by its sampler.

Invariant: a phase outside the limits of arithmetic is answered for as one that
is less private; see `numerics/limits.py`.

>>> from accounting.mechanism import Mechanism
>>> run = Mechanism(noise_multiplier=1.0, sampling_prob=0.1, num_steps=5)
>>> run.num_compositions, run.is_hopeless
(5, False)
"""

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from accounting import noises
from accounting.numerics import limits, terms

if TYPE_CHECKING:
  from accounting.numerics.mechanism_like import MechanismLike


class SampledPhase:
  """A mechanism of one sampling probability, as `numerics` reads it."""

  failure = 0.0
  is_exact = True

  def epsilon(self: Any, *, delta: float, accountant: str = "pld") -> float:
    """Returns `accounting.epsilon` of this run.

    Args:
      delta: Delta of the guarantee, in [0, 1).
      accountant: Name of the accountant: "pld" or "rdp".

    Raises:
      ValueError: If an argument breaks its rule.
    """
    from accounting import epsilons  # It imports the mechanisms.

    return epsilons.epsilon(self, delta=delta, accountant=accountant)

  @property
  def is_hopeless(self: "MechanismLike") -> bool:
    """Whether there is so little noise that nothing is protected."""
    return self.noise_multiplier < limits.MIN_NOISE

  @property
  def min_delta(self: "MechanismLike") -> float:
    """Least delta that PLD can be asked about."""
    return self.sampler.min_delta

  @property
  def order_grid(self: "MechanismLike") -> tuple[int, int]:
    """Largest Renyi order tried first, and the number from 64 on."""
    return self.sampler.order_grid

  @property
  def analyses(self: "Any") -> tuple[str, ...]:
    """Names of the accountants with an analysis."""
    return self.sampler.analyses(self)

  @property
  def num_compositions(self: "MechanismLike") -> int:
    """How often one step's divergence adds up."""
    return self.sampler.compositions(self, self.num_steps)

  @property
  def described(self: Any) -> str:
    """The sampler and the relation, for a message."""
    return f"sampling {self.sampling!r} under {self.neighboring_relation!r}"

  @property
  def draws_span_steps(self: Any) -> bool:
    """Whether a draw is for several steps: one that differs later breaks it."""
    return self.sampler.spans_steps or self.noise != "independent"

  @property
  def max_participations(self: Any) -> int:
    """Most steps that one example can be in when no chance is counted on.

    ceil(num_steps / floor(1 / sampling_prob)), summed over the phases: with a
    batch size that does not divide the data set this covers an epoch that drops
    its last, short batch, one that keeps it, and one that runs on into the
    next.
    """
    return sum(-(-p.num_steps // p.steps_per_epoch) for p in self.phases)

  @property
  def steps_per_epoch(self: Any) -> int:
    """Number of whole batches in the data, floor(1 / sampling_prob)."""
    # 1 / (1 / k) may fall an ulp short of k; 1 / 5e-324 is infinite.
    inverse = min(1 / self.sampling_prob, 2.0**53)
    return math.floor(inverse * (1 + 1e-12))

  def with_neighboring_relation(self: Any, relation: str) -> Any:
    """Returns the same run under another relation.

    Args:
      relation: Name of the relation.

    Raises:
      ValueError: If it is none.
    """
    return dataclasses.replace(self, neighboring_relation=relation)

  def unsampled(self: Any) -> Any:
    """Returns the run as releases of all examples: no chance is counted on.

    There are as many as an example may take part in: `max_participations`.
    Where noise is correlated, its steps may be near each other.
    """
    overlap = noises.get(self.noise).overlap(self)
    return dataclasses.replace(
        self,
        noise_multiplier=self.noise_multiplier / math.sqrt(overlap),
        num_steps=self.max_participations,
        sampling_prob=1.0,
        sampling="poisson",
        max_batch_size=None,
        batch_size_schedule=(),
        sampling_options=(),
        noise="independent",
        noise_options=(),
    )

  @property
  def alternatives(self) -> tuple[Any, ...]:
    """The run itself; see `Composition.alternatives`."""
    return (self,)

  def one_step(self: Any) -> Any:
    """Returns the phase with one step."""
    return dataclasses.replace(self, num_steps=1)

  def term(self: "MechanismLike") -> tuple[terms.Term, int]:
    """Returns one step's loss, and how often it is composed."""
    tamed = limits.tame(self)
    return tamed.sampler.term(tamed)

  def divergences(self: "MechanismLike", orders: np.ndarray) -> np.ndarray:
    """Returns the Renyi divergence of one step at each order, or NaN.

    Args:
      orders: Renyi orders, ascending, shape [n].
    """
    tamed = limits.tame(self)
    return tamed.sampler.divergences(tamed, orders)

  @property
  def divergence_floor(self: "MechanismLike") -> float:
    """A lower bound of the divergence at order 2 of one step."""
    tamed = limits.tame(self)
    return tamed.sampler.divergence_floor(tamed)
