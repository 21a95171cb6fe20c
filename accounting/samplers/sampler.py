"""What a sampler is: all that depends on how the batches of a run are drawn.

One object holds the checks of a mechanism's fields, the event for
dp-accounting, the analyses, the words of a statement and, unless `jax_privacy`
draws the sampler by its name, the draw. Invariant: `analyses` names an
accountant only where its analysis of this sampler is proven; all else is
refused by name.

>>> from accounting import samplers
>>> samplers.get("fixed_without_replacement").fields
()
"""

import abc
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from accounting import _validate
from accounting.numerics import pld, rdp, terms

if TYPE_CHECKING:
  import dp_accounting

  from accounting.mechanism import Mechanism
  from accounting.numerics import simulation

# What a mechanism has of a field that its sampler does not use.
_UNUSED = {"batch_size_schedule": (), "max_batch_size": None}


class Option(NamedTuple):
  """A field of one sampler's own, given in `Mechanism.sampling_options`.

  Attributes:
    check: Function: `check(name, value)` returns the value as it is kept,
      hashable and of a type that JSON has, or raises the ValueError of
      `_validate`.
    parse: Function of the text of `dp-budget`'s flag of this name.
    help: Text for `dp-budget --help`.
    required: Whether it must be given; it is not filled in where it need not.
  """

  check: Callable[[str, Any], Any]
  parse: Callable[[str], Any]
  help: str
  required: bool = True


class Sampler(abc.ABC):
  """How the batches of a run are drawn, and what is known of it.

  A method gets the run, or a phase of it: a mechanism of one sampling
  probability. Those of accountants that `analyses` never names are not called.

  Attributes:
    name: Value of `Mechanism.sampling` and `--sampling`.
    sentence: Text of a statement's assumption on batches: "It assumes that
      ...". In braces: any of a statement's facts or of `options`; `probs`, the
      sampling probabilities; `steps_apart`, floor(1 / sampling_prob).
    fields: Those of "batch_size_schedule" and "max_batch_size" that it uses.
    options: Fields of its own, by name.
    needs_num_examples: Whether it draws from a set of a known size.
    amplifies: Whether the analyses count on chance. Where not, an example is in
      at most one of floor(1 / sampling_prob) steps in a row.
    independent: Whether an example's part in a batch depends on no other's.
    any_batch_size: Whether a search may try any expected batch size.
    spans_steps: Whether something is drawn once, for many steps.
    batches: The option of `--batches` that keeps what is assumed, or None.
    remedy: Text that names what has an analysis, for errors.
    least_sampling_prob: Least sampling probability; smaller ones are accounted
      for as this one.
    min_delta: Least delta that PLD can be asked about.
    order_grid: Largest Renyi order tried first, and the number from 64 on.
  """

  name: ClassVar[str]
  sentence: ClassVar[str]
  fields: ClassVar[tuple[str, ...]] = ()
  options: ClassVar[Mapping[str, Option]] = {}
  needs_num_examples: ClassVar[bool] = False
  amplifies: ClassVar[bool] = True
  independent: ClassVar[bool] = False
  any_batch_size: ClassVar[bool] = True
  spans_steps: ClassVar[bool] = False
  batches: ClassVar[str | None] = None
  remedy: ClassVar[str] = "accountant 'pld'"
  least_sampling_prob: float = 0.0
  min_delta: float = pld.MIN_DELTA
  order_grid: tuple[int, int] = (2**14, 70)

  def check(self, run: "Mechanism") -> None:
    """Checks a mechanism's fields together, each right by itself.

    Args:
      run: Mechanism of the run.

    Raises:
      ValueError: If one is missing, or is not used by this sampler.
    """
    for name, unused in _UNUSED.items():
      value = getattr(run, name)
      if name not in self.fields and value != unused:
        rule = f"{unused} for sampling {self.name!r}"
        _validate.fail(name, rule, value)
      # A schedule may always be left out: the batch size is then constant.
      if name in self.fields and value is None:
        _validate.fail(name, f"given for {self.name}", None)
    if self.needs_num_examples and run.num_examples is None:
      _validate.fail("num_examples", f"given for {self.name}", None)

  def checked_options(self, given: Any) -> tuple[tuple[str, Any], ...]:
    """Returns `Mechanism.sampling_options` as sorted pairs, each checked.

    Args:
      given: A mapping, or pairs, of names and values.

    Raises:
      ValueError: If it is none, one is missing, unknown, or breaks its rule.
    """
    try:
      values = dict(given)
    except (TypeError, ValueError):
      _validate.fail("sampling_options", "a mapping of names", given)
    for name in values:
      if name not in self.options:
        known = ", ".join(self.options)
        rule = f"a mapping of {f'names among {known}' if known else 'no names'}"
        _validate.fail("sampling_options", f"{rule} for {self.name!r}", name)
    for name, option in self.options.items():
      if name not in values:
        if option.required:
          _validate.fail(name, f"given for {self.name}", None)
        continue
      values[name] = option.check(name, values[name])
    return tuple(sorted(values.items()))

  def largest_sampling_prob(self, run: "Mechanism") -> float:
    """Returns the largest sampling probability that `check` lets pass.

    Args:
      run: Mechanism of the run.
    """
    del run
    return 1.0

  def steps_apart(self, run: "Mechanism") -> int:
    """Returns how far apart two steps of one example are at least.

    Whatever is drawn: chance is not counted on here.

    Args:
      run: Mechanism of the run.
    """
    del run
    return 1

  @abc.abstractmethod
  def analyses(self, run: "Mechanism") -> tuple[str, ...]:
    """Returns the names of the accountants with an analysis of the run.

    Args:
      run: Mechanism of the run.
    """

  @abc.abstractmethod
  def event(
      self, run: "Mechanism", *, misses_replacement: bool
  ) -> "dp_accounting.DpEvent":
    """Returns a phase as dp-accounting describes it; see `Mechanism.event`.

    Args:
      run: Phase of the run.
      misses_replacement: Whether who reads it overlooks that a replaced example
        moves a sum of Gaussians by two clip norms.
    """

  def batch_strategy(self, run: "Mechanism") -> Any:
    """Returns what draws the batches, in pure NumPy; None if the name does.

    It is a `jax_privacy.contracts.BatchStrategy`. For names in its own table,
    `jax_privacy.samplers` has the strategy, for mechanisms of any class.

    Args:
      run: Mechanism of the run.
    """
    del run
    return None

  def lower_bound(self, run: "Mechanism", *, delta: float) -> float | None:
    """Returns an epsilon below which the run is proven not to be private.

    None where no attack is computed, as for samplers with a tight bound.

    Args:
      run: Mechanism of the run.
      delta: Delta of the guarantee.
    """
    del run, delta
    return None

  def exact_pair(self, run: "Mechanism") -> "simulation.Allocation | None":
    """Returns what `accounting.monte_carlo_delta` draws; None without one.

    Args:
      run: Mechanism of the run.
    """
    del run
    return None

  # What PLD reads.

  def term(self, run: "Mechanism") -> tuple[terms.Term, int]:
    """Returns one step of a phase, and how often it is composed.

    Args:
      run: Phase of the run, within `numerics.limits`.

    Raises:
      NotImplementedError: If there is no analysis by PLD.
    """
    raise NotImplementedError(f"{self.name} has no loss distribution.")

  # What RDP reads.

  def divergences(self, step: "Mechanism", orders: np.ndarray) -> np.ndarray:
    """Returns the Renyi divergence of one step at each order, or NaN.

    Args:
      step: Phase of one step.
      orders: Renyi orders, shape [n].
    """
    return rdp.by_dp_accounting(step, orders)

  def divergence_floor(self, step: "Mechanism") -> float:
    """Returns a lower bound of the divergence at order 2 of one step.

    Args:
      step: Phase of one step.
    """
    del step
    return 0.0

  def compositions(self, run: "Mechanism", num_steps: int) -> int:
    """Returns how often one step's divergence adds up in a phase's steps.

    Args:
      run: Phase of the run.
      num_steps: Number of steps of the phase.
    """
    del run
    return num_steps

  # What searches and people with several examples need.

  def clt_weight(self, run: "Mechanism") -> float:
    """Returns a phase's mu**2, in units of the mu**2 of one step with q = 1.

    Args:
      run: Phase of the run.
    """
    return run.num_steps * max(run.sampling_prob, 1e-12) ** 2

  def user_terms(
      self, run: "Mechanism", *, count: int
  ) -> tuple[tuple[terms.Term, int], ...] | None:
    """Splits a run into kinds of steps, for a user of `count` examples.

    Args:
      run: Mechanism of the run.
      count: Number of the user's examples.

    Returns:
      Each kind, and how often it is composed; None if all of the user's
      examples may be in the same batches, which is one example of `count` clip
      norms.

    Raises:
      NotImplementedError: If there is no analysis of users.
    """
    raise NotImplementedError(f"{self.name} has no analysis of users.")

  @property
  def has_user_terms(self) -> bool:
    """Whether there is an analysis of users with several examples."""
    return type(self).user_terms is not Sampler.user_terms


def without_sampling(
    run: "Mechanism", *, misses_replacement: bool
) -> "dp_accounting.DpEvent":
  """Returns Gaussian releases without sampling as dp-accounting describes them.

  Args:
    run: Phase of the run.
    misses_replacement: Whether the reader overlooks that a replaced example
      moves a sum by two clip norms.
  """
  import dp_accounting as dp

  halve = misses_replacement and run.neighboring_relation == "replace_one"
  noise = run.noise_multiplier / 2 if halve else run.noise_multiplier
  return dp.SelfComposedDpEvent(
      dp.GaussianDpEvent(noise), run.max_participations
  )
