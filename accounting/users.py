"""Protecting a person who contributed several examples.

Epsilon protects one example. A user with k of them is protected less: how many
of the k fall into a batch is random, and the sum then moves by that many clip
norms. That is a mixture of Gaussians, which can be accounted for exactly; the
usual lemma for groups multiplies epsilon by k, and delta by far more. Other
releases move k times as far. Invariant: the bound holds whatever the k examples
are, also k equal ones.

>>> from accounting.mechanism import Mechanism
>>> run = Mechanism(noise_multiplier=8.0, sampling_prob=1.0, num_steps=4)
>>> twice = user_epsilon(run, examples_per_user=2, delta=1e-5)
>>> round(twice, 3)  # As one example under half the noise.
1.993
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from accounting import _validate, accountants, samplers
from accounting.composition import AnyMechanism, Composition
from accounting.disjoint import Disjoint
from accounting.epsilons import check_delta, check_supported, evaluate, vacuous
from accounting.epsilons import warn as _warn
from accounting.mechanism import Mechanism
from accounting.numerics import limits, pld

_RELATIONS = ("add_or_remove_one", "replace_special")


def user_epsilon(
    mechanism: AnyMechanism, *, examples_per_user: int, delta: float
) -> float:
  """Returns epsilon for adding, removing or blanking all of a user's examples.

  Args:
    mechanism: The run, with "poisson" or "deterministic" sampling, or a
      `Composition` of such runs and other releases.
    examples_per_user: Most examples that any user has.
    delta: The delta of the guarantee, of at least 1e-30.

  Returns:
    Epsilon, by PLD.

  Raises:
    ValueError: If an argument breaks its rule, or no analysis is known for
      the sampler and relation.

  Guarantee:
    The run is (epsilon, delta)-private for data sets that differ in all the
    examples of one user. Each example is clipped by itself and, under
    "poisson", sampled by itself. Under "deterministic" all of a user's
    examples may be in one batch. A sensitivity is multiplied by the number of
    examples. A user's examples may be in several parts of data that are
    disjoint by example: all parts are then composed.

  Source: Ganesh 2024 (2310.15526), by a mixture of Gaussians.
  """
  delta = check_delta(mechanism, delta)
  if delta < pld.MIN_DELTA:
    _validate.fail("delta", f"at least {pld.MIN_DELTA:g} for users", delta)
  count = check_count(examples_per_user, accountant=accountants.TIGHTEST)
  check_supported(mechanism, accountant=accountants.TIGHTEST)
  value = evaluate(
      grouped(mechanism, count), delta=delta, accountant=accountants.TIGHTEST
  ).epsilon
  _warn(vacuous(value))
  return value


def user_epsilons(
    mechanism: AnyMechanism, *, examples_per_user: Sequence[int], delta: float
) -> list[float]:
  """Returns `user_epsilon` of several numbers of examples.

  Args:
    mechanism: The run or composition; see `user_epsilon`.
    examples_per_user: Numbers of examples.
    delta: The delta of the guarantee.

  Raises:
    ValueError: As `user_epsilon` does.
  """
  return [
      user_epsilon(mechanism, examples_per_user=count, delta=delta)
      for count in examples_per_user
  ]


def check_count(count: Any, *, accountant: str) -> int:
  """Returns a number of examples of a user, checked.

  Args:
    count: Number of examples.
    accountant: Name of the accountant.

  Raises:
    ValueError: If it is none, or is above 1 and the accountant has no analysis.
  """
  count = _validate.integer("examples_per_user", count)
  if count > 1 and not accountants.get(accountant).accounts_for_users:
    _validate.fail(
        "accountant", f"{accountants.TIGHTEST} for users", accountant
    )
  return count


@dataclasses.dataclass(frozen=True)
class _Sampled:
  """A kind of step of a run, for a user; see `numerics.PartLike`."""

  kind: Any
  count: int
  is_hopeless: bool
  analyses = (accountants.TIGHTEST,)
  min_delta = pld.MIN_DELTA
  failure = 0.0
  is_exact = True

  @property
  def num_steps(self):
    return self.count

  def term(self):
    return self.kind, self.count


@dataclasses.dataclass(frozen=True)
class Group:
  """What is released, as it protects all of a user's examples at once.

  Attributes:
    parts: Pairs of what accountants read, and how often it is released.
    described: Text for a message.
  """

  parts: tuple[tuple[Any, int], ...]
  described: str

  @property
  def alternatives(self) -> tuple["Group", ...]:
    """The group itself: its examples may be in all parts of disjoint data."""
    return (self,)


def grouped(mechanism: AnyMechanism, count: int) -> Any:
  """Returns what a user with several examples pays for.

  Args:
    mechanism: Mechanism or composition.
    count: Number of the user's examples.

  Raises:
    ValueError: If no analysis is known for a sampler, or for the relation.
  """
  if count == 1:
    return mechanism
  _validate.choice(
      "neighboring_relation",
      mechanism.neighboring_relation,
      options=_RELATIONS,
  )
  return Group(
      parts=tuple(_parts(mechanism, count)), described=mechanism.described
  )


def _parts(mechanism: AnyMechanism, count: int):
  """Yields pairs of what accountants read, and how often it is released."""
  if isinstance(mechanism, Composition):
    for each, times in mechanism.releases:
      yield from ((part, times * k) for part, k in _parts(each, count))
  elif isinstance(mechanism, Disjoint):
    for _, part in mechanism.of:
      yield from _parts(part, count)
  elif isinstance(mechanism, Mechanism):
    yield from _parts_of_run(mechanism, count)
  else:
    yield from mechanism.of_group(count).parts


def _parts_of_run(run: Mechanism, count: int):
  known = [
      name for name in samplers.names() if samplers.get(name).has_user_terms
  ]
  _validate.choice("sampling", run.sampling, options=known)
  terms = run.sampler.user_terms(run, count=count)
  if terms is None:
    # All of them in the batch at once: one example of `count` clip norms.
    noise = run.noise_multiplier / count
    yield from dataclasses.replace(run, noise_multiplier=noise).parts
    return
  hopeless = run.noise_multiplier / count < limits.MIN_NOISE
  for kind, times in terms:
    yield _Sampled(kind, times, hopeless), 1
