"""What the arithmetic reads of a run; `accounting.Mechanism` has all of it.

Invariant: this folder imports none of the public files, which import it.
"""

from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

if TYPE_CHECKING:
  import dp_accounting
  import numpy as np

  from accounting.numerics import terms


class SamplerLike(Protocol):
  """What differs between samplers; `accounting.samplers.Sampler` has it.

  A run is of the class that holds the sampler, which no type can say here.
  """

  @property
  def least_sampling_prob(self) -> float:
    """Smaller probabilities are accounted for as this one."""

  @property
  def min_delta(self) -> float:
    """Least delta that PLD can be asked about."""

  @property
  def order_grid(self) -> tuple[int, int]:
    """Largest Renyi order tried first, and the number from 64 on."""

  def term(self, run: Any) -> "tuple[terms.Term, int]":
    """Returns one step of a phase, and how often it is composed.

    Args:
      run: Phase of the run.
    """

  def divergences(self, step: Any, orders: "np.ndarray") -> "np.ndarray":
    """Returns the Renyi divergence of one step at each order.

    Args:
      step: Phase of one step.
      orders: Renyi orders, shape [n].
    """

  def divergence_floor(self, step: Any) -> float:
    """Returns a lower bound of the divergence at order 2 of one step.

    Args:
      step: Phase of one step.
    """

  def compositions(self, run: Any, num_steps: int) -> int:
    """Returns how often one step's divergence adds up in a phase's steps.

    Args:
      run: Phase of the run.
      num_steps: Number of steps of the phase.
    """


class RunLike(Protocol):
  """What is released: one mechanism, or a composition of several."""

  @property
  def parts(self) -> "tuple[tuple[PartLike, int], ...]":
    """The phases of all, and how often each is released."""


class PartLike(Protocol):
  """A phase of a run, or a release of another kind."""

  @property
  def num_steps(self) -> int:
    """Number of updates; 0 for a release that is no run."""

  @property
  def is_hopeless(self) -> bool:
    """Whether there is so little noise that nothing is protected."""

  @property
  def min_delta(self) -> float:
    """Least delta that PLD can be asked about."""

  @property
  def order_grid(self) -> tuple[int, int]:
    """Largest Renyi order tried first, and the number from 64 on."""

  @property
  def num_compositions(self) -> int:
    """How often one step's divergence adds up."""

  @property
  def failure(self) -> float:
    """Probability that all is revealed; divergences are of the rest."""

  @property
  def is_exact(self) -> bool:
    """Whether its loss distribution is its own, and not a bound."""

  def one_step(self) -> Self:
    """Returns the part with one step."""

  def term(self) -> "tuple[terms.Term, int]":
    """Returns one step's loss, and how often it is composed."""

  def divergences(self, orders: "np.ndarray") -> "np.ndarray":
    """Returns the Renyi divergence of one step at each order, or NaN.

    Args:
      orders: Renyi orders, ascending, shape [n].
    """

  @property
  def divergence_floor(self) -> float:
    """A lower bound of the divergence at order 2 of one step."""


class MechanismLike(RunLike, PartLike, Protocol):
  """A frozen dataclass, of which `dataclasses.replace` makes changed copies."""

  __dataclass_fields__: ClassVar[dict[str, Any]]

  @property
  def noise_multiplier(self) -> float:
    """Standard deviation of the noise over the clip norm."""

  @property
  def num_steps(self) -> int:
    """Number of updates."""

  @property
  def sampling_prob(self) -> float:
    """Probability that an example takes part in a step."""

  @property
  def num_examples(self) -> int | None:
    """Stated number of examples."""

  @property
  def sampler(self) -> SamplerLike:
    """How batches are drawn."""

  @property
  def max_batch_size(self) -> int | None:
    """Where Poisson batches are truncated."""

  @property
  def neighboring_relation(self) -> str:
    """Which data sets are neighbours."""

  @property
  def phases(self) -> tuple[Self, ...]:
    """The run as runs of one sampling probability each."""

  @property
  def max_participations(self) -> int:
    """Most steps of one example when no chance is counted on."""

  def with_num_steps(self, num_steps: int) -> Self:
    """Returns the run with `num_steps` steps.

    Args:
      num_steps: Number of updates.
    """

  def event(self, *, accountant: str) -> "dp_accounting.DpEvent":
    """Returns the run as dp-accounting's accountant of that name reads it.

    Args:
      accountant: Name of the accountant.
    """
