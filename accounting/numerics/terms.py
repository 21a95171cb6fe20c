"""The kinds of steps whose losses are known, each as a term of a sum.

A term gives its loss on a grid in each direction, and how wide a bin may be to
begin with. Invariant: what is on the grid is at least as easy to tell apart
as the step.

>>> term = SampledGaussian(noise=2.0, sampling_prob=0.1, replace=False)
>>> remove, add = term.steps(1e-3, tail=1e-20)
>>> print(f"{float(np.sum(add.probs)):.3f}")
1.000
"""

import dataclasses
import functools
import math

import numpy as np

from accounting.numerics import (
    allocation,
    atoms,
    binomial,
    curves,
    discretise,
    limits,
    substitution,
)
from accounting.numerics.mechanism_like import MechanismLike, RunLike

# Widths of a bin: see `SampledGaussian.interval`.
_DEFAULT = 1e-4
_STEP_BINS = 50_000
# How many probabilities of a component a step may need.
_MAX_MASSES = 1_500_000
# dp-accounting leaves out noise beyond this many deviations: exp(-50).
_TAIL_DEVIATIONS = 9.8


@dataclasses.dataclass(frozen=True)
class SampledGaussian:
  """One step of DP-SGD with Poisson batches, or k of them without sampling.

  Attributes:
    noise: Noise multiplier.
    sampling_prob: Sampling probability, in (0, 1].
    replace: Whether an example is replaced, not added, removed or blanked.
  """

  noise: float
  sampling_prob: float
  replace: bool

  @property
  def max_bins(self) -> int:
    """How many bins a step may have."""
    return 2**23

  def steps(
      self, interval: float, *, tail: float
  ) -> tuple[discretise.Step, ...]:
    """Returns the loss in each direction; one where both are the same.

    Args:
      interval: Width of a bin.
      tail: Probability left out at either end.
    """
    return _both(
        self._pair, interval, tail, symmetric=self.replace or self.is_plain
    )

  def span(self, tail: float) -> tuple[float, float]:
    """Returns the least and largest loss on the grid.

    Args:
      tail: Probability left out at either end.
    """
    return self._pair.span(tail)

  def interval(self, tail: float) -> float:
    """Returns the width of a bin to begin with.

    A width of h adds about h**2 / 6 to the variance of a step's loss, so a
    fourteenth of its deviation adds 0.05% to epsilon. Narrower bins than that
    are chosen while they are few. More noise never widens them, and more steps
    or a higher probability never narrow them, so the choice keeps epsilon
    monotone.

    Args:
      tail: Probability left out at either end.
    """
    if self.is_plain:
      return self.deviation / 200  # Composed only once: bins can be few.
    low, high = self.span(tail)
    return _width(self.deviation, 0.5 * (high - low))

  @property
  def is_plain(self) -> bool:
    """Whether every example is in every batch."""
    return self.sampling_prob == 1

  @property
  def deviation(self) -> float:
    """Root of the chi-square divergence of one step, capped at exp(250)."""
    exponent = min(self.noise**-2, 500.0)
    if self.is_plain:
      return (2 if self.replace else 1) / self.noise
    if self.replace:
      return self.sampling_prob * math.sqrt(4 * math.sinh(exponent))
    return self.sampling_prob * math.sqrt(math.expm1(exponent))

  @property
  def _pair(self) -> discretise.Pair:
    return discretise.sampled_gaussian(
        noise=self.noise,
        sampling_prob=self.sampling_prob,
        replace=self.replace,
    )


@dataclasses.dataclass(frozen=True)
class SampledUser:
  """One step of DP-SGD for a user with several examples.

  Attributes:
    noise: Noise multiplier.
    sampling_prob: Sampling probability of each example, below 1.
    count: Number of the user's examples.
  """

  noise: float
  sampling_prob: float
  count: int

  @property
  def max_bins(self) -> int:
    """How many bins a step may have."""
    return _MAX_MASSES // len(
        binomial.numbers_in_batch(self.count, self.sampling_prob)[0]
    )

  def steps(
      self, interval: float, *, tail: float
  ) -> tuple[discretise.Step, ...]:
    """Returns the loss in each direction.

    Args:
      interval: Width of a bin.
      tail: Probability left out at either end.
    """
    return _both(self._pair, interval, tail, symmetric=False)

  def span(self, tail: float) -> tuple[float, float]:
    """Returns the least and largest loss on the grid.

    Args:
      tail: Probability left out at either end.
    """
    return self._pair.span(tail)

  def interval(self, tail: float) -> float:
    """Returns the width of a bin to begin with.

    Args:
      tail: Probability left out at either end.
    """
    low, high = self.span(tail)
    # The mean of the mixture moves by q x count clip norms.
    deviation = self.sampling_prob * self.count / self.noise
    return _width(deviation / 4, 0.5 * (high - low))

  @property
  def _pair(self) -> discretise.Pair:
    numbers, weights = binomial.numbers_in_batch(self.count, self.sampling_prob)
    return discretise.mixture(
        noise=self.noise, sensitivities=numbers, weights=weights
    )


@dataclasses.dataclass(frozen=True)
class TruncatedGaussian:
  """One step with Poisson batches of a limited size, by dp-accounting.

  Attributes:
    mechanism: The mechanism, of one step.
  """

  mechanism: MechanismLike

  @property
  def max_bins(self) -> int:
    """How many bins a step may have."""
    return 2**20

  def steps(
      self, interval: float, *, tail: float
  ) -> tuple[discretise.Step, ...]:
    """Returns the loss in each direction; one where both are the same.

    Args:
      interval: Width of a bin.
      tail: Probability left out at either end.
    """
    del tail  # dp-accounting's own.
    return _truncated(self.mechanism, interval)

  def span(self, tail: float) -> tuple[float, float]:
    """Returns the least and largest loss on the grid.

    Args:
      tail: Probability left out at either end.
    """
    del tail
    run, shift = self.mechanism, 4
    # A truncated batch can replace one example by another.
    loss = shift * (0.5 * shift + _TAIL_DEVIATIONS * run.noise_multiplier)
    loss /= run.noise_multiplier**2
    q = run.sampling_prob
    largest = float(np.logaddexp(math.log1p(-q), math.log(q) + loss))
    return -largest, largest

  def interval(self, tail: float) -> float:
    """Returns the width of a bin to begin with.

    Args:
      tail: Probability left out at either end.
    """
    run = self.mechanism
    like = SampledGaussian(
        run.noise_multiplier,
        run.sampling_prob,
        run.neighboring_relation == "replace_one",
    )
    return _width(like.deviation, self.span(tail)[1])


Term = (
    SampledGaussian
    | SampledUser
    | TruncatedGaussian
    | allocation.OneOfSteps
    | atoms.Atoms
    | curves.ZeroConcentrated
    | substitution.SubstitutedGaussian
)


def terms_of(run: RunLike) -> tuple[tuple[Term, int], ...]:
  """Splits a run into kinds of steps; their order makes no difference.

  Args:
    run: The run, or several on the same data.

  Returns:
    Each kind, and how often it is composed. Gaussian releases without sampling
    are together one, composed once; so are all zero-concentrated guarantees,
    whose rho add up.
  """
  times: dict[Term, int] = {}
  for part, repeats in run.parts:
    term, count = part.term()
    times[term] = times.get(term, 0) + count * repeats
  bounds = [
      (term, count)
      for term, count in times.items()
      if isinstance(term, curves.ZeroConcentrated)
  ]
  if bounds:
    rho = math.fsum(term.rho * count for term, count in bounds)
    times = {t: k for t, k in times.items() if (t, k) not in bounds}
    times[curves.ZeroConcentrated(rho)] = 1
  plain = {
      term: count
      for term, count in times.items()
      if isinstance(term, SampledGaussian) and term.is_plain
  }
  found = [(term, k) for term, k in times.items() if term not in plain]
  return (*found, (_merged(plain), 1)) if plain else tuple(found)


def _merged(plain: dict[SampledGaussian, int]) -> SampledGaussian:
  """Returns the one Gaussian release that equals all of these.

  The squares of their mu, 1 / noise, add up; so k of one noise are one with
  noise over sqrt(k). A replaced example moves a sum twice as far.
  """
  if len({term.replace for term in plain}) > 1:
    halved: dict[SampledGaussian, int] = {}
    for term, k in plain.items():
      noise = term.noise / 2 if term.replace else term.noise
      term = SampledGaussian(noise, 1.0, False)
      halved[term] = halved.get(term, 0) + k
    plain = halved
  first = next(iter(plain))
  noise = first.noise / math.sqrt(
      math.fsum(k * (first.noise / t.noise) ** 2 for t, k in plain.items())
  )
  return dataclasses.replace(first, noise=noise)


def user_terms_of(
    mechanism: MechanismLike, *, examples_per_user: int
) -> tuple[tuple[Term, int], ...]:
  """Splits a run with "poisson" sampling into kinds of steps, for a user.

  Args:
    mechanism: The run.
    examples_per_user: Number of the user's examples.

  Returns:
    Each kind, and how often it is composed.
  """
  times: dict[Term, int] = {}
  for phase in mechanism.phases:
    phase = limits.tame(phase)
    noise, q = phase.noise_multiplier, phase.sampling_prob
    if q == 1:  # All of the user's examples at once.
      noise = noise / examples_per_user / math.sqrt(phase.num_steps)
      term, count = SampledGaussian(noise, 1.0, False), 1
    else:
      term, count = SampledUser(noise, q, examples_per_user), phase.num_steps
    times[term] = times.get(term, 0) + count
  return tuple(times.items())


def without_sampling(
    mechanism: MechanismLike,
) -> tuple[SampledGaussian, int]:
  """Returns a phase's steps, where no chance is counted on, and their number.

  They are as many as an example may take part in.

  Args:
    mechanism: Phase of the run.
  """
  replace = mechanism.neighboring_relation == "replace_one"
  step = SampledGaussian(mechanism.noise_multiplier, 1.0, replace)
  return step, mechanism.max_participations


def one_of_steps(*, noise: float, num_steps: int) -> Term:
  """Returns a round in which an example is in one step, drawn uniformly.

  Without the draw a round is one release, which is also what is accounted for
  where there is hardly any noise: the draw is then as good as revealed.

  Args:
    noise: Noise multiplier.
    num_steps: Number of steps of the round.
  """
  if num_steps == 1 or noise < allocation.MIN_NOISE:
    return SampledGaussian(noise, 1.0, False)
  return allocation.OneOfSteps(noise, num_steps)


def _width(deviation: float, largest: float) -> float:
  return max(
      min(_DEFAULT, deviation / 16),
      min(largest / _STEP_BINS, deviation / 14),
  )


def _both(pair, interval, tail, *, symmetric: bool):
  step = discretise.on_grid(pair, interval=interval, tail=tail)
  return (step,) if symmetric else (step, step.mirrored(interval))


@functools.lru_cache(maxsize=8)
def _truncated(step: MechanismLike, interval: float):
  import dp_accounting as dp
  from dp_accounting.pld import privacy_loss_distribution as pld

  assert step.num_examples is not None and step.max_batch_size is not None
  found = pld.from_truncated_subsampled_gaussian_mechanism(
      dataset_size=step.num_examples,
      sampling_probability=step.sampling_prob,
      truncated_batch_size=step.max_batch_size,
      noise_multiplier=step.noise_multiplier,
      value_discretization_interval=interval,
      neighboring_relation=dp.NeighboringRelation[
          step.neighboring_relation.upper()
      ],
  )
  # pylint: disable=protected-access
  one_sided = found._symmetric
  pmfs = [found._pmf_remove, *([] if one_sided else [found._pmf_add])]
  return tuple(_read(pmf.to_dense_pmf()) for pmf in pmfs)


def _read(pmf) -> discretise.Step:
  probs = np.maximum(pmf._probs, 0.0)
  mass = float(pmf._infinity_mass)
  return discretise.Step(int(pmf._lower_loss), probs, mass, mass)
