"""What a release is that is no training run: a count, a histogram, an answer.

Invariant: every field is checked when it is made; a sensitivity is the most
that one unit of privacy changes the answer under the release's own
neighbouring relation, which the arithmetic never changes.

>>> from accounting import Laplace, epsilon
>>> histogram = Laplace(scale=2.0, sensitivity=1.0)
>>> round(epsilon(10 * histogram, delta=1e-5), 3)
4.99
"""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from accounting import _relations, _validate
from accounting._composable import Composable
from accounting.numerics import atoms, pld, terms


@dataclasses.dataclass(frozen=True, kw_only=True)
class Basic(Composable, abc.ABC):
  """A release of one kind; each subclass is a line of the registry.

  Attributes:
    kind: Name that `Composition.to_dict` writes.
    analyses: Names of the accountants with an analysis.
    min_delta: Least delta that PLD can be asked about.
    order_grid: Largest Renyi order tried first, and the number from 64 on.
    divergence_floor: Lower bound of the divergence at order 2.
    num_compositions: Number of times that its divergence adds up.
    failure: Probability that all is revealed; its divergence leaves
      this out.
    is_exact: Whether its loss distribution is its own, and no bound: composing
      a bound of one release many times may be worse than by RDP.
    num_steps: Number of updates: none.
    expected_epochs: Number of updates that an example takes part in: none.
    num_examples: Stated number of examples: None.
    neighboring_relation: Name of the relation; see `Mechanism`.
  """

  kind: ClassVar[str]
  analyses: ClassVar[tuple[str, ...]] = ("pld", "rdp")
  # Without an annotation they are no fields, and may be overridden.
  min_delta = pld.MIN_DELTA
  order_grid = (2**14, 70)
  divergence_floor = 0.0
  num_compositions = 1
  is_exact = True
  # What a run has, and a single release has not.
  num_steps = 0
  expected_epochs: ClassVar[float] = 0.0
  num_examples: ClassVar[None] = None

  neighboring_relation: str = "add_or_remove_one"

  def __post_init__(self):
    relation = _relations.checked(self.neighboring_relation)
    object.__setattr__(self, "neighboring_relation", relation)
    for name, value in self.checked().items():
      object.__setattr__(self, name, value)  # The first write of two.

  @abc.abstractmethod
  def checked(self) -> dict[str, Any]:
    """Returns the fields of its own, checked.

    Raises:
      ValueError: If one breaks its rule.
    """

  @property
  @abc.abstractmethod
  def words(self) -> str:
    """What it is, for a statement: "Laplace noise of scale 2"."""

  @property
  @abc.abstractmethod
  def largest_loss(self) -> float:
    """About the largest loss; beyond 1e5 nothing counts as protected."""

  def term(self) -> tuple[terms.Term, int]:
    """Returns the loss, and how often it is composed.

    Raises:
      NotImplementedError: If "pld" is none of `analyses`.
    """
    raise NotImplementedError(f"{self.kind} has no loss distribution.")

  def divergences(self, orders: np.ndarray) -> np.ndarray:
    """Returns the Renyi divergence at each order.

    Args:
      orders: Renyi orders, ascending, shape [n].

    Raises:
      NotImplementedError: If "rdp" is none of `analyses`.
    """
    term, _ = self.term()
    if not isinstance(term, atoms.Atoms):
      raise NotImplementedError(f"{self.kind} has no Renyi divergences.")
    return np.array([term.divergence(order) for order in orders])

  @property
  def failure(self) -> float:
    """Probability that all is revealed."""
    return 0.0

  @property
  def is_hopeless(self) -> bool:
    """Whether there is so little noise that nothing is protected."""
    return self.largest_loss > atoms.MAX_EPSILON

  @property
  def parts(self) -> tuple[tuple[Self, int], ...]:
    """The release, once; see `Composition.parts`."""
    return ((self, 1),)

  @property
  def described(self) -> str:
    """The kind and the relation, for a message."""
    return f"{self.kind!r} under {self.neighboring_relation!r}"

  @property
  def alternatives(self) -> tuple[Self, ...]:
    """The release itself; see `Composition.alternatives`."""
    return (self,)

  def with_neighboring_relation(self, relation: str) -> Self:
    """Returns the release under another relation, or refuses to.

    Args:
      relation: Name of the relation.

    Raises:
      ValueError: If it is another: a sensitivity is stated for one.
    """
    if relation != self.neighboring_relation:
      rule = f"{self.neighboring_relation!r}, as of {self.kind}"
      _validate.fail("relation", rule, relation)
    return self

  def of_group(self, count: int) -> "Basic":
    """Returns the release as it protects all of several units at once.

    Args:
      count: Number of units that one person has, above 1.

    Raises:
      ValueError: If no analysis is known.
    """
    rule = f"1 for {self.kind}, of which no analysis of more is known"
    _validate.fail("examples_per_user", rule, count)

  def one_step(self) -> Self:
    """Returns the release itself."""
    return self

  def unsampled(self) -> Self:
    """Returns the release itself, which counts on no sampling."""
    return self

  def to_dict(self) -> dict[str, Any]:
    """Returns the fields as plain values, as JSON gives them back."""
    return dataclasses.asdict(self)

  @classmethod
  def from_dict(cls, fields: Mapping[str, Any]) -> Self:
    """Makes a release from the result of `to_dict`, trusting nothing.

    Args:
      fields: A mapping of field names to values, such as parsed JSON.

    Returns:
      The release. `from_dict(m.to_dict()) == m`.

    Raises:
      ValueError: If `fields` is none, or a field is missing, unknown or breaks
        its rule.
    """
    known = {f.name: f for f in dataclasses.fields(cls)}
    rule = "a mapping of " + ", ".join(known)
    if not isinstance(fields, Mapping):
      _validate.fail(cls.kind, rule, type(fields).__name__)
    for name, field in known.items():
      if field.default is dataclasses.MISSING and name not in fields:
        _validate.fail(name, f"given for {cls.kind}", None)
    if unknown := [key for key in fields if key not in known]:
      _validate.fail(cls.kind, rule, unknown[0])
    return cls(**fields)


def positive(name: str, value: Any) -> float:
  """Returns `value` as a float, if it is finite and above 0.

  Args:
    name: Name of the argument, for the message.
    value: Number from a caller.

  Raises:
    ValueError: If it is none.
  """
  return _validate.real(name, value, low=0)


def at_least(value: float) -> float:
  """Returns a loss that arithmetic can hold, no smaller than this one.

  Args:
    value: Loss.
  """
  return max(value, atoms.MIN_EPSILON)
