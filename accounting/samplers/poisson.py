"""The sampler "poisson": each example enters each batch by its own coin.

Source: Abadi et al. 2016 (1607.00133); Mironov, Talwar and Zhang 2019
(1908.10530), equation 9, for Renyi divergences.

>>> from accounting.mechanism import Mechanism
>>> run = Mechanism(noise_multiplier=1.0, sampling_prob=0.1, num_steps=5)
>>> run.sampler.term(run)
(SampledGaussian(noise=1.0, sampling_prob=0.1, replace=False), 5)
"""

import math
from typing import TYPE_CHECKING

import numpy as np

from accounting.numerics import rdp, terms
from accounting.samplers.sampler import Sampler, without_sampling

if TYPE_CHECKING:
  import dp_accounting

  from accounting.mechanism import Mechanism


class Poisson(Sampler):
  """See `Sampler`."""

  name = "poisson"
  sentence = (
      "every {unit} enters every batch independently, with probability {probs}"
  )
  fields = ("batch_size_schedule",)
  independent = True
  batches = "poisson"
  least_sampling_prob = 1e-12

  def analyses(self, run: "Mechanism") -> tuple[str, ...]:
    """See `Sampler`."""
    replaced = run.neighboring_relation == "replace_one"
    if replaced and any(phase.sampling_prob < 1 for phase in run.phases):
      return ("pld",)
    return ("pld", "rdp")

  def event(
      self, run: "Mechanism", *, misses_replacement: bool
  ) -> "dp_accounting.DpEvent":
    """See `Sampler`."""
    import dp_accounting as dp

    if run.sampling_prob == 1:
      return without_sampling(run, misses_replacement=misses_replacement)
    step = dp.PoissonSampledDpEvent(
        run.sampling_prob, dp.GaussianDpEvent(run.noise_multiplier)
    )
    return dp.SelfComposedDpEvent(step, run.num_steps)

  def term(self, run: "Mechanism") -> tuple[terms.Term, int]:
    """See `Sampler`."""
    if run.sampling_prob == 1:
      return terms.without_sampling(run)
    replace = run.neighboring_relation == "replace_one"
    step = terms.SampledGaussian(
        run.noise_multiplier, run.sampling_prob, replace
    )
    return step, run.num_steps

  def divergences(self, step: "Mechanism", orders: np.ndarray) -> np.ndarray:
    """See `Sampler`; exact at whole orders."""
    found = np.empty(len(orders))
    summed = (orders == np.rint(orders)) & (step.sampling_prob < 1)
    found[summed] = rdp.poisson_sampled(step, orders[summed])
    found[~summed] = rdp.by_dp_accounting(step, orders[~summed])
    return found

  def divergence_floor(self, step: "Mechanism") -> float:
    """See `Sampler`.

    At order 2 the sum has two terms, and is exact; no higher order is lower.
    """
    noise = step.noise_multiplier
    if step.sampling_prob == 1 and step.neighboring_relation == "replace_one":
      noise /= 2
    exponent = noise**-2
    if exponent >= 700:
      return 0.0
    # The chi-square divergence of one step.
    return math.log1p(step.sampling_prob**2 * math.expm1(exponent))

  def user_terms(
      self, run: "Mechanism", *, count: int
  ) -> tuple[tuple[terms.Term, int], ...] | None:
    """See `Sampler`; each of the examples is sampled by itself."""
    if all(phase.sampling_prob == 1 for phase in run.phases):
      return None
    return terms.user_terms_of(run, examples_per_user=count)
