"""What a noise is: how the Gaussian noise of a run's steps is correlated.

The noise multiplier is of independent noise Z. Step t gets row t of C^-1 Z,
with a lower-triangular strategy C. What is released is as private as C G + Z,
with the steps' clipped sums as rows of G, also if these depend on what was
released before.

Invariant: `check` lets a run pass only if independent noise of the same
multiplier has the same accounting: what one example does to C G is, in each of
its own steps, orthogonal to what it does in the others, and of norm 1 at most.
An epsilon of each step's noise by itself would be too small: a step's noise has
a larger variance than Z.

>>> from accounting.noises import registry
>>> registry.get("independent").options
()
"""

import abc
from typing import TYPE_CHECKING, Any, ClassVar

from accounting import _validate

if TYPE_CHECKING:
  from accounting.mechanism import Mechanism


class Noise(abc.ABC):
  """How the noise of a run's steps is correlated.

  Attributes:
    name: Value of `Mechanism.noise`.
    options: Names of `Mechanism.noise_options`; all must be given.
    sentence: Text of a statement's assumption on noise: "It assumes that ...".
      In braces: any of a statement's facts or of the options.
  """

  name: ClassVar[str]
  options: ClassVar[tuple[str, ...]] = ()
  sentence: ClassVar[str]

  def checked_options(self, given: Any) -> tuple[tuple[str, Any], ...]:
    """Returns `Mechanism.noise_options` as sorted pairs, each checked.

    Args:
      given: A mapping, or pairs, of names and values.

    Raises:
      ValueError: If it is none, one is missing, unknown, or breaks its rule.
    """
    try:
      values = dict(given)
    except (TypeError, ValueError):
      _validate.fail("noise_options", "a mapping of names", given)
    if set(values) != set(self.options):
      known = ", ".join(self.options) or "no names"
      rule = f"a mapping of {known} for noise {self.name!r}"
      _validate.fail("noise_options", rule, given)
    return tuple(
        sorted((name, self.checked(name, values[name])) for name in values)
    )

  def checked(self, name: str, value: Any) -> Any:
    """Returns one option as it is kept, hashable.

    Args:
      name: Name of the option.
      value: Value as it was given.

    Raises:
      ValueError: If it breaks its rule.
    """
    raise NotImplementedError(f"{self.name} has no option {name} of {value}.")

  def overlap(self, run: "Mechanism") -> float:
    """Returns by how much sensitivity grows if steps may be near, squared.

    In any k steps at all, an example moves C G by no more than the root of
    k times this number.

    Args:
      run: Mechanism of the run.
    """
    del run
    return 1.0

  @abc.abstractmethod
  def bands(self, run: "Mechanism") -> int:
    """Returns the number of steps from which on columns of C share no row.

    Args:
      run: Mechanism of the run.
    """

  def check(self, run: "Mechanism") -> None:
    """Refuses a run that independent noise would not be accounted for as.

    Args:
      run: Mechanism of the run, its other fields checked.

    Raises:
      ValueError: If an example's steps may be too near each other.
    """
    bands, apart = self.bands(run), run.sampler.steps_apart(run)
    if bands <= apart:
      return
    rule = (
        f"at most {apart} numbers for sampling {run.sampling!r}, in which an"
        f" example's steps are {apart} apart at least (cyclic_poisson with"
        f" cycle_length {bands} or more fits)"
    )
    _validate.fail(self.options[0] if self.options else "noise", rule, bands)
