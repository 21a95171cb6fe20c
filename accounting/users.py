"""Protecting a person who contributed several examples.

Epsilon protects one example. A user with k of them is protected less: how many
of the k fall into a batch is random, and the sum then moves by that many clip
norms. That is a mixture of Gaussians, which can be accounted for exactly; the
usual lemma for groups multiplies epsilon by k, and delta by far more.
Invariant: the bound holds whatever the k examples are, also k equal ones.

>>> from accounting.mechanism import Mechanism
>>> run = Mechanism(noise_multiplier=8.0, sampling_prob=1.0, num_steps=4)
>>> twice = user_epsilon(run, examples_per_user=2, delta=1e-5)
>>> round(twice, 3)  # As one example under half the noise.
1.993
"""

import dataclasses

from accounting import _validate, accountants, samplers
from accounting.composition import check_single
from accounting.epsilons import check_delta, evaluate, vacuous
from accounting.epsilons import warn as _warn
from accounting.mechanism import Mechanism
from accounting.numerics import pld

MAX_EXAMPLES_PER_USER = 100
_RELATIONS = ("add_or_remove_one", "replace_special")


def user_epsilon(
    mechanism: Mechanism, *, examples_per_user: int, delta: float
) -> float:
  """Returns epsilon for adding, removing or blanking all of a user's examples.

  Args:
    mechanism: The run, with "poisson" or "deterministic" sampling.
    examples_per_user: Most examples that any user has, from 1 to 100.
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
    examples may be in one batch.

  Source: Ganesh 2024 (2310.15526), by a mixture of Gaussians.
  """
  check_single(mechanism, caller="user_epsilon")
  delta = check_delta(mechanism, delta)
  if delta < pld.MIN_DELTA:
    _validate.fail("delta", f"at least {pld.MIN_DELTA:g} for users", delta)
  count = _validate.integer("examples_per_user", examples_per_user)
  if count > MAX_EXAMPLES_PER_USER:
    rule = f"at most {MAX_EXAMPLES_PER_USER}"
    _validate.fail("examples_per_user", rule, count)
  known = [
      name for name in samplers.names() if samplers.get(name).has_user_terms
  ]
  _validate.choice("sampling", mechanism.sampling, options=known)
  _validate.choice(
      "neighboring_relation",
      mechanism.neighboring_relation,
      options=_RELATIONS,
  )
  value = _epsilon(mechanism, count, delta)
  _warn(vacuous(value))
  return value


def _epsilon(mechanism: Mechanism, count: int, delta: float) -> float:
  terms = mechanism.sampler.user_terms(mechanism, count=count)
  if count == 1 or terms is None:
    # All of them in the batch at once: one example of `count` clip norms.
    noise = mechanism.noise_multiplier / count
    merged = dataclasses.replace(mechanism, noise_multiplier=noise)
    return evaluate(
        merged, delta=delta, accountant=accountants.TIGHTEST
    ).epsilon
  return pld.compose(terms, deltas=(delta,)).epsilon(delta)
