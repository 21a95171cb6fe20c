"""The way back: the noise, steps or batch size that a target epsilon allows.

The target may be for the run alone, or for all that was released: then `others`
holds the other releases. It may be for people with several examples too.

Invariant: `accounting.epsilon` of what is returned never exceeds the target.
Every answer is checked by evaluating that very function at the rounded result;
coarse grids and guesses only decide where to look.

>>> from accounting.epsilons import epsilon as epsilon_of
>>> plan = Mechanism(noise_multiplier=1.0, sampling_prob=0.01, num_steps=1000)
>>> run = calibrate_noise(plan, epsilon=2.0, delta=1e-5)
>>> 0.999 * 2.0 <= epsilon_of(run, delta=1e-5) <= 2.0
True
"""

import dataclasses
import math
from collections.abc import Callable
from typing import cast

from accounting import _validate, claims, users
from accounting.composition import (
    AnyMechanism,
    Composition,
    check_single,
    unit_of,
)
from accounting.epsilons import check_delta, check_supported, evaluate, vacuous
from accounting.epsilons import warn as _warn
from accounting.mechanism import Mechanism
from accounting.numerics import search

# Outside this range a noise multiplier is a mistake, and arithmetic fails.
MIN_NOISE = 1e-2
MAX_NOISE = 1e8
MAX_STEPS = 10**8
_DIGITS = 6
_COARSENING = 5.0
# Half of the 0.999 promised is left for rounding the noise up.
_RTOL = 5e-4


def calibrate_noise(
    mechanism: Mechanism,
    *,
    epsilon: float,
    delta: float,
    accountant: str = "pld",
    others: AnyMechanism | None = None,
    examples_per_user: int = 1,
) -> Mechanism:
  """Returns the run with the smallest noise that meets a target epsilon.

  Args:
    mechanism: The run; its own noise multiplier is not used.
    epsilon: Target epsilon, above 0.
    delta: Delta of the guarantee, in (0, 1).
    accountant: Name of the accountant: "pld" or "rdp".
    others: Other releases of the same data: the target is for all together.
    examples_per_user: Number of examples of a person that epsilon protects.

  Returns:
    The mechanism with its noise multiplier, rounded up to six digits.

  Raises:
    ValueError: If an argument breaks its rule, see `accounting.epsilon`, or no
      noise up to 1e8 is enough.

  Guarantee:
    `accounting.epsilon` of the result is at most the target, and at least
    0.999 of it unless it jumps over that range (RDP's falls to 0 at once) or
    the noise multiplier is 0.01, the least that is considered.
  """
  check_single(mechanism, caller="calibrate_noise")
  goal = Goal.checked(
      mechanism, epsilon, delta, accountant, others, examples_per_user
  )
  target = goal.epsilon

  def at(noise: float) -> Mechanism:
    return dataclasses.replace(mechanism, noise_multiplier=noise)

  fn, coarse = goal.epsilon_of(at), goal.epsilon_of(at, coarse=True)
  bounds = {"target": target, "low": MIN_NOISE, "high": MAX_NOISE}
  guess = _clt_noise(mechanism, epsilon=target, delta=delta)
  near = search.smallest(coarse, guess=guess, rtol=_RTOL, **bounds)
  noise = search.smallest(fn, guess=near or MAX_NOISE, rtol=_RTOL, **bounds)
  if noise is None:
    rule = f"within reach of a noise multiplier of {MAX_NOISE:g}"
    _validate.fail("epsilon", rule, epsilon)
  noise = round_up(noise)
  while fn(noise) > target:  # The grid can differ by an ulp on the way up.
    noise = round_up(noise * (1 + 10.0**-_DIGITS))
  result = at(noise)
  goal.say(result)
  return result


def calibrate_num_steps(
    mechanism: Mechanism,
    *,
    epsilon: float,
    delta: float,
    accountant: str = "pld",
    others: AnyMechanism | None = None,
    examples_per_user: int = 1,
) -> Mechanism:
  """Returns the run with the most steps that fit a target epsilon.

  Args:
    mechanism: The run; its own number of steps is not used. A schedule's
      phases stay at their steps; those that would begin after the last step
      are left out, and the last one goes on.
    epsilon: Target epsilon, above 0.
    delta: Delta of the guarantee, in (0, 1).
    accountant: Name of the accountant: "pld" or "rdp".
    others: Other releases of the same data: the target is for all together.
    examples_per_user: Number of examples of a person that epsilon protects.

  Returns:
    The mechanism with its number of steps. One step more would exceed the
    target.

  Raises:
    ValueError: If an argument breaks its rule, see `accounting.epsilon`; if not
      even one step fits, or 1e8 do.
  """
  check_single(mechanism, caller="calibrate_num_steps")
  goal = Goal.checked(
      mechanism, epsilon, delta, accountant, others, examples_per_user
  )

  def at(num_steps: int) -> Mechanism:
    return mechanism.with_num_steps(num_steps)

  steps = goal.largest(at, high=MAX_STEPS)
  if steps is None:
    rule = f"at least the epsilon of one step ({goal.shown(at(1))})"
    _validate.fail("epsilon", rule, epsilon)
  if steps == MAX_STEPS:
    rule = f"exceeded within {MAX_STEPS} steps"
    _validate.fail("epsilon", rule, epsilon)
  goal.say(at(steps))
  return at(steps)


def calibrate_batch_size(
    mechanism: Mechanism,
    *,
    epsilon: float,
    delta: float,
    accountant: str = "pld",
    others: AnyMechanism | None = None,
    examples_per_user: int = 1,
) -> Mechanism:
  """Returns the run with the largest expected batch that fits a target.

  Args:
    mechanism: The run, with `num_examples`; its own `sampling_prob` is not
      used. A schedule's factors are kept.
    epsilon: Target epsilon, above 0.
    delta: Delta of the guarantee, in (0, 1).
    accountant: Name of the accountant: "pld" or "rdp".
    others: Other releases of the same data: the target is for all together.
    examples_per_user: Number of examples of a person that epsilon protects.

  Returns:
    The mechanism whose expected batch size, before any schedule's factor, is a
    whole number of examples, and no batch larger than the data set. One example
    more would exceed the target or the data set.

  Raises:
    ValueError: If an argument breaks its rule, see `accounting.epsilon`; if
      `num_examples` is None, or not even an expected batch of one example fits.
  """
  check_single(mechanism, caller="calibrate_batch_size")
  goal = Goal.checked(
      mechanism, epsilon, delta, accountant, others, examples_per_user
  )
  if mechanism.num_examples is None:
    _validate.fail("num_examples", "given to choose a batch size", None)
  if not mechanism.sampler.any_batch_size:
    rule = "one that takes any batch size, to search for one"
    _validate.fail("sampling", rule, mechanism.sampling)
  total: int = mechanism.num_examples

  def at(size: int) -> Mechanism:
    return dataclasses.replace(mechanism, sampling_prob=size / total)

  check_supported(at(1), accountant=accountant)  # The placeholder may be 1.
  guess = round(mechanism.sampling_prob * total)
  high = _largest_batch_size(mechanism, total)
  size = goal.largest(at, high=high, guess=guess)
  if size is None:
    rule = f"at least the epsilon of a batch of one ({goal.shown(at(1))})"
    _validate.fail("epsilon", rule, epsilon)
  goal.say(at(size))
  return at(size)


def _largest_batch_size(mechanism: Mechanism, total: int) -> int:
  """The largest expected batch size that a schedule leaves room for."""
  factors = [factor for _, factor in mechanism.batch_size_schedule]
  largest = max(factors, default=1.0)
  largest /= mechanism.sampler.largest_sampling_prob(mechanism)
  size = min(total, math.floor(total / largest * (1 + 1e-12)))
  if size and size / total * largest > 1:  # By an ulp.
    size -= 1
  if not size:
    rule = f"such that a batch of one is at most num_examples ({total})"
    _validate.fail("batch_size_schedule", rule, mechanism.batch_size_schedule)
  return size


@dataclasses.dataclass(frozen=True, kw_only=True)
class Goal:
  """What a search must meet: an epsilon, of what, and for whom.

  Attributes:
    epsilon: Target epsilon.
    delta: Delta of the guarantee.
    accountant: Name of the accountant.
    others: Other releases of the same data, or None.
    examples_per_user: Number of examples of a person that epsilon protects.
  """

  epsilon: float
  delta: float
  accountant: str
  others: AnyMechanism | None
  examples_per_user: int

  @classmethod
  def checked(
      cls, mechanism, epsilon, delta, accountant, others, examples_per_user
  ) -> "Goal":
    """Returns the goal, each argument checked.

    Args:
      mechanism: Release that is chosen.
      epsilon: Target epsilon; see `Goal` for all below.
      delta: Delta of the guarantee.
      accountant: Name of the accountant.
      others: Other releases.
      examples_per_user: Number of examples.

    Raises:
      ValueError: If one breaks its rule, or the other releases alone exceed it.
    """
    target = _validate.real("epsilon", epsilon, low=0)
    check_delta(mechanism, delta)
    check_supported(mechanism, accountant=accountant)
    count = users.check_count(examples_per_user, accountant=accountant)
    goal = cls(
        epsilon=target,
        delta=delta,
        accountant=accountant,
        others=others,
        examples_per_user=count,
    )
    if others is not None:
      check_supported(others, accountant=accountant)
      spent = goal._evaluate(users.grouped(others, count), 1.0)
      if spent.epsilon > target:
        least = claims.at_most_short(spent.epsilon)
        rule = f"at least the epsilon of the other releases alone ({least})"
        _validate.fail("epsilon", rule, epsilon)
    return goal

  def _evaluate(self, run, coarsening: float):
    return evaluate(
        run,
        delta=self.delta,
        accountant=self.accountant,
        coarsening=coarsening,
    )

  def evaluate(self, mechanism: AnyMechanism, *, coarsening: float = 1.0):
    """Returns the epsilon of all, for whom it is meant.

    Args:
      mechanism: Release that is chosen.
      coarsening: Factor of the width of PLD's bins.
    """
    whole = mechanism
    if self.others is not None:
      whole = Composition([self.others, mechanism], unit=unit_of(self.others))
    return self._evaluate(
        users.grouped(whole, self.examples_per_user), coarsening
    )

  def epsilon_of(self, at: Callable, *, coarse: bool = False) -> Callable:
    """Returns the function that is searched: a number to an epsilon.

    Args:
      at: Function from a number to a mechanism.
      coarse: Whether a quick upper bound will do.
    """
    coarsening = _COARSENING if coarse else 1.0
    return lambda value: self.evaluate(at(value), coarsening=coarsening).epsilon

  def largest(self, at: Callable, *, high: int, guess: int = 100) -> int | None:
    """Searches on a coarse grid, then decides on the fine one.

    Args:
      at: Function from an integer to a mechanism.
      high: Largest integer considered.
      guess: Integer to start at.

    Returns:
      The integer, or None if not even 1 meets the goal.
    """
    found = None
    for coarse in (True, False):
      fn = self.epsilon_of(at, coarse=coarse)
      found = search.largest_integer(
          fn, target=self.epsilon, guess=guess, high=high
      )
      guess = found or 1
    return found

  def shown(self, mechanism: AnyMechanism) -> str:
    """Returns the epsilon of all, for a message.

    Args:
      mechanism: Release that is chosen.
    """
    return claims.at_most_short(self.evaluate(mechanism).epsilon)

  def say(self, mechanism: AnyMechanism) -> None:
    """Warns of what there is to say about the result.

    Args:
      mechanism: Release that was chosen.
    """
    found = self.evaluate(mechanism)
    _warn([*found.notes, *vacuous(found.epsilon)])


def round_up(value: float) -> float:
  """Returns a number rounded up to six significant digits.

  Args:
    value: Number above 0.
  """
  places = _DIGITS - 1 - math.floor(math.log10(value))
  rounded = round(value, places)
  if rounded < value:
    rounded = round(rounded + 10.0**-places, places)
  return rounded


def _clt_noise(mechanism: Mechanism, *, epsilon: float, delta: float) -> float:
  """Guesses the noise by the central limit of Gaussian privacy.

  Source: Bu, Dong, Long and Su 2020 (1911.11607): mu of the whole run is
    q sqrt(T (exp(1 / s^2) - 1)), and q^2 T adds up over phases.
  """
  from scipy import optimize, special

  epsilon = min(epsilon, 1e4)  # A guess need not be good beyond.

  def excess(log_mu: float) -> float:
    mu = math.exp(log_mu)
    near = special.ndtr(-epsilon / mu + mu / 2)
    # exp(epsilon) * Phi(x) in logarithms: epsilon may be thousands.
    far = math.exp(epsilon + special.log_ndtr(-epsilon / mu - mu / 2))
    return near - far - delta

  ends = (-30.0, 10.0)
  if excess(ends[0]) >= 0:
    mu = math.exp(ends[0])
  elif excess(ends[1]) <= 0:
    mu = math.exp(ends[1])
  else:
    root = optimize.brentq(excess, *ends, xtol=1e-3)
    mu = math.exp(cast(float, root))  # It gives a pair only if asked for one.
  total = sum(phase.sampler.clt_weight(phase) for phase in mechanism.phases)
  if mechanism.neighboring_relation == "replace_one":
    mu /= 2
  return 1 / math.sqrt(math.log1p(mu**2 / total))
