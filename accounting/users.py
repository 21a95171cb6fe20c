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
import functools
import math

from accounting import _pld, _validate
from accounting.epsilon import check_delta, evaluate, vacuous
from accounting.epsilon import warn as _warn
from accounting.mechanism import Mechanism

MAX_EXAMPLES_PER_USER = 100
_RELATIONS = ("add_or_remove_one", "replace_special")
_SAMPLINGS = ("poisson", "deterministic")
# Bins of one step, by the number of terms: building takes a second or two.
_STEP_BINS = 20_000
_MAX_STEP_TERMS = 1_500_000
# Less than this is nothing beside the rounding of a double.
_DUST = 1e-40


def user_epsilon(
    mechanism: Mechanism, *, examples_per_user: int, delta: float
) -> float:
  """Returns epsilon for adding, removing or blanking all of a user's examples.

  Args:
    mechanism: The run, with "poisson" or "deterministic" sampling.
    examples_per_user: Most examples that any user has, from 1 to 100.
    delta: The delta of the guarantee, above 1e-13.

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

  Source: Ganesh 2024 (2310.15526), by dp-accounting's mixture of Gaussians.
  """
  delta = check_delta(mechanism, delta)
  if delta <= _pld.MIN_DELTA:
    _validate.fail("delta", f"above {_pld.MIN_DELTA:g} for users", delta)
  count = _validate.integer("examples_per_user", examples_per_user)
  if count > MAX_EXAMPLES_PER_USER:
    rule = f"at most {MAX_EXAMPLES_PER_USER}"
    _validate.fail("examples_per_user", rule, count)
  _validate.choice("sampling", mechanism.sampling, options=_SAMPLINGS)
  _validate.choice(
      "neighboring_relation",
      mechanism.neighboring_relation,
      options=_RELATIONS,
  )
  value = _epsilon(mechanism, count, delta)
  _warn(vacuous(value))
  return value


def _epsilon(mechanism: Mechanism, count: int, delta: float) -> float:
  unsampled = all(phase.sampling_prob == 1 for phase in mechanism.phases)
  fixed = mechanism.sampling == "deterministic" or unsampled
  if count == 1 or fixed:
    # All of them in the batch at once: one example of `count` clip norms.
    noise = mechanism.noise_multiplier / count
    merged = dataclasses.replace(mechanism, noise_multiplier=noise)
    return evaluate(merged, delta=delta, accountant="pld")[0]
  interval = _interval(mechanism, count)
  if math.isinf(interval):
    return math.inf
  total = None
  for phase in mechanism.phases:
    q, noise = phase.sampling_prob, phase.noise_multiplier
    pld = _built(noise, q, count, interval).self_compose(phase.num_steps)
    total = pld if total is None else total.compose(pld)
  return _pld.read(total, interval).epsilon(delta)


@functools.lru_cache(maxsize=8)
def _built(noise: float, sampling_prob: float, count: int, interval: float):
  """Discretises one step: i of the user's examples with binomial weight."""
  from accounting import _discretise

  weights = _binomial(count, sampling_prob)
  if sampling_prob == 1:  # A phase without sampling, among others.
    return _discretise.gaussian(
        noise=noise / count, sampling_prob=1.0, interval=interval
    )
  return _discretise.mixture(
      noise=noise,
      sensitivities=[float(i) for i in range(len(weights))],
      weights=weights,
      interval=interval,
  )


def _binomial(count: int, prob: float) -> list[float]:
  """Binomial probabilities of 0 to `count`, without the dust at the top."""
  from scipy import stats

  weights = [float(stats.binom.pmf(i, count, prob)) for i in range(count + 1)]
  while weights[-1] < _DUST:
    weights.pop()
  # dp-accounting wants a sum of 1; the rest is rounding and dust.
  weights[weights.index(max(weights))] += 1 - math.fsum(weights)
  return weights


def _interval(mechanism: Mechanism, count: int) -> float:
  """Chooses the width of a bin: fine where that is cheap, and never blurred."""
  found = [_wanted(phase, count) for phase in mechanism.phases]
  wanted = max(
      min(fine for fine, _, _ in found), max(least for _, least, _ in found)
  )
  return _pld.fit_interval(wanted, [loss for _, _, loss in found])


def _wanted(phase: Mechanism, count: int):
  """Returns the width that a phase asks for, the least, and its loss."""
  q, noise = phase.sampling_prob, phase.noise_multiplier
  # The mean of the mixture moves by q * count clip norms.
  deviation = q * count / noise
  weights = _binomial(count, q)
  largest = max(
      i * (0.5 * i + 10 * noise) / noise**2 + math.log(w)
      for i, w in enumerate(weights)
      if w > 0
  )
  fine = max(
      min(1e-4, deviation / 60),
      min(2 * largest / _STEP_BINS, deviation / 60),
  )
  least = 2 * largest * len(weights) / _MAX_STEP_TERMS
  loss = _pld.Composition(deviation, largest, phase.num_steps)
  return fine, least, loss
